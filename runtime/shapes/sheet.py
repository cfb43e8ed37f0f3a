"""A sheet of sample scenes with a question and its answer below each: what the benchmark looks like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .items import Item
from .scene import SIDE

_GAP, _LINE = 10, 15
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 36, 44), (104, 110, 122)


def sheet(items: Sequence[Item], *, columns: int = 6) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3]: pictures in rows of `columns` at twice their size, clips one in a row.

    At most 8 frames of a clip are shown, evenly spaced.
    """
    clips = items[0].settings.frames is not None
    scale = 1 if clips else 2
    shown = [_frames(item) for item in items]
    across = max(len(frames) for frames in shown) if clips else min(columns, len(items))
    down = len(items) if clips else -(-len(items) // columns)
    cell, text = SIDE * scale, _LINE * 2 + 6
    width, height = _GAP + across * (cell + _GAP), _GAP + down * (cell + text + _GAP)
    page = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for nth, (item, frames) in enumerate(zip(items, shown, strict=True)):
        row, column = (nth, 0) if clips else divmod(nth, columns)
        left, top = _GAP + column * (cell + _GAP), _GAP + row * (cell + text + _GAP)
        for t, pixels in enumerate(frames):
            tile = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.NEAREST)
            page.paste(tile, (left + t * (cell + _GAP), top))
        asked = item.questions[nth % len(item.questions)]
        pen.text((left, top + cell + 3), asked.text, _INK, font)
        pen.text((left, top + cell + 3 + _LINE), f"{asked.answer} ({asked.kind})", _FAINT, font)
    return np.asarray(page)


def _frames(item: Item) -> NDArray[np.uint8]:
    pixels = item.pixels()
    shown = np.linspace(0, len(pixels) - 1, min(len(pixels), 8)).round().astype(int)
    return np.asarray(pixels[shown])
