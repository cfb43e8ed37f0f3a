"""Figures out of pictures: panels side by side with labels, groups, a title, a legend and a colour bar.

H, W = pixels of a panel
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .values import Picture

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
INK, SOFT, PAPER, FRAME = (25, 30, 36), (95, 104, 114), (255, 255, 255), (150, 156, 164)
MARGIN, GAP, LINE, BAR = 16, 12, 20, 22
TEXT, SMALL, TITLE = 14, 13, 17
NARROWEST = 420  # of what stands beside the margins, so that a legend has room
ASPECT = 1.5  # width over height that a sheet of many panels comes near


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: uint8 [H, W, 3], the text above it, and the number of its group (-1: none)."""

    pixels: Pixels
    label: str = ""
    group: int = -1


@dataclass(frozen=True)
class Key:
    """One entry of a legend: its colours side by side in the swatch, and the text. mark: a dot in it."""

    colours: tuple[Colour, ...]
    text: str
    mark: bool = False


@dataclass(frozen=True)
class ColourBar:
    """A scale: colours from low to high, and the texts at its two ends; `name` stands before it."""

    colours: Pixels
    low: str
    high: str
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a figure consists of. columns: panels in a row; 0: as many as look best, in multiples of `unit`.

    groups: name and colour of each group; panels of one group in a row have one bar above them.
    """

    panels: Sequence[Panel]
    title: str = ""
    legend: Sequence[Key] = ()
    bar: ColourBar | None = None
    columns: int = 0
    unit: int = 1
    groups: Mapping[int, tuple[str, Colour]] = field(default_factory=dict[int, tuple[str, Colour]])

    def picture(self) -> Picture:
        """The figure drawn; its caption is the title."""
        return Picture(torch.from_numpy(_drawn(self)), self.title)


@lru_cache(maxsize=64)
def font(size: int) -> Font:
    """Pillow's own font, so that figures are the same on every machine."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Pixels of a text."""
    return math.ceil(font(size).getlength(text))


