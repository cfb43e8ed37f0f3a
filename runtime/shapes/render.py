"""Pixels of a scene, and for every patch what is in it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .scene import COLOURS, SIDE, TAG, Scene, Thing

_FINE = 4  # supersampling
_DIGITS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)


@lru_cache(maxsize=256)
def sprite(shape: str, diameter: int) -> NDArray[np.float32]:
    """How much of each pixel the shape covers, [diameter, diameter] float32 in 0 to 1."""
    n = diameter * _FINE
    y, x = (np.mgrid[:n, :n] + 0.5) / n * 2 - 1
    radius = np.hypot(x, y)
    inside = {
        "circle": radius <= 1,
        "square": (abs(x) <= 0.88) & (abs(y) <= 0.88),
        "triangle": (y <= 0.85) & (abs(x) <= (y + 0.95) / 1.8),
        "cross": (abs(x) <= 0.3) | (abs(y) <= 0.3),
        "ring": (radius <= 1) & (radius >= 0.56),
    }[shape]
    fine = inside.reshape(diameter, _FINE, diameter, _FINE)
    return np.asarray(fine.mean(axis=(1, 3), dtype=np.float32))


@lru_cache(maxsize=10)
def tag_sprite(digit: int) -> NDArray[np.uint8]:
    """The tag with its digit, [18, 14] uint8: white strokes two pixels wide on black."""
    cells = [[int(c) for c in row] for row in _DIGITS[digit].split()]
    glyph = np.array(cells, np.uint8).repeat(2, 0).repeat(2, 1)
    tag = np.full((TAG[1], TAG[0]), 12, np.uint8)
    tag[2:16, 2:12] = 12 + glyph * 236
    return tag


def render(scene: Scene, frames: int) -> NDArray[np.uint8]:
    """The scene at `frames` moments from the first to the last, uint8 [frames, 112, 112, 3].

    One frame is the first moment.
    """
    canvas = np.empty((frames, SIDE, SIDE, 3), np.float32)
    canvas[:] = _background(scene)
    for picture, moment in zip(canvas, moments(frames), strict=True):
        for thing in scene.things:
            if not thing.visible(moment):
                continue
            left, top, right, bottom = box(thing, moment)
            cover = sprite(thing.shape, thing.diameter)[..., None]
            part = picture[top:bottom, left:right]
            part += cover * (np.asarray(COLOURS[thing.colour], np.float32) - part)
        if scene.digit is not None and scene.shows_tag(moment):
            x, y = scene.tag
            picture[y : y + TAG[1], x : x + TAG[0]] = tag_sprite(scene.digit)[..., None]
    return canvas.clip(0, 255).astype(np.uint8)


def moments(frames: int) -> tuple[float, ...]:
    """`frames` moments of a clip, from 0 to 1 in equal steps."""
    return tuple(i / (frames - 1) for i in range(frames)) if frames > 1 else (0.0,)


def box(thing: Thing, moment: float) -> tuple[int, int, int, int]:
    """The pixels that an object takes up at that moment: left, top, and right and bottom exclusively."""
    (x, y), half = thing.centre(moment), thing.diameter / 2
    left, top = round(x - half), round(y - half)
    return left, top, left + thing.diameter, top + thing.diameter


def patch_labels(scene: Scene, frames: int, grid: int) -> NDArray[np.int8]:
    """For every patch the number of the thing that covers it, int8 [frames, grid, grid].

    Things count from 1, the tag is -1, background 0. A patch belongs to what covers most of it, if that is
    more than a twelfth of the patch.
    """
    step = SIDE // grid
    found = np.zeros((frames, grid, grid), np.int8)
    for t, moment in enumerate(moments(frames)):
        most = np.full((grid, grid), step * step / 12, np.float32)
        layers = [
            (n, box(thing, moment)[:2], sprite(thing.shape, thing.diameter))
            for n, thing in enumerate(scene.things, 1)
            if thing.visible(moment)
        ]
        if scene.shows_tag(moment):
            layers.append((-1, scene.tag, np.ones((TAG[1], TAG[0]), np.float32)))
        for number, (left, top), cover in layers:
            r0, c0 = top // step, left // step
            r1, c1 = (top + cover.shape[0] - 1) // step + 1, (left + cover.shape[1] - 1) // step + 1
            window = np.zeros(((r1 - r0) * step, (c1 - c0) * step), np.float32)
            window[top - r0 * step :, left - c0 * step :][: cover.shape[0], : cover.shape[1]] = cover
            amount = window.reshape(r1 - r0, step, c1 - c0, step).sum(axis=(1, 3))
            old = most[r0:r1, c0:c1]
            found[t, r0:r1, c0:c1][amount > old] = number
            old[:] = np.maximum(amount, old)
    return found


def _background(scene: Scene) -> NDArray[np.float32]:
    ramp = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    light = scene.slope[0] * ramp[None, :] + scene.slope[1] * ramp[:, None]
    noise = np.random.default_rng(scene.grain).integers(-5, 6, (SIDE, SIDE, 3), dtype=np.int8)
    return np.asarray(np.asarray(scene.background, np.float32) + light[..., None] + noise, np.float32)
