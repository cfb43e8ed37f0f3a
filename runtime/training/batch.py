"""Samples side by side: rows filled up on the right, and all their pictures' tiles in one value.

B = samples, S = tokens of the longest, P = pictures, K = tiles
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import PromptError
from ..values import Tiles
from .labels import IGNORE, Example

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures:
    """The tiles of one sample, picture by picture, and every picture's (rows, cols); None: one whole view.

    So the data say what is to be done with it: the released collator loses the word `slice` on the way, and
    trains on one crop per sample.
    """

    tiles: Tiles
    grids: tuple[Grid | None, ...]

    def __post_init__(self) -> None:
        wanted = [1 if g is None or g == (1, 1) else g[0] * g[1] + 1 for g in self.grids]
        frames = [tile.frame for tile in self.tiles.layout]
        if frames != [i for i, count in enumerate(wanted) for _ in range(count)]:
            came = [frames.count(i) for i in range(len(self.tiles.sizes))]
            raise ValueError(f"Pictures: {came} tiles of the pictures, wanted {wanted}, picture by picture")

    @classmethod
    def whole(cls, tiles: Tiles) -> Pictures:
        """One view of each picture, as `preprocess` makes them."""
        return cls(tiles=tiles, grids=(None,) * len(tiles.sizes))

    @classmethod
    def sliced(cls, tiles: Tiles) -> Pictures:
        """Crops and global views, as `slice_hd` makes them."""
        most = [(0, 0)] * len(tiles.sizes)
        for tile in tiles.layout:
            rows, cols = most[tile.frame]
            most[tile.frame] = max(rows, tile.row + 1), max(cols, tile.col + 1)
        return cls(tiles=tiles, grids=tuple(most))


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """ids, labels [B, S] long, mask [B, S] bool; tiles of all samples (None: no pictures), their pictures'
    grids (P), and how many pictures each sample has [B]."""

    ids: Tensor
    labels: Tensor
    mask: Tensor
    tiles: Tiles | None
    grids: tuple[Grid | None, ...]
    pictures: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


def collate(
    examples: Sequence[Example], pictures: Sequence[Pictures | None], *, pad: int, max_length: int = 2048
) -> Batch:
    """Rows filled up on the right with `pad` and -100, then cut to max_length.

    The mask is False wherever the token is `pad`, as released, so for LLaMA's <unk> within a text as well.
    Samples without pictures need no dummy picture. Errors: PromptError.
    """
    if not examples or len(pictures) != len(examples):
        raise PromptError(
            f"collate: {len(examples)} samples and pictures of {len(pictures)}; wanted as many, one or more"
        )
    ids = pad_sequence([e.ids for e in examples], batch_first=True, padding_value=pad)[:, :max_length]
    labels = pad_sequence([e.labels for e in examples], batch_first=True, padding_value=IGNORE)
    there = [p for p in pictures if p is not None]
    return Batch(
        ids=ids,
        labels=labels[:, :max_length],
        mask=ids != pad,
        tiles=join_tiles([p.tiles for p in there]) if there else None,
        grids=tuple(chain.from_iterable(p.grids for p in there)),
        pictures=tuple(0 if p is None else len(p.grids) for p in pictures),
    )


def join_tiles(parts: Sequence[Tiles]) -> Tiles:
    """All tiles in order, their pictures numbered on. Errors: PromptError for tiles of two sizes."""
    sizes = sorted({tuple(part.pixels.shape[2:]) for part in parts})
    if len(sizes) > 1:
        raise PromptError(
            f"collate: tiles of {' and '.join(f'{w}x{h}' for h, w in sizes)} pixels in one batch; prepare "
            "all samples for the same tower"
        )
    first = [0]
    for part in parts:
        first.append(first[-1] + len(part.sizes))
    layout = [
        replace(tile, frame=tile.frame + start)
        for part, start in zip(parts, first, strict=False)
        for tile in part.layout
    ]
    return Tiles(
        torch.cat([part.stacked() for part in parts]),
        tuple(layout),
        tuple(chain.from_iterable(part.sizes for part in parts)),
        tuple(chain.from_iterable(part.seconds for part in parts)),
    )
