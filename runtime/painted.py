"""Masks: pictures in which somebody has painted, and the patches that the paint lies on.

A tile knows which box of its picture it shows, so paint finds its patches through every pad, resize, crop and
grid of tiles. H, W = mask in pixels, K = tiles, R, C = rows and columns of patches of a tile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from .errors import LoomError, MediaError, WiringError
from .pictures import opened, rgb
from .values import Source
from .video.choose import check_readable

Box = tuple[float, float, float, float]
Size = tuple[int, int]
ROUNDING = 1e-6  # part of a patch that is no paint, but arithmetic


@dataclass(frozen=True, eq=False)
class Mask:
    """How strongly each pixel is painted: [H, W] uint8, 0 not at all; `name` is for messages."""

    name: str
    level: Tensor

    @property
    def size(self) -> Size:
        """(width, height)."""
        return self.level.shape[1], self.level.shape[0]


@dataclass(frozen=True, kw_only=True)
class Painted:
    """When a patch counts as painted.

    threshold: level from which a pixel is painted, 1..255. share: part of the patch that must be painted,
    0: any of it. stretch: the mask covers its whole picture, whatever their sizes; else they must be equal.
    """

    threshold: int = 1
    share: float = 0.0
    stretch: bool = False


def read_mask(where: str, path: Path) -> Mask:
    """The mask in a picture file: how opaque its pixels are or, where all are opaque, how bright.

    Errors: MediaError, beginning with `where`, for what is missing, damaged or no picture.
    """
    try:
        check_readable(path, "painted picture")
        if path.is_dir():
            raise MediaError(f"{path}: a folder, wanted a picture file, or a list of them")
        with opened(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "PA" or picture.mode[-1:] in "Aa" or "transparency" in picture.info:
                alpha = np.array(picture.convert("RGBA").getchannel("A"))
                if alpha.min() < 255:
                    return Mask(path.name, torch.from_numpy(alpha))
            bright = np.array(rgb(path, picture), np.uint8).max(2)
    except LoomError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__
    return Mask(path.name, torch.from_numpy(bright))


def check_masks(where: str, masks: Sequence[Mask], sizes: Sequence[Size], how: Painted) -> None:
    """A MediaError unless there is one mask for all pictures of these sizes or one for each, and they fit."""
    if not masks:
        raise MediaError(f"{where}: an empty list; give one mask for all pictures, or one for each")
    if len(masks) not in (1, len(sizes)):
        pictures = "1 picture" if len(sizes) == 1 else f"{len(sizes)} pictures"
        raise MediaError(f"{where}: {len(masks)} masks for {pictures}; give one for all, or one for each")
    for number, (width, height) in enumerate(sizes):
        mask = masks[number % len(masks)]
        if not how.stretch and mask.size != (width, height):
            raise MediaError(
                f"{where}: {mask.name} is {mask.size[0]}x{mask.size[1]}, but picture {number} is "
                f"{width}x{height}; paint on the picture at its own size, or set stretch: true when it was "
                "painted on a squeezed copy"
            )


def check_paint(where: str, masks: Sequence[Mask], how: Painted) -> None:
    """A MediaError when nothing is painted on any of the masks."""
    strongest = max(int(mask.level.max()) for mask in masks)
    if strongest < how.threshold:
        names = masks[0].name if len(masks) == 1 else f"all {len(masks)} masks"
        what = "nothing" if strongest == 0 else f"nothing above {strongest}"
        advice = "paint over what shall stay" if strongest == 0 else "lower it"
        raise MediaError(
            f"{where}: {what} is painted on {names}, wanted a level of {how.threshold} or more "
            f"(threshold); {advice}"
        )


def painted_patches(where: str, masks: Sequence[Mask], source: Source, how: Painted) -> Tensor:
    """[n] long: the patches of `source` that are painted, ascending.

    masks: one for all pictures, or one for each. Errors: MediaError, beginning with `where`, for another
    number or size of masks, and when no patch is painted.
    """
    if len(source.sizes) < source.frames:
        raise WiringError(
            f"{where}: the tokens do not say how large their pictures are; wire preprocess to encode_vision"
        )
    check_masks(where, masks, source.sizes, how)
    check_paint(where, masks, how)
    part_P = painted_shares(masks, source, how.threshold).flatten()
    painted_P = part_P > ROUNDING if how.share == 0 else part_P >= how.share - ROUNDING
    if bool(painted_P.any()):
        return painted_P.nonzero()[:, 0]
    if most := float(part_P.max()):
        raise MediaError(
            f"{where}: no patch is painted by {how.share:g} or more, the most is {most:.2g}; lower share"
        )
    raise MediaError(
        f"{where}: what is painted lies where no tile looks, the tiles crop the picture; paint nearer to its "
        "middle, or let preprocess pad it"
    )


def painted_shares(masks: Sequence[Mask], source: Source, threshold: int = 1) -> Tensor:
    """[K, R, C] float64: what part of each patch is painted; a patch's own place beyond the picture is none.

    masks: one for all pictures, or one for each. Tiles of one box, as all frames of a clip under one mask
    have them, are looked at once; masks are not stacked, as those of a long clip would fill the memory.
    """
    seen: dict[tuple[int, Box], Tensor] = {}
    for tile in source.tiles:
        number = tile.frame % len(masks)
        if (number, tile.box) not in seen:
            mask, (width, height) = masks[number], source.sizes[tile.frame]
            across, down = mask.size[0] / width, mask.size[1] / height
            left, top, right, bottom = tile.box
            box = left * across, top * down, right * across, bottom * down
            seen[number, tile.box] = covered(mask.level >= threshold, box, source.rows, source.cols)
    return torch.stack([seen[tile.frame % len(masks), tile.box] for tile in source.tiles])


def covered(painted_HW: Tensor, box: Box, rows: int, cols: int) -> Tensor:
    """[R, C] float64: the painted part of each cell of a grid over `box` (left, top, right, bottom).

    Of a cell that reaches beyond the picture, the part inside is the whole; one that lies outside has 0.
    """
    height, width = painted_HW.shape
    down_RH = _overlap(box[1], box[3], rows, height)
    across_CW = _overlap(box[0], box[2], cols, width)
    inside_RC = down_RH.sum(1)[:, None] * across_CW.sum(1)
    painted_RC = down_RH @ painted_HW.double() @ across_CW.T
    sliver = ROUNDING * (box[2] - box[0]) * (box[3] - box[1]) / (rows * cols)
    return torch.where(inside_RC > sliver, painted_RC / inside_RC.clamp_min(sliver), 0.0)


def _overlap(low: float, high: float, cells: int, pixels: int) -> Tensor:
    """[cells, pixels] float64: how much of each pixel, from i to i + 1, lies in each cell of low..high."""
    edge = low + (high - low) * torch.arange(cells + 1, dtype=torch.float64)[:, None] / cells
    pixel = torch.arange(pixels, dtype=torch.float64)
    return (torch.minimum(edge[1:], pixel + 1) - torch.maximum(edge[:-1], pixel)).clamp_min(0)
