"""Numbers as colours: over a box of a picture, or over patches at their true places.

H, W = picture in pixels, R, C = rows and columns of patches of a tile, P = patches of all tiles
"""

from __future__ import annotations

import torch
from torch import Tensor

from .figure import ColourBar
from .ground import Ground
from .patch_boxes import Box
from .values import Source

PALETTES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "plasma": (
        (13, 8, 135),
        (84, 2, 163),
        (139, 10, 165),
        (185, 50, 137),
        (219, 92, 104),
        (244, 136, 73),
        (254, 188, 43),
        (240, 249, 33),
    ),
    "grey": ((0, 0, 0), (255, 255, 255)),
}


def over_box(grid_RC: Tensor, size: tuple[int, int], box: Box, smooth: bool) -> Tensor:
    """[H, W]: a grid laid over `box` (left, top, right, bottom) of a picture of `size` (W, H).

    smooth: linear between cells whose outermost centres lie on the edge of the box, as scipy's zoom of
    order 1 has it; otherwise each cell is a block. Beyond the box the grid goes on as at its edge.
    """
    rows, cols = grid_RC.shape
    x = torch.arange(size[0], dtype=torch.float64) - box[0]
    y = torch.arange(size[1], dtype=torch.float64) - box[1]
    across, down = box[2] - box[0], box[3] - box[1]
    if not smooth:
        row = ((y + 0.5) / down * rows).long().clamp(0, rows - 1)
        col = ((x + 0.5) / across * cols).long().clamp(0, cols - 1)
        return grid_RC[row][:, col]
    row_HR = _blend(y * (rows - 1) / max(down - 1, 1), rows)
    col_WC = _blend(x * (cols - 1) / max(across - 1, 1), cols)
    return (row_HR @ grid_RC.double() @ col_WC.T).float()


def _blend(place: Tensor, cells: int) -> Tensor:
    """[n, cells]: the weights of the two cells on either side of each place."""
    place = place.clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp_min(0)


def stretched(values: Tensor) -> Tensor:
    """From 0 at the lowest to 1 at the highest; all 0 when they are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)


def coloured(value_HW: Tensor, palette: str) -> Tensor:
    """[H, W, 3] in 0..255 of values in 0..1."""
    stops = torch.tensor(PALETTES[palette], dtype=torch.float32)
    place = value_HW * (len(stops) - 1)
    low = place.long().clamp_max(len(stops) - 2)
    return torch.lerp(stops[low], stops[low + 1], (place - low)[..., None])


def over_patches(base: Ground, source: Source, value_P: Tensor, smooth: bool) -> Tensor:
    """[H, W]: the value of the patch that each pixel of a panel shows; nan where there is none.

    smooth: linear between the centres of a tile's patches, flat beyond the outermost ones.
    """
    patch_HW = base.patch
    if not smooth:
        return torch.cat([value_P, value_P.new_full((1,), torch.nan)])[patch_HW]
    rows, cols = source.rows, source.cols
    first_HW = patch_HW // source.per_tile * source.per_tile
    place_HW = patch_HW - first_HW
    x = (place_HW % cols + base.across - 0.5).clamp(0, cols - 1)
    y = (place_HW // cols + base.down - 0.5).clamp(0, rows - 1)
    left, top = x.long(), y.long()
    right, bottom = (left + 1).clamp_max(cols - 1), (top + 1).clamp_max(rows - 1)

    def at(row: Tensor, col: Tensor) -> Tensor:
        return value_P[(first_HW + row * cols + col).clamp_min(0)]

    upper = torch.lerp(at(top, left), at(top, right), x - left)
    lower = torch.lerp(at(bottom, left), at(bottom, right), x - left)
    return torch.lerp(upper, lower, y - top).masked_fill(patch_HW < 0, torch.nan)


def heated(base: Ground, value_HW: Tensor, span: tuple[float, float], alpha: float, palette: str) -> Tensor:
    """uint8 [H, W, 3]: a panel under the colours of values from span's low to its high; dark where nan."""
    low, high = span
    unit_HW = ((value_HW - low) / max(high - low, 1e-30)).clamp(0, 1)
    there = ~value_HW.isnan()[..., None]
    pixel = base.pixels.float()
    mixed = pixel * (1 - alpha) + coloured(unit_HW.nan_to_num(0), palette) * alpha
    return torch.where(there, mixed, pixel * 0.35 + 30).round().clamp(0, 255).to(torch.uint8)


def bar_of(span: tuple[float, float], palette: str, name: str) -> ColourBar:
    """The scale of a palette between two values."""
    colours = coloured(torch.linspace(0, 1, 256)[None], palette)[0].round().to(torch.uint8)
    return ColourBar(colours.numpy(), f"{span[0]:.3g}", f"{span[1]:.3g}", name)
