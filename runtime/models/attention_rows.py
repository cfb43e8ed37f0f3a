"""Rows of an attention map on demand, reduced to one score per key; a whole map is never held.

The query rows are the last R rows of the sequence: all of them, those of the text after the pictures, the
last one.
"""

# H = query heads, G = key-value heads, S = rows of the sequence, R = query rows, r = those of a block,
# C = keys that a block may see, d = head width

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduce = Literal["max", "mean"]
BLOCK = 1 << 24  # attention weights held at once: 64 MiB


@dataclass(frozen=True, eq=False)
class Sight:
    """Which keys a row sees, causality aside. position: [S] long. window: how many positions back; None: all.

    visible: [S] bool, rows that are seen at all (a row that would see nothing sees itself); None: all.
    """

    position: Tensor
    window: int | None = None
    visible: Tensor | None = None

    def of(self, first: int, last: int) -> Tensor:
        """[last - first, last] bool: what the rows first..last-1 see of those before `last`."""
        row_C = torch.arange(last, device=self.position.device)
        row_r1 = row_C[first:, None]
        seen_rC = row_C <= row_r1
        if self.window is not None:
            position_C = self.position[:last]
            seen_rC = seen_rC & (position_C[first:, None] - position_C < self.window)
        if self.visible is not None:
            seen_rC = seen_rC & self.visible[:last]
            seen_rC = seen_rC | ((row_C == row_r1) & ~seen_rC.any(1, keepdim=True))
        return seen_rC


def score_keys(
    query_HRd: Tensor,
    key_GSd: Tensor,
    scale: float,
    *,
    heads: Reduce,
    over: Reduce,
    sight: Sight | None = None,
    block: int = BLOCK,
) -> Tensor:
    """[S] float32: how much the query rows attend to each key, first `heads`, then `over` rows reduced.

    sight: None is no mask at all, every row sees every key.
    """
    score_S = key_GSd.new_zeros(key_GSd.shape[1], dtype=torch.float32)
    for weight_GhrC in softmax_rows(query_HRd, key_GSd, scale, sight, block):
        weight_HrC = weight_GhrC.flatten(0, 1)
        row_rC = weight_HrC.amax(0) if heads == "max" else weight_HrC.mean(0)
        score_C = score_S[: row_rC.shape[1]]
        if over == "max":
            torch.maximum(score_C, row_rC.amax(0), out=score_C)
        else:
            score_C += row_rC.sum(0) / query_HRd.shape[1]
    return score_S


def received(query_HRd: Tensor, key_GSd: Tensor, scale: float, sight: Sight, *, block: int = BLOCK) -> Tensor:
    """[G, S] float32: column sums of the attention, over the rows and the query heads that share a key."""
    sum_GS = key_GSd.new_zeros(key_GSd.shape[:2], dtype=torch.float32)
    for weight_GhrC in softmax_rows(query_HRd, key_GSd, scale, sight, block):
        sum_GS[:, : weight_GhrC.shape[-1]] += weight_GhrC.sum((1, 2))
    return sum_GS


def softmax_rows(
    query_HRd: Tensor, key_GSd: Tensor, scale: float, sight: Sight | None, block: int = BLOCK
) -> Iterator[Tensor]:
    """[G, H / G, r, C] float32 for the rows of a block; keys from C on are seen by none of them."""
    (heads, rows, width), (groups, length, _) = query_HRd.shape, key_GSd.shape
    key_GdS = key_GSd.float().mT
    step = max(1, block // max(1, heads * length))
    for first in range(0, rows, step):
        query_Hrd = query_HRd[:, first : first + step].float() * scale
        before, count = length - rows + first, query_Hrd.shape[1]
        end = length if sight is None else before + count
        score_GnC = query_Hrd.reshape(groups, -1, width) @ key_GdS[..., :end]
        score_GhrC = score_GnC.view(groups, -1, count, end)
        if sight is not None:
            score_GhrC.masked_fill_(~sight.of(before, end), -torch.inf)
        yield score_GhrC.softmax(-1)
