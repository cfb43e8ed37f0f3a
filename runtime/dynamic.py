"""InternVL's dynamic tiling: which grid of tiles a picture gets, and which part of it each tile shows.

Sizes are (width, height) in pixels, grids (columns, rows). S = side of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain

from . import pixels
from .anyres import Size
from .foreseen import KnownFrames, KnownTiles, known_tiles
from .models.handle import ImageFacts
from .pixels import Pixels
from .values import Frames, Tile, Tiles
from .values.media import clips_of

Grid = tuple[int, int]
MOST = 12  # tiles of a picture, the thumbnail not counted, where a checkpoint does not say


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How pictures are cut: into `least` to `most` tiles of S x S, and a thumbnail beside more than one.

    clip: `most` of a frame of a clip.
    """

    side: int
    least: int = 1
    most: int = MOST
    clip: int = 1
    thumbnail: bool = True

    @classmethod
    def of(
        cls,
        facts: ImageFacts,
        most: int | None = None,
        least: int | None = None,
        thumbnail: bool | None = None,
    ) -> Tiling:
        """As the checkpoint says, or else InternVL, where nothing else is asked for."""
        low = least or facts.min_tiles
        own = facts.thumbnail or facts.aspect != "dynamic"
        return cls(
            side=facts.size,
            least=low,
            most=most or facts.max_tiles or MOST,
            clip=most or low,
            thumbnail=own if thumbnail is None else thumbnail,
        )

    def on(self, frames: KnownFrames | Frames) -> Tiling:
        """The same for these pictures, which may be frames of a clip."""
        return replace(self, most=self.clip) if frames.clip else self

    def count(self, size: Size) -> int:
        """Tiles of one picture, its thumbnail included."""
        columns, rows = best_grid(size, self)
        return columns * rows + (self.thumbnail and columns * rows > 1)


@cache
def candidates(least: int, most: int) -> tuple[Grid, ...]:
    """Every grid of `least` to `most` tiles, by their number.

    Among grids of as many tiles the released order is that of a Python set; here the one with fewer columns
    comes first. The order decides nothing unless `least` is more than 1.
    """
    grids = ((i, j) for i in range(1, most + 1) for j in range(-(-least // i), most // i + 1))
    return tuple(sorted(grids, key=lambda grid: (grid[0] * grid[1], grid)))


@lru_cache(maxsize=4096)
def best_grid(size: Size, how: Tiling) -> Grid:
    """The grid whose aspect is nearest the picture's.

    Of grids with the same aspect the first, unless the picture has more than half of the pixels of a later
    one. Aspects are compared as floats, exactly (as released).
    """
    width, height = size
    best, least = (1, 1), float("inf")
    for columns, rows in candidates(how.least, how.most):
        apart = abs(width / height - columns / rows)
        fills = width * height > 0.5 * how.side**2 * columns * rows
        if apart < least or (apart == least and fills):
            best, least = (columns, rows), apart
    return best


def foreseen(frames: Sequence[KnownFrames | Frames | None], how: Tiling) -> KnownTiles | None:
    """How many tiles there will be; None where the pictures' sizes are not known, and matter."""
    counts = list[int]()
    known = list[KnownFrames | Frames]()
    for some in frames:
        if some is None:
            return None
        own = how.on(some)
        if some.sizes is None and own.most > 1:
            return None
        counts += map(own.count, some.sizes or [(1, 1)] * len(some))
        known.append(some)
    return known_tiles(known, counts)


def tiled(frames: Sequence[Frames], how: Tiling, mean: Sequence[float], std: Sequence[float]) -> Tiles:
    """The tiles of all pictures, numbered through: row by row, then the thumbnail."""
    cells: list[Pixels] = []
    layout: list[Tile] = []
    pictures = [(picture, how.on(some)) for some in frames for picture in some.pictures]
    for number, (picture, own) in enumerate(pictures):
        for cell, tile in cut(pixels.as_array(picture), own):
            cells.append(cell)
            layout.append(replace(tile, frame=number))
    return Tiles(
        pixels.normalise(cells, mean, std),
        tuple(layout),
        tuple(chain.from_iterable(some.sizes for some in frames)),
        tuple(float(t) for some in frames for t in some.time),
        clips=clips_of(frames),
    )


def cut(picture: Pixels, how: Tiling) -> Iterator[tuple[Pixels, Tile]]:
    """The tiles of one picture: squeezed onto its grid, its aspect not kept, and cut up there."""
    height, width = picture.shape[:2]
    columns, rows = best_grid((width, height), how)
    across, down = width / columns, height / rows
    canvas = pixels.resize(picture, (columns * how.side, rows * how.side))
    for number, cell in enumerate(pixels.cut(canvas, how.side)):
        row, col = divmod(number, columns)
        box = (col * across, row * down, (col + 1) * across, (row + 1) * down)
        yield cell, Tile(frame=0, row=row, col=col, box=box)
    if how.thumbnail and columns * rows > 1:
        whole = (0.0, 0.0, float(width), float(height))
        yield pixels.resize(picture, (how.side, how.side)), Tile(frame=0, box=whole, whole=True)