def wrapped(text: str, size: int, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces; a longer word stands alone."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def fitted_text(text: str, size: int, width: int) -> str:
    """The text, cut at its end where it is wider than `width`."""
    if text_width(text, size) <= width:
        return text
    keep = next((n for n in range(len(text), 0, -1) if text_width(text[:n] + "...", size) <= width), 0)
    return text[:keep] + "..." if keep else ""


def panel_side(panels: int) -> int:
    """Pixels of the longest side of a panel, so that a figure of so many stays readable and not huge."""
    return next((side for most, side in ((1, 672), (2, 560), (6, 416), (16, 304)) if panels <= most), 232)


def columns_for(sizes: Sequence[tuple[int, int]], unit: int = 1) -> int:
    """How many panels of these (width, height) stand in a row: near ASPECT, and rows filled if possible.

    unit: panels that belong together and stay in one row.
    """
    width, height = max(w for w, _ in sizes) + GAP, max(h for _, h in sizes) + GAP + LINE
    count = len(sizes)

    def apart(columns: int) -> tuple[float, int]:
        rows = -(-count // columns)
        ratio = columns * width / (rows * height) / ASPECT
        return round(abs(math.log(ratio)) + 1.2 * (columns * rows - count) / count, 6), columns

    return min(range(min(unit, count), count + 1, unit), key=apart)


def _drawn(figure: Figure) -> Pixels:
    """[H, W, 3]: title, rows of panels, legend and bar from top to bottom."""
    columns = figure.columns or columns_for(
        [(panel.pixels.shape[1], panel.pixels.shape[0]) for panel in figure.panels], figure.unit
    )
    rows = [figure.panels[i : i + columns] for i in range(0, len(figure.panels), columns)]
    cell = max(panel.pixels.shape[1] for panel in figure.panels)
    wide = min(columns, len(figure.panels)) * (cell + GAP) - GAP
    inner = max(wide, NARROWEST)
    title = wrapped(figure.title, TITLE, inner)
    entries = _legend_rows(figure.legend, inner)
    heights = [_row_height(row, bool(figure.groups)) for row in rows]
    head = len(title) * (TITLE + 6) + (8 if title else 0)
    tail = (10 + len(entries) * LINE if entries else 0) + (LINE + 12 if figure.bar else 0)
    height = 2 * MARGIN + head + sum(heights) + GAP * (len(rows) - 1) + tail
    sheet = Image.new("RGB", (inner + 2 * MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in title:
        draw.text((MARGIN, y), line, INK, font(TITLE))
        y += TITLE + 6
    y, groups = MARGIN + head, dict(figure.groups)
    for row, tall in zip(rows, heights, strict=True):
        _draw_row(sheet, draw, row, MARGIN + (inner - wide) // 2, y, cell, groups)
        last = row[-1].group
        if last in groups:  # it may go on in the next row
            groups[last] = f"{figure.groups[last][0]}, continued", groups[last][1]
        y += tall + GAP
    y += 10 - GAP
    for entry in entries:
        _draw_keys(draw, entry, MARGIN, y)
        y += LINE
    if figure.bar is not None:
        _draw_bar(sheet, draw, figure.bar, y + 6, inner)
    return np.asarray(sheet).copy()


def _row_height(row: Sequence[Panel], grouped: bool) -> int:
    tallest: int = max(panel.pixels.shape[0] for panel in row)
    return tallest + LINE * any(panel.label for panel in row) + BAR * grouped


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    row: Sequence[Panel],
    x: int,
    y: int,
    cell: int,
    groups: Mapping[int, tuple[str, Colour]],
) -> None:
    """Panels with their labels; one bar above each run of a group."""
    if groups:
        left = x
        for number, run in groupby(panel.group for panel in row):
            width = len(list(run)) * (cell + GAP) - GAP
            if number in groups:
                _draw_group(draw, (left, y, left + width, y + BAR - 6), *groups[number])
            left += width + GAP
        y += BAR
    labelled = any(panel.label for panel in row)
    for number, panel in enumerate(row):
        left = x + number * (cell + GAP) + (cell - panel.pixels.shape[1]) // 2
        if panel.label:
            draw.text((left, y), fitted_text(panel.label, SMALL, cell), SOFT, font(SMALL))
        top = y + LINE * labelled
        sheet.paste(Image.fromarray(panel.pixels), (left, top))
        right, bottom = left + panel.pixels.shape[1], top + panel.pixels.shape[0]
        draw.rectangle((left - 1, top - 1, right, bottom), outline=FRAME)


def _draw_group(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], name: str, colour: Colour) -> None:
    left, top, right, bottom = box
    draw.rectangle((left - 1, top, right, bottom), fill=colour)
    text = fitted_text(name, SMALL, right - left - 8)
    draw.text((left + 5, (top + bottom) // 2), text, on(colour), font(SMALL), anchor="lm")


def on(colour: Colour) -> Colour:
    """Black or white, whichever can be read on the colour."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else PAPER


def _legend_rows(legend: Sequence[Key], width: int) -> list[list[Key]]:
    """Entries as many to a line as fit."""
    rows: list[list[Key]] = []
    used = 0
    for key in legend:
        need = _key_width(key)
        if not rows or used + need > width + GAP:
            rows.append([])
            used = 0
        rows[-1].append(key)
        used += need
    return rows


def _swatch(key: Key) -> int:
    return 10 + 8 * len(key.colours)


def _key_width(key: Key) -> int:
    return _swatch(key) + 6 + text_width(key.text, TEXT) + 20


def _draw_keys(draw: ImageDraw.ImageDraw, keys: Sequence[Key], x: int, y: int) -> None:
    for key in keys:
        width = _swatch(key)
        edges = [x + round(width * i / len(key.colours)) for i in range(len(key.colours) + 1)]
        for colour, left, right in zip(key.colours, edges, edges[1:], strict=False):
            draw.rectangle((left, y + 2, right, y + 15), fill=colour)
        draw.rectangle((x, y + 2, x + width, y + 15), outline=SOFT)
        if key.mark:
            middle = x + width / 2
            draw.ellipse((middle - 4, y + 4.5, middle + 4, y + 12.5), fill=PAPER, outline=INK)
        draw.text((x + width + 6, y + 9), key.text, INK, font(TEXT), anchor="lm")
        x += _key_width(key)


def _draw_bar(sheet: Image.Image, draw: ImageDraw.ImageDraw, bar: ColourBar, y: int, width: int) -> None:
    """Name, low, colours, high in one line, as wide as the figure."""
    x = MARGIN
    if bar.name:
        draw.text((x, y + 8), bar.name, INK, font(TEXT), anchor="lm")
        x += text_width(bar.name, TEXT) + 14
    draw.text((x, y + 8), bar.low, SOFT, font(SMALL), anchor="lm")
    x += text_width(bar.low, SMALL) + 8
    right = MARGIN + width - text_width(bar.high, SMALL) - 8
    strip = np.broadcast_to(bar.colours[None], (15, *bar.colours.shape))
    sheet.paste(Image.fromarray(np.ascontiguousarray(strip)).resize((max(right - x, 1), 15)), (x, y))
    draw.rectangle((x, y, max(right, x + 1), y + 15), outline=SOFT)
    draw.text((right + 8, y + 8), bar.high, SOFT, font(SMALL), anchor="lm")
