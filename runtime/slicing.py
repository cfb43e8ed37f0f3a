"""TokenPacker-HD's slicing: which grid a picture gets, its size there, and its crops with their places.

Sizes are (width, height) in pixels, grids (rows, columns). S = side of a crop, K = crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .anyres import Size
from .errors import CheckpointError
from .foreseen import KnownFrames, KnownTiles, known_tiles
from .models.handle import ImageFacts
from .values import Frames, Tile, Tiles
from .values.media import clips_of

Grid = tuple[int, int]
Floats = NDArray[np.float32]
GlobalSource = Literal["canvas", "image"]

MOST = 4096  # crops of a picture, whoever asks for them
PATCH_NUM = 9  # of the released code, where a checkpoint does not say
ENLARGED, WEIGHT, EPSILON = 1.4, 0.1, 1e-5  # of the released rule
LONGEST = 9  # times longer than wide: no grid of the released lists is longer
# the released code's lists for 9, 16 and 25 crops are this one, up to so many crops; its order settles ties
# fmt: off
RELEASED: tuple[Grid, ...] = (
    (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (1, 4), (4, 1), (1, 5), (5, 1), (1, 6), (6, 1), (2, 3),
    (3, 2), (1, 7), (7, 1), (4, 2), (2, 4), (1, 8), (8, 1), (3, 3), (1, 9), (9, 1),
    (2, 5), (5, 2), (2, 6), (6, 2), (3, 4), (4, 3), (2, 7), (7, 2), (3, 5), (5, 3), (2, 8), (8, 2), (4, 4),
    (3, 6), (6, 3), (2, 9), (9, 2), (4, 5), (5, 4), (2, 10), (10, 2), (3, 7), (7, 3), (11, 2), (2, 11),
    (4, 6), (6, 4), (12, 2), (2, 12), (3, 8), (8, 3), (5, 5),
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """How pictures are cut: `most` crops of S x S, and the options of `slice_hd`."""

    side: int
    most: int = PATCH_NUM
    source: GlobalSource = "canvas"
    antialias: bool = False
    max_upscale: float | None = None

    @classmethod
    def of(cls, facts: ImageFacts, most: int | None = None, **options: Any) -> Slicing:
        """As the checkpoint says, where nothing else is asked for. Errors: CheckpointError for nonsense."""
        most = most or facts.patch_num or PATCH_NUM
        if most > MOST:
            raise CheckpointError(
                f"slice_hd.patch_num: the checkpoint says {most}, wanted 1..{MOST}; set patch_num"
            )
        return cls(side=facts.size, most=most, **options)


@cache
def candidates(most: int) -> tuple[Grid, ...]:
    """All grids of at most `most` crops that are at most 9 times longer than wide; ties: the first.

    Up to 25 crops these are the released lists in their order; beyond, by number of crops, squarest first.
    """
    listed = [grid for grid in RELEASED if grid[0] * grid[1] <= most]
    end = RELEASED[-1][0] * RELEASED[-1][1]
    more = [
        (rows, cols)
        for rows in range(1, int((LONGEST * most) ** 0.5) + 1)
        for cols in range(max(end // rows + 1, -(-rows // LONGEST)), min(most // rows, LONGEST * rows) + 1)
    ]
    more.sort(key=lambda grid: (grid[0] * grid[1], abs(grid[0] - grid[1]), grid))
    return (*listed, *more)


@dataclass(frozen=True, eq=False)
class Merits:
    """Of every candidate: grid, what share of it the picture fills, overlap of both, scale."""

    grids: tuple[Grid, ...]
    fill: Floats
    iou: Floats
    scale: Floats

    @property
    def score(self) -> Floats:
        """What the released rule takes the highest of."""
        return (self.fill + WEIGHT * self.iou).astype(np.float32)


def merits(size: Size, most: int, side: int) -> Merits:
    """How well each candidate suits a picture, in float32 as the released code computes it.

    The overlap is that of canvas and picture with a corner in common, the picture made 1.4 times larger.
    """
    grids = candidates(most)
    down, across = (np.array(grids, np.float32) * np.float32(side)).T
    width, height = (np.float32(edge) for edge in size)
    scale = np.minimum(down / height, across / width)
    area = down * across
    fill = np.round(height * scale) * np.round(width * scale) / area  # halves to even
    enlarged = np.float32(ENLARGED)
    common = np.minimum(down, enlarged * height) * np.minimum(across, enlarged * width)
    # its square is rounded to 1.96 before it is float32
    iou = common / (area + np.float32(ENLARGED**2) * height * width - common + np.float32(EPSILON))
    return Merits(grids, fill, iou, scale)


def best_grid(size: Size, how: Slicing) -> Grid:
    """The grid with the highest score, leaving out those that enlarge the picture too much."""
    found = merits(size, how.most, how.side)
    score = found.score
    if how.max_upscale is not None:
        fine = found.scale <= how.max_upscale
        fine[0] = True  # one crop is always there
        score = np.where(fine, score, -np.inf)
    return found.grids[int(score.argmax())]


def fitted(size: Size, canvas: Size) -> Size:
    """The size whose tighter side fills the canvas; the other is rounded, halves to even, and never 0."""
    width, height = size
    across, down = canvas[0] / width, canvas[1] / height
    if down <= across:
        return max(1, min(canvas[0], round(width * down))), canvas[1]
    return canvas[0], max(1, min(canvas[1], round(height * across)))


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One picture's share: its grid, its size at the top left of the canvas, and in the global view.

    whole: None for a grid of one crop, which has no global view.
    """

    size: Size
    grid: Grid
    side: int
    scaled: Size
    whole: Size | None

    @property
    def count(self) -> int:
        """K: its crops, the global view included."""
        return self.grid[0] * self.grid[1] + (self.whole is not None)

    @property
    def canvas(self) -> Size:
        """Of all crops but the global view."""
        return self.grid[1] * self.side, self.grid[0] * self.side

    def tiles(self, source: GlobalSource) -> Iterator[Tile]:
        """Its crops row by row, then the global view; boxes reach over the picture's edge where padded."""
        across, down = self.size[0] / self.scaled[0], self.size[1] / self.scaled[1]
        for row, col in np.ndindex(self.grid):
            left, right = (edge * self.side * across for edge in (col, col + 1))
            top, bottom = (edge * self.side * down for edge in (row, row + 1))
            yield Tile(frame=0, row=row, col=col, box=(left, top, right, bottom))
        if self.whole is not None:
            shown = (self.canvas[0] * across, self.canvas[1] * down) if source == "canvas" else self.size
            right, bottom = (edge * self.side / part for edge, part in zip(shown, self.whole, strict=True))
            yield Tile(frame=0, box=(0.0, 0.0, right, bottom), whole=True)


