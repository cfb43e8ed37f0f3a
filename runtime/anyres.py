"""The geometry of anyres tiling (LLaVA-NeXT): which canvas, which grid, what is padding.

All sizes are (width, height) in pixels unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import MediaError

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Rounding = Literal["int", "hf"]


def select_best_resolution(size: Size, pinpoints: Sequence[Size]) -> Size:
    """The canvas that keeps most of the picture's pixels; ties: least wasted, then first in the list."""
    if not pinpoints:
        raise MediaError("anyres: the checkpoint lists no canvas sizes; give pinpoints: [336x672, ...]")
    width, height = size

    def merit(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[0] / width, canvas[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(pinpoints, key=merit)  # max keeps the first of equals


def grid_of(canvas: Size, tile: int) -> Size:
    """(columns, rows) of tiles on a canvas; a MediaError when tiles do not fill it."""
    if canvas[0] % tile or canvas[1] % tile or min(canvas) < tile:
        raise MediaError(
            f"anyres: canvas {canvas[0]}x{canvas[1]} cannot be cut into tiles of {tile}x{tile}; "
            "both sides must be multiples of the tile"
        )
    return canvas[0] // tile, canvas[1] // tile


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies on its canvas: scaled to `scaled`, its corner at `left`, `top`."""

    canvas: Size
    scaled: Size
    left: int
    top: int


def letterbox(size: Size, canvas: Size) -> Letterbox:
    """Scale to fit: the tighter side exact, the other rounded up; centred, offsets rounded down."""
    width, height = size
    across, down = canvas[0] / width, canvas[1] / height
    if across < down:
        scaled = canvas[0], min(math.ceil(height * across), canvas[1])
    else:
        scaled = min(math.ceil(width * down), canvas[0]), canvas[1]
    return Letterbox(canvas, scaled, (canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2)


def cells(size: Size, canvas: Size, tile: int) -> Iterator[tuple[int, int, Box]]:
    """Row, column and box of every tile of the grid, row by row; boxes in the picture's own pixels."""
    cols, rows = grid_of(canvas, tile)
    fit = letterbox(size, canvas)
    across, down = size[0] / fit.scaled[0], size[1] / fit.scaled[1]
    for number in range(rows * cols):
        row, col = divmod(number, cols)
        left, top = (col * tile - fit.left) * across, (row * tile - fit.top) * down
        yield row, col, (left, top, left + tile * across, top + tile * down)


def unpad_span(size: Size, rows: int, cols: int, rounding: Rounding = "int") -> tuple[slice, slice]:
    """Rows and columns of a stitched feature map that show the picture and not its padding.

    rounding: "int" truncates the kept length as LLaVA's code does; "hf" rounds it to 7 digits first, as
    transformers does (58 of the sizes up to 2048 differ).
    """
    width, height = size
    if width / height > cols / rows:
        pad = (rows - _kept(height, cols / width, rounding)) // 2
        return slice(pad, rows - pad), slice(0, cols)
    pad = (cols - _kept(width, rows / height, rounding)) // 2
    return slice(0, rows), slice(pad, cols - pad)


def scaled_down(rows: int, cols: int, per_tile: int, most: int) -> tuple[int, int]:
    """(rows, columns) of a map after LLaVA-OneVision's limit: about the patches of `most` tiles.

    rows, cols: of the map without its padding. A map that is over the limit by less than 1.1 on a side keeps
    its size.
    """
    ratio = math.sqrt(rows * cols / (most * per_tile))
    if ratio <= 1.1:
        return rows, cols
    return max(1, int(rows // ratio)), max(1, int(cols // ratio))  # a hair-thin map keeps a row


def _kept(length: int, scale: float, rounding: Rounding) -> int:
    return int(round(length * scale, 7)) if rounding == "hf" else int(length * scale)
