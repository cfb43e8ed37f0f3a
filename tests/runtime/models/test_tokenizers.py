"""Tokenizers as the original checkpoints have them: a SentencePiece `tokenizer.model` and nothing else."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece import SentencePieceProcessor

from tokenloom.nodes import load_model, render_chat
from tokenloom.runtime.errors import CheckpointError

from ...checkpoints import RANDOM

MADE = RANDOM / "tiny-random"
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "what",
    "is",
    "in",
    "picture",
    "colour",
    "of",
    "red",
    "blue",
    "ball",
    "USER",
    "ASSISTANT",
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The bundled checkpoint with Llama's kind of tokenizer: byte-pair pieces, bytes for what is unknown."""
    folder = tmp_path / "llava"
    shutil.copytree(MADE, folder)
    (folder / "tokenizer.json").unlink()
    draw = random.Random(0)
    (tmp_path / "text").write_text("\n".join(" ".join(draw.choices(WORDS, k=9)) for _ in range(300)))
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        input=str(tmp_path / "text"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=380,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_pieces_are_those_of_sentencepiece(checkpoint: Path) -> None:
    """Each chunk of text alone, <s> in front of the first: LLaVA's own tokenisation."""
    reference = SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))  # pyright: ignore[reportCallIssue]
    chat = load_model(checkpoint=str(checkpoint)).chat
    prompt = render_chat(chat, question="what is in the picture?\nA cat  é", template="vicuna_v1", system="")
    before, after = prompt.text.split("<image>")
    texts = [piece for piece in prompt.pieces if isinstance(piece, tuple)]
    assert texts == [(1, *reference.encode(before)), tuple(reference.encode(after))]
    assert chat.load().decode(list(texts[1])) == after


def test_a_damaged_tokenizer_is_one_message(checkpoint: Path) -> None:
    """Which checkpoint, which files."""
    (checkpoint / "tokenizer.model").write_bytes(b"no pieces here")
    chat = load_model(checkpoint=str(checkpoint)).chat
    with pytest.raises(CheckpointError) as error:
        render_chat(chat, question="why?")
    assert str(error.value).startswith(
        f"{checkpoint}: its tokenizer (tokenizer.model, tokenizer_config.json) cannot be read: "
    )
