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
from ..runtime.heat import coloured, over_box, stretched
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.tower_attention import row_of
from ..runtime.values import Frames, Kind, Picture, Source, Table, Tile, Tiles, Tokens
from ..runtime.widgets import Range

Box = tuple[float, float, float, float]
Index = Annotated[int, Range(0)]


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


def _row_of(patches: Tokens, tile: int, index: int) -> int:
    """The token of a tile's patch; -1 is its [CLS]."""
    if index >= 0:
        return row_of("attention_map", patches, tile * patches.source.per_tile + index)
    found = ((patches.home == tile) & (patches.kind == int(Kind.CLS))).nonzero()[:, 0]
    if not len(found):
        raise NeedError(
            f"attention_map: no token stands for [CLS] of tile {tile}; wire it to encode_vision with "
            "features: cls_patch"
        )
    return int(found[0])


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
