"""The patches that tokens stand for, and what a token can be.

K = tiles, P = patches of a tile
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor

from .media import Tile


class Kind(IntEnum):
    """What a token is. Selection keeps the kind, merging states it."""

    PATCH = 0
    CLS = 1
    CONTEXTUAL = 2
    STATIC = 3
    DYNAMIC = 4
    POOLED = 5
    NEWLINE = 6
    SEPARATOR = 7


@dataclass(frozen=True)
class Source:
    """The patches a tower saw: `rows` x `cols` in each tile, numbered tile by tile, row by row.

    `tiles` says where every tile comes from, `sizes` the pictures' (width, height), `seconds` their times.
    """

    tiles: tuple[Tile, ...]
    rows: int
    cols: int
    sizes: tuple[tuple[int, int], ...] = ()
    seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.tiles) * self.rows * self.cols

    @property
    def per_tile(self) -> int:
        """Patches of one tile."""
        return self.rows * self.cols

    @property
    def frames(self) -> int:
        """How many pictures the tiles come from."""
        return 1 + max((tile.frame for tile in self.tiles), default=-1)

    @cached_property
    def frame_of_tile(self) -> Tensor:
        """[K] long: the picture of every tile."""
        return torch.tensor([tile.frame for tile in self.tiles], dtype=torch.long)

    def coordinates(self, device: torch.device | None = None) -> Tensor:
        """[K * P, 4] long: frame, tile, row and column of every patch."""
        tile = torch.arange(len(self.tiles), device=device)
        row = torch.arange(self.rows, device=device)
        col = torch.arange(self.cols, device=device)
        place = torch.cartesian_prod(tile, row, col).reshape(-1, 3)
        return torch.cat([self.frame_of_tile.to(place.device)[place[:, 0], None], place], 1)
