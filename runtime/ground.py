"""The ground of an overlay: a picture with what its tiles show beyond it, and the patch under every pixel.

H, W = pixels of a panel
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .figure import INK, PAPER, Pixels
from .patch_boxes import Box, View, canvas_of, patches_at
from .values import Source

PADDING = (205, 208, 212)
RED = (235, 20, 20)


@dataclass(frozen=True)
class Ground:
    """One view, drawn: uint8 [H, W, 3], and which patch each of its pixels shows.

    inside: [H, W] bool, the picture without padding. patch: [H, W] long, -1: none. across, down: [H, W],
    where in the patch, 0..1. box: of the whole panel in the picture's pixels. cell: width and height of a
    patch in pixels of the panel.
    """

    pixels: Tensor
    inside: Tensor
    patch: Tensor
    across: Tensor
    down: Tensor
    box: Box
    cell: tuple[float, float]


def ground(source: Source, view: View, picture: Tensor, side: int) -> Ground:
    """A picture [H, W, 3] uint8 with all that the view's tiles show beyond it, `side` pixels long.

    A long thin picture is at least 48 pixels wide.
    """
    box = left, top, right, bottom = canvas_of(source, view)
    scale = side / max(right - left, bottom - top)
    width, height = (max(48, round(edge * scale)) for edge in (right - left, bottom - top))
    across, down = width / (right - left), height / (bottom - top)
    size = max(1, round(picture.shape[1] * across)), max(1, round(picture.shape[0] * down))
    shown = Image.fromarray(picture.cpu().numpy()).resize(size, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (width, height), PADDING)
    corner = round(-left * across), round(-top * down)
    sheet.paste(shown, corner)
    inside = Image.new("1", (width, height))
    inside.paste(1, (*corner, corner[0] + size[0], corner[1] + size[1]))
    x_W = left + (torch.arange(width, dtype=torch.float64) + 0.5) / across
    y_H = top + (torch.arange(height, dtype=torch.float64) + 0.5) / down
    patch_HW, across_HW, down_HW = patches_at(source, view.tiles, x_W, y_H)
    tile = source.tiles[view.tiles[0]].box
    cell = (tile[2] - tile[0]) / source.cols * across, (tile[3] - tile[1]) / source.rows * down
    pixels = torch.from_numpy(np.array(sheet))
    return Ground(
        pixels, torch.from_numpy(np.array(inside)), patch_HW, across_HW.float(), down_HW.float(), box, cell
    )


def marked_patch(base: Ground, pixels: Tensor, patch: int) -> Tensor:
    """The panel with a white frame, rimmed dark, around one patch and a red dot in it; as it is without."""
    here = base.patch == patch
    if patch < 0 or not bool(here.any()):
        return pixels
    image = Image.fromarray(pixels.numpy())
    draw = ImageDraw.Draw(image)
    y, x = here.nonzero().unbind(1)
    left, top, right, bottom = int(x.min()), int(y.min()), int(x.max()), int(y.max())
    for grown, colour in ((2, INK), (1, PAPER), (0, PAPER)):
        draw.rectangle((left - grown, top - grown, right + grown, bottom + grown), outline=colour)
    middle, centre, radius = (left + right) / 2, (top + bottom) / 2, max(2.5, min(base.cell) * 0.18)
    box = (middle - radius, centre - radius, middle + radius, centre + radius)
    draw.ellipse(box, fill=RED, outline=PAPER)
    return torch.from_numpy(np.array(image))


def plain_panel(picture: Tensor, side: int) -> Pixels:
    """A picture [H, W, 3] uint8 as a panel whose longest side is `side`."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(48, round(width * scale)), max(48, round(height * scale))
    return np.array(Image.fromarray(picture.cpu().numpy()).resize(size, Image.Resampling.LANCZOS))