def cut_of(size: Size, how: Slicing) -> Cut:
    """How a picture of this size is cut, without looking at it."""
    grid = best_grid(size, how)
    canvas = grid[1] * how.side, grid[0] * how.side
    whole = None if grid == (1, 1) else fitted(size, (how.side, how.side))
    return Cut(size=size, grid=grid, side=how.side, scaled=fitted(size, canvas), whole=whole)


def foreseen(frames: Sequence[KnownFrames | Frames | None], how: Slicing) -> KnownTiles | None:
    """How many crops there will be; None where the pictures' sizes are not known, and matter."""
    sizes, known = list[Size](), list[KnownFrames | Frames]()
    for some in frames:
        if some is None or (some.sizes is None and how.most > 1):
            return None
        sizes += some.sizes or [(1, 1)] * len(some)
        known.append(some)
    return known_tiles(known, [cut_of(size, how).count for size in sizes])


def sliced(frames: Sequence[Frames], how: Slicing, mean: Sequence[float], std: Sequence[float]) -> Tiles:
    """The crops of all pictures, numbered through; padding is 0, the mean colour."""
    pictures: list[Tensor] = list(chain.from_iterable(f.pictures for f in frames))
    sizes = tuple(chain.from_iterable(f.sizes for f in frames))
    cuts = [cut_of(size, how) for size in sizes]
    pixels = torch.empty(sum(cut.count for cut in cuts), 3, how.side, how.side)
    layout: list[Tile] = []
    for number, (picture, cut) in enumerate(zip(pictures, cuts, strict=True)):
        draw(picture, cut, how, mean, std, out=pixels[len(layout) : len(layout) + cut.count])
        layout += (replace(tile, frame=number) for tile in cut.tiles(how.source))
    seconds = tuple(float(t) for f in frames for t in f.time)
    return Tiles(pixels, tuple(layout), sizes, seconds, clips=clips_of(frames))


def draw(
    picture: Tensor, cut: Cut, how: Slicing, mean: Sequence[float], std: Sequence[float], *, out: Tensor
) -> None:
    """The crops of a picture [H, W, 3] uint8 into `out` [K, 3, S, S] float32.

    A colour at a time, which is quick and takes little memory; resized before it is normalised, since both
    are linear (the released code does it the other way round).
    """
    (rows, cols), side = cut.grid, cut.side
    canvas = torch.zeros(rows * side, cols * side)
    cells = canvas.view(rows, side, cols, side).transpose(1, 2)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        colour = picture[..., channel].float()
        region = canvas[: cut.scaled[1], : cut.scaled[0]]
        region.copy_(_resized(colour, cut.scaled, how.antialias)).mul_(1 / (255 * s)).sub_(m / s)
        out[: rows * cols, channel].view(rows, cols, side, side).copy_(cells)
        if cut.whole is None:
            continue
        view = out[-1, channel].zero_()[: cut.whole[1], : cut.whole[0]]
        if how.source == "canvas":  # the released code's choice: the padding is squeezed in too
            view.copy_(_resized(canvas, cut.whole, how.antialias))
        else:
            view.copy_(_resized(colour, cut.whole, how.antialias)).mul_(1 / (255 * s)).sub_(m / s)


def _resized(colour: Tensor, size: Size, antialias: bool) -> Tensor:
    out = functional.interpolate(
        colour[None, None], (size[1], size[0]), mode="bilinear", align_corners=False, antialias=antialias
    )
    return out[0, 0]
