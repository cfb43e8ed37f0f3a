"""Rotary positions of a prompt's pieces: on one line, or of three axes (M-RoPE, Qwen2.5-VL).

Text counts on along all three. A picture starts where the text before it ended; its tokens sit at their row
and column there, dropped ones leave gaps, and the text after it goes on behind its longer side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import PromptError, WiringError
from .values import VisualTokens


@dataclass(frozen=True)
class Places:
    """Of one piece of a prompt: offset [n, 3] long from where it starts, and how far on the next starts."""

    offset: Tensor
    span: int


def text_places(length: int) -> Places:
    """Those of `length` text tokens."""
    return Places(torch.arange(length)[:, None].expand(-1, 3), length)


def mean_places(position: Tensor, *, whole: bool) -> Places:
    """Those of merged tokens, at the rounded mean [n] of the positions that their parts had.

    Not `whole`: tokens of one picture of several, which starts at the first of them.
    """
    place = position.detach().cpu().round().long()
    if not len(place):
        return text_places(0)
    if not whole:
        place = place - place.min()
    return Places(place[:, None].expand(-1, 3), int(place.max()) + 1)


def visual_places(tokens: VisualTokens, grid: int) -> Places:
    """Those of one picture's tokens, of which every `grid` x `grid` patches have one place.

    A token sits where its side channel `place` says (a patch number), else at its first patch.
    """
    source, tiles = tokens.source, torch.unique(tokens.home)
    if len(tiles) > 1:
        raise PromptError(
            f"place_tokens: {len(tiles)} tiles in one slot, but this model's positions are those of one "
            "picture per slot; give every picture an <image> of its own"
        )
    if "place" in tokens.side:
        patch = tokens.side["place"].cpu()
    elif bool((tokens.count > 0).all()):
        patch = tokens.member[tokens.start[:-1]].cpu()
    else:
        raise WiringError(
            "place_tokens.visual: some tokens stand for no patch, but this model's positions are those of "
            "patches; wire tokens without [CLS], newlines and separators"
        )
    inside = patch % source.per_tile
    offset = torch.stack([torch.zeros_like(inside), inside // source.cols, inside % source.cols], 1)
    return Places(offset // grid, max(source.rows, source.cols) // grid)


def joined(parts: Sequence[Places]) -> Tensor:
    """[S, 3] long: all pieces, one after another, from 0."""
    out: list[Tensor] = []
    start = 0
    for part in parts:
        out.append(part.offset + start)
        start += part.span
    return torch.cat(out)
