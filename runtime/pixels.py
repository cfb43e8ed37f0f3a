"""Pictures to tower input, bit for bit as CLIP's image processor with Pillow gives it.

uint8 all the way through Pillow's resize, then one table per channel for rescale and normalise: a pixel has
only 256 values, so looking them up is exact and cheap. S = tile side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pil
from torch import Tensor

from .anyres import Size
from .errors import MediaError

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]
MOST = 1 << 27  # pixels of an intermediate picture: 400 MB


def as_array(picture: Tensor) -> Pixels:
    """[H, W, 3] uint8, sharing memory."""
    array: Pixels = picture.numpy()
    return array


def resize(picture: Pixels, size: Size, box: Box | None = None) -> Pixels:
    """Pillow's antialiased bicubic resize of the whole picture, or of a box of it, to (width, height)."""
    if box is None and (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Pil.fromarray(picture).resize(size, Pil.Resampling.BICUBIC, box=box))


def square_canvas(picture: Pixels, colour: Colour) -> tuple[Pixels, int, int]:
    """The picture centred on a square of its longer side, and its left and top there."""
    height, width = picture.shape[:2]
    side = max(width, height)
    if side * side > MOST:
        raise MediaError(
            f"pad_square: a {width}x{height} picture would need a canvas of {side}x{side}; "
            "scale it down, or use resize_crop"
        )
    left, top = (side - width) // 2, (side - height) // 2
    return paste(picture, (side, side), left, top, colour), left, top


def paste(picture: Pixels, canvas: Size, left: int, top: int, colour: Colour) -> Pixels:
    """The picture on a canvas of one colour."""
    out: Pixels = np.empty((canvas[1], canvas[0], 3), np.uint8)
    out[:] = colour
    out[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return out


def shortest_side_crop(picture: Pixels, side: int) -> tuple[Pixels, Box]:
    """The shortest side resized to `side`, then the centre cropped; and the region that it shows."""
    height, width = picture.shape[:2]
    longer = int(side * max(width, height) / min(width, height))
    scaled = (side, longer) if width <= height else (longer, side)
    left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
    across, down = width / scaled[0], height / scaled[1]
    box = left * across, top * down, (left + side) * across, (top + side) * down
    if scaled[0] * scaled[1] > MOST:  # a hair-thin picture: resize only what stays
        return resize(picture, (side, side), box), box
    return resize(picture, scaled)[top : top + side, left : left + side], box


def twice_resized_crop(picture: Pixels, side: int, longest: int = 640) -> tuple[Pixels, Box]:
    """As PLLaVA makes a frame: scaled to at most `longest`, then `shortest_side_crop`; and what it shows.

    The first resize never makes the short side less than `side`; a picture that is small enough keeps its
    size, and is resized once.
    """
    height, width = picture.shape[:2]
    short, long = min(height, width), max(height, width)
    nearer = max(min(short, int(min(longest, long) / (long / short))), side)
    farther = int(nearer * long / short)
    size = (nearer, farther) if width <= height else (farther, nearer)
    if nearer * farther > MOST:  # a hair-thin picture: one resize of what stays
        return shortest_side_crop(picture, side)
    cell, box = shortest_side_crop(resize(picture, size), side)
    across, down = width / size[0], height / size[1]
    return cell, (box[0] * across, box[1] * down, box[2] * across, box[3] * down)


def rounded_size(size: Size, multiple: int, least: int, most: int) -> Size:
    """The nearest (width, height) in multiples of `multiple` that covers `least` to `most` pixels.

    As Qwen's `smart_resize`. Errors: MediaError for a picture over 200 times longer than wide.
    """
    width, height = size
    if max(size) > 200 * min(size):
        raise MediaError(
            f"preprocess: a {width}x{height} picture is over 200 times longer than wide; crop it"
        )
    sides = [round(side / multiple) * multiple for side in size]
    if sides[0] * sides[1] > most:
        shrink = math.sqrt(width * height / most)
        sides = [max(multiple, math.floor(side / shrink / multiple) * multiple) for side in size]
    elif sides[0] * sides[1] < least:
        grow = math.sqrt(least / (width * height))
        sides = [math.ceil(side * grow / multiple) * multiple for side in size]
    return sides[0], sides[1]


def cut(canvas: Pixels, side: int) -> Pixels:
    """[tiles, S, S, 3] in row-major order."""
    rows, cols = canvas.shape[0] // side, canvas.shape[1] // side
    return canvas.reshape(rows, side, cols, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)


def normalise(tiles: Sequence[Pixels] | Pixels, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[K, 3, S, S] float32: value / 255, minus mean, over std, rounded where the image processor rounds."""
    # float64 for the rescale, float32 from there on (transformers' rescale and normalize)
    unit = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    out = np.empty((len(tiles), 3, *tiles[0].shape[:2]), np.float32)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        table = (unit - np.float32(m)) / np.float32(s)
        for k, tile in enumerate(tiles):
            np.take(table, tile[..., channel], out=out[k, channel])
    return torch.from_numpy(out)


def mean_colour(mean: Sequence[float]) -> Colour:
    """The colour that normalises to almost zero: int(255 * mean) per channel."""
    red, green, blue = (int(255 * m) for m in mean)
    return red, green, blue
