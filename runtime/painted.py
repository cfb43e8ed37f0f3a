"""Masks: pictures in which somebody has painted, and the patches that the paint lies on.

Every patch has a box in its picture, so paint finds it through every pad, resize, crop and grid of tiles.
H, W = mask in pixels, P = patches of all tiles
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
from .patch_boxes import clipped_boxes
from .pictures import opened, rgb
from .values import Source
from .video.by_pictures import pictures_in
from .video.choose import check_readable

Size = tuple[int, int]
ROUNDING = 1e-9  # of a patch, or of a pixel: no paint, but arithmetic


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


def read_masks(where: str, path: Path | tuple[Path, ...]) -> list[Mask]:
    """The masks in a picture file, in a list of them, or in a folder, in natural order of their names.

    Errors: MediaError, beginning with `where`, for what is missing, damaged or no picture.
    """
    try:
        if not isinstance(path, tuple):
            check_readable(path, "painted picture")
            path = tuple(pictures_in(path, "masks")) if path.is_dir() else (path,)
        return [_read(one) for one in path]
    except LoomError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__


def _read(path: Path) -> Mask:
    """How opaque the pixels of a picture file are or, where all are opaque, how bright."""
    check_readable(path, "painted picture")
    if path.is_dir():
        raise MediaError(f"{path}: a folder in a list; give the folder alone, or picture files")
    with opened(path) as file:
        picture = ImageOps.exif_transpose(file)
        clear = "transparency" in picture.info and picture.mode in ("1", "L", "P", "RGB")
        if clear or picture.mode[-1:] in "Aa":
            alpha = np.array(picture.convert("RGBA").getchannel("A"))
            if alpha.min() < 255:
                return Mask(path.name, torch.from_numpy(alpha))
        return Mask(path.name, torch.from_numpy(np.array(rgb(path, picture), np.uint8).max(2)))


def check_masks(where: str, masks: Sequence[Mask], sizes: Sequence[Size], how: Painted) -> None:
    """A MediaError unless there is one mask for all pictures of these sizes or one for each, and they fit."""
    _check_some(where, masks)
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
    _check_some(where, masks)
    strongest = max(int(mask.level.max()) for mask in masks)
    if strongest < how.threshold:
        names = masks[0].name if len(masks) == 1 else f"all {len(masks)} masks"
        what = "nothing" if strongest == 0 else f"nothing above {strongest}"
        advice = "paint over what shall stay" if strongest == 0 else "lower it"
        raise MediaError(
            f"{where}: {what} is painted on {names}, wanted a level of {how.threshold} or more "
            f"(threshold); {advice}"
        )


def _check_some(where: str, masks: Sequence[Mask]) -> None:
    if not masks:
        raise MediaError(f"{where}: an empty list; give one mask for all pictures, or one for each")


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
    part_P = painted_shares(masks, source, how.threshold)
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
    """[P] float64: what part of each patch is painted, of what it shows of its picture; padding has 0.

    masks: one for all pictures, or one for each.
    """
    box_P4, frame_P = clipped_boxes(source), source.frame_of_tile.repeat_interleave(source.per_tile)
    size_P2 = torch.tensor(source.sizes, dtype=torch.float64)[frame_P]
    out_P = torch.zeros(len(source), dtype=torch.float64)
    for number, mask in enumerate(masks):  # not stacked: those of a long clip would fill the memory
        own_P = frame_P == number if len(masks) > 1 else torch.ones_like(frame_P, dtype=torch.bool)
        scale_P2 = torch.tensor(mask.size, dtype=torch.float64) / size_P2[own_P]
        out_P[own_P] = covered(mask.level >= threshold, box_P4[own_P] * scale_P2.repeat(1, 2))
    return out_P


def covered(painted_HW: Tensor, box_P4: Tensor) -> Tensor:
    """[P] float64: the painted part of each box (left, top, right, bottom), in pixels; 0 without area."""
    sum_HW = painted_HW.new_zeros([side + 1 for side in painted_HW.shape], dtype=torch.float64)
    sum_HW[1:, 1:] = painted_HW.double().cumsum(0).cumsum(1)
    left, top, right, bottom = box_P4.unbind(1)
    paint_P = (_at(sum_HW, bottom, right) - _at(sum_HW, top, right)) - (
        _at(sum_HW, bottom, left) - _at(sum_HW, top, left)
    )
    area_P = (right - left) * (bottom - top)
    return torch.where(area_P > ROUNDING, paint_P / area_P.clamp_min(ROUNDING), 0)


def _at(sum_HW: Tensor, y_P: Tensor, x_P: Tensor) -> Tensor:
    """[P]: sums of all pixels above and left of points, which are exact between pixels, too: bilinear."""
    row, col = (place.long().clamp(0, size - 2) for place, size in zip((y_P, x_P), sum_HW.shape, strict=True))
    upper = torch.lerp(sum_HW[row, col], sum_HW[row, col + 1], x_P - col)
    lower = torch.lerp(sum_HW[row + 1, col], sum_HW[row + 1, col + 1], x_P - col)
    return torch.lerp(upper, lower, y_P - row)
