"""Evenly spaced choices: along a line, or over a plane by way of a curve that fills it."""

from __future__ import annotations

import torch
from torch import Tensor


def middles(place: Tensor, keep: Tensor, size: Tensor) -> Tensor:
    """Whether each place (0 to size - 1) is the middle of one of `keep` equal stretches of `size` places.

    All long, of shapes that broadcast; keep <= size.
    """
    size = size.clamp_min(1)

    def before(end: Tensor) -> Tensor:  # how many of (2 i + 1) size / (2 keep) lie before `end`
        return (torch.div(2 * keep * end - 1, size, rounding_mode="floor") + 1) // 2

    return before(place + 1) > before(place)


def along_curve(row: Tensor, col: Tensor, side: int) -> Tensor:
    """How far along Hilbert's curve the places of a grid lie, long; its next place is always a neighbour.

    row, col: long, of the same shape, below `side`.
    """
    n = 1 << max(side - 1, 0).bit_length()
    x, y, far, s = col, row, torch.zeros_like(row), n // 2
    while s:
        right, low = (x & s) > 0, (y & s) > 0
        far = far + s * s * ((3 * right.long()) ^ low.long())
        turned = right & ~low
        x, y = torch.where(turned, n - 1 - x, x), torch.where(turned, n - 1 - y, y)
        x, y = torch.where(low, x, y), torch.where(low, y, x)
        s //= 2
    return far
