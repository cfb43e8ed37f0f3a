"""Looking at tokens: where a patch attends to, and which patches are left."""

# H, W = picture in pixels, R, C = rows and columns of patches of a tile

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..runtime.channels import channel
from ..runtime.errors import MediaError, NeedError, WiringError
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Frames, Kind, Picture, Source, Table, Tile, Tiles, Tokens
from ..runtime.widgets import Range

Box = tuple[float, float, float, float]
Index = Annotated[int, Range(0)]
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


@node(version=1)
def attention_map(
    patches: Annotated[Tokens, Needs("attention", layer="layer")],
    *,
    layer: int = -2,
    reduce: Literal["row", "received"] = "row",
    index: Index = 0,
    tile: Index = 0,
    previous: bool = False,
) -> Table:
    """The tower's attention between the patches of one tile as a grid of R x C numbers, mean over heads.

    Source: VisionZip's visualiser.

    patches: as encode_vision returns them.
    layer: of the tower, numbered as hidden_states.
    reduce: `row`: what patch `index` attends to; `received`: what each patch receives, mean over all patches.
    index: the patch, from 0, row by row; `received` does not use it.
    tile: which tile.
    previous: as the released visualiser, which forgets [CLS] and shows the patch before `index`.
    """
    source, key = patches.source, Need("attention", layer)
    weight_NA = channel("attention_map", patches, key)
    if tile >= len(source.tiles):
        raise WiringError(f"attention_map.tile: {tile} is outside 0..{len(source.tiles) - 1}")
    weight_NA = weight_NA[:, weight_NA.shape[1] - source.per_tile :]  # without the column of [CLS]
    if reduce == "received":
        rows = (patches.home == tile) & (patches.kind == int(Kind.PATCH))
        return _table(weight_NA[rows].mean(0), source)
    if index >= source.per_tile:
        raise WiringError(f"attention_map.index: {index} is outside 0..{source.per_tile - 1}")
    return _table(weight_NA[_row_of(patches, tile, index - previous)], source)


def _row_of(patches: Tokens, tile: int, index: int) -> Tensor:
    """The token of a tile's patch; -1 is its [CLS]."""
    if index < 0:
        found = (patches.home == tile) & (patches.kind == int(Kind.CLS))
    else:
        found = torch.zeros(len(patches), dtype=torch.bool, device=patches.device)
        found[patches.owner[patches.member == tile * patches.source.per_tile + index]] = True
        found &= patches.count == 1
    if not bool(found.any()):
        what = "[CLS]" if index < 0 else f"patch {index}"
        raise NeedError(
            f"attention_map: no token stands for {what} of tile {tile}; wire it to encode_vision with "
            "features: cls_patch"
        )
    return found.nonzero()[0, 0]


def _table(values: Tensor, source: Source) -> Table:
    rows = values.float().reshape(source.rows, source.cols).tolist()
    return Table(tuple(map(str, range(source.cols))), tuple(tuple(row) for row in rows), "attention")


@node(version=1)
def heatmap_overlay(
    frames: Frames,
    heat: Table,
    tiles: Tiles | None = None,
    *,
    picture: Index = 0,
    tile: Index = 0,
    smooth: bool = True,
    alpha: Annotated[float, Range(0, 1)] = 0.5,
    palette: Literal["plasma", "grey"] = "plasma",
    marker: tuple[int, int] | None = None,
) -> Picture:
    """A picture with a grid of numbers over it as colours, from the lowest to the highest.

    frames: the picture.
    heat: R x C numbers, as attention_map returns them.
    tiles: where the grid lies on the picture; without them it covers the whole picture.
    picture: which of the frames.
    tile: which of the tiles.
    smooth: blend between cells; otherwise each cell has one colour.
    alpha: 0 shows the picture alone, 1 the colours alone.
    palette: colours from low to high.
    marker: a red dot at x, y in pixels of the picture.
    """
    pixels = _picture("heatmap_overlay", frames, picture)
    height, width = pixels.shape[:2]
    box = _box("heatmap_overlay", tiles.layout, tile) if tiles is not None else (0.0, 0.0, width, height)
    grid = torch.tensor(heat.rows, dtype=torch.float32)
    value_HW = stretched(over_box(grid, (width, height), box, smooth))
    mixed = pixels.float() * (1 - alpha) + coloured(value_HW, palette) * alpha
    if marker is not None:
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        radius = max(2.0, min(height, width) / 60)
        mixed[(x - marker[0]) ** 2 + (y - marker[1]) ** 2 <= radius**2] = torch.tensor([255.0, 0.0, 0.0])
    return Picture(mixed.round().clamp(0, 255).to(torch.uint8), heat.title)


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


@node(version=1)
def token_mask_preview(
    frames: Frames,
    tokens: Tokens,
    *,
    tile: Index = 0,
    cell: Annotated[int, Range(1)] = 14,
    veil: Annotated[int, Range(0, 255)] = 178,
    spill: bool = False,
) -> Picture:
    """What the tower sees of one tile, with a white veil over the patches that no token stands for.

    Source: VisionZip's chat demo.

    frames: the pictures that the tokens come from.
    tokens: those that are left.
    tile: which tile.
    cell: side of a patch in the preview, in pixels.
    veil: from 0, nothing, to 255, plain white.
    spill: each veiled patch also covers one pixel to its right and below, as in the released demo.
    """
    source = tokens.source
    box = _box("token_mask_preview", source.tiles, tile)
    pixels = _picture("token_mask_preview", frames, source.tiles[tile].frame)
    seen = Image.fromarray(pixels.numpy()).crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]
    seen = seen.resize((source.cols * cell, source.rows * cell), Image.Resampling.BICUBIC).convert("RGBA")
    gone_RC = tokens.coverage()[tile].cpu() == 0
    gone_HW = gone_RC.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    if spill:
        gone_HW[1:] |= gone_HW[:-1].clone()
        gone_HW[:, 1:] |= gone_HW[:, :-1].clone()
    white = np.full((*gone_HW.shape, 4), 255, dtype=np.uint8)
    white[..., 3] = gone_HW.numpy() * np.uint8(veil)
    shown = np.array(Image.alpha_composite(seen, Image.fromarray(white, "RGBA")).convert("RGB"))
    left = int((gone_RC == 0).sum())
    return Picture(torch.from_numpy(shown), f"{left} of {source.per_tile} patches")


def _picture(where: str, frames: Frames, number: int) -> Tensor:
    if number >= len(frames):
        raise MediaError(f"{where}: picture {number} is outside 0..{len(frames) - 1}")
    return frames.pictures[number]


def _box(where: str, tiles: tuple[Tile, ...], number: int) -> Box:
    if number >= len(tiles):
        raise WiringError(f"{where}.tile: {number} is outside 0..{len(tiles) - 1}")
    return tiles[number].box
