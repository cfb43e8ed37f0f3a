"""InternLM2's tokenizer against the SentencePiece processor that the released code uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from tests.internvl import ADDED, CHAT, LINES, PIECES, write_internvl, write_tokenizer
from tokenloom.nodes import load_model, render_chat
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.tokenizer_intern import internlm2_tokenizer

Pair = tuple[Any, SentencePieceProcessor]


@pytest.fixture(scope="module", params=[True, False], ids=["dummy prefix", "no prefix"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Ours and the reference, with and without a space in front of every text."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, dummy_prefix=request.param)
    reference = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))  # pyright: ignore[reportCallIssue]
    return internlm2_tokenizer(folder), reference


words = st.lists(st.sampled_from([*" ".join(LINES).split(), " ", "\n", "é", "猫", "🙂"]), max_size=12)


@settings(max_examples=60)
@given(parts=words, glue=st.sampled_from(["", " ", "  "]))
def test_ids_are_those_of_sentencepiece(pair: Pair, parts: list[str], glue: str) -> None:
    """`<s>` in front, merges by score, bytes for what no piece has; and back to the text."""
    ours, reference = pair
    text = glue.join(parts)
    ids = ours(text).input_ids
    assert ids == [1, *reference.encode(text)]
    assert ours.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_cut_out_first(pair: Pair) -> None:
    """Each text between them is tokenised by itself."""
    ours, reference = pair
    text = "<|im_start|>user\n<img><IMG_CONTEXT></img>\nwhat?<|im_end|>"
    inner = [PIECES + ADDED.index(token) for token in ("<img>", "<IMG_CONTEXT>", "</img>")]
    assert ours(text).input_ids == [
        1, 3 + CHAT.index("<|im_start|>"), *reference.encode("user\n"), *inner, *reference.encode("\nwhat?"),
        3 + CHAT.index("<|im_end|>"),
    ]  # fmt: skip


def test_settings_of_older_files_name_the_added_tokens(tmp_path: Path) -> None:
    """Without added_tokens_decoder, added_tokens.json says the ids."""
    write_tokenizer(tmp_path)
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    added = {token["content"]: int(number) for number, token in told.pop("added_tokens_decoder").items()}
    told["bos_token"] = {"content": "<s>", "lstrip": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    made = internlm2_tokenizer(tmp_path)
    assert made("</img>").input_ids == [1, PIECES + 1]
    assert made.bos_token == "<s>"


def test_pieces_that_are_missing_are_one_error(tmp_path: Path) -> None:
    """Which checkpoint, which file."""
    write_internvl(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nothing")
    chat = load_model(checkpoint=str(tmp_path)).chat
    with pytest.raises(CheckpointError) as error:
        render_chat(chat, question="why?")
    assert str(error.value).startswith(
        f"{tmp_path}: its tokenizer (tokenizer.model, tokenizer_config.json) cannot be read: "
    )
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError) as error:
        internlm2_tokenizer(tmp_path)
    where = tmp_path / "tokenizer.model"
    assert str(error.value) == f"{where}: not there; it holds the pieces of InternLM2's tokenizer"
