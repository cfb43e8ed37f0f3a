"""Crops on grids, and a vocabulary spelt out, for tests of TokenPacker-HD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.values import Tile

from .runtime.models.tiny import Held, language_handle, tiny_language


def hd_tiles(*grids: tuple[int, int]) -> tuple[Tile, ...]:
    """As slice_hd lays them out: of every picture its (rows, columns) of crops, and a global view."""
    out: list[Tile] = []
    for frame, (rows, cols) in enumerate(grids):
        for row in range(rows):
            out += (Tile(frame=frame, row=row, col=c, box=(c, row, c + 1, row + 1)) for c in range(cols))
        if rows * cols > 1:
            out.append(Tile(frame=frame, box=(0, 0, cols, rows), whole=True))
    return tuple(out)


def spelt_tokenizer(pieces: Mapping[str, int], size: int = 60) -> Any:
    """A word-level vocabulary of `size` tokens in which these pieces have these ids, and 0 is <unk>.

    A piece that is given 0 is not in the vocabulary.
    """
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    spelt = {number: piece for piece, number in pieces.items()} | {0: "<unk>"}
    vocabulary = {spelt.get(i, f"w{i}"): i for i in range(size)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def byte_tokenizer() -> Any:
    """A vocabulary of bytes as GPT-2 and Qwen write them: no newline under its own name, no <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def spelt_language(embeddings: Tensor) -> Held:
    """A handle on a tiny language model with these embeddings [V, D]."""
    vocab, width = embeddings.shape
    model = tiny_language(
        "llama", hidden_size=width, vocab_size=vocab, num_attention_heads=2, num_key_value_heads=2
    )
    with torch.no_grad():
        model.body.embed_tokens.weight.copy_(embeddings)
    shape = {"heads": 2, "kv_heads": 2, "head_dim": width // 2, "vocab": vocab}
    return language_handle(LanguageModel(model.module, replace(model.facts, **shape)))
