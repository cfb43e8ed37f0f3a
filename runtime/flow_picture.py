"""Stages as columns of tokens, with ribbons from each to the next: a Sankey diagram.

Sizes are in pixels of the finished picture; it is drawn larger and made smaller, so that edges are smooth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw

from .figure import FRAME, INK, MARGIN, PAPER, SMALL, SOFT, TEXT, TITLE, font, text_width, wrapped
from .flow import Flows, Stage, flows
from .roles import Colour, Role, colour_of, name_of
from .values import Picture

FINER = 3  # times as large as the picture while it is drawn
COLUMN, BETWEEN, TALL, SWATCH = 30, 150, 330, 14
VEIL = 105  # of 255, how strong the colour of a ribbon is
LEAST = 2.0  # height of tokens that are too few to be seen
GREY = (158, 160, 166)
SMALLEST = 0.04  # part of the largest stage below which heights are roots
Heights = Literal["auto", "tokens", "root"]
Point = tuple[float, float]
Span = tuple[float, float]
Ribbon = tuple[Span, Span | None, Colour]


@dataclass(frozen=True)
class _Column:
    """Where a stage stands: its left edge, and the top and bottom of the tokens of each role."""

    stage: Stage
    left: float
    spans: Mapping[Role, Span]


def flow_picture(stages: Sequence[Stage], title: str = "", heights: Heights = "auto") -> Picture:
    """The stages from left to right; as high as they have tokens, coloured by role, with a legend.

    Ribbons join what goes on, and narrow where tokens are merged; grey ones that fade are dropped tokens.
    heights: of a column, by its tokens, or by their square root.
    """
    root = heights == "root" or (heights == "auto" and _far_apart(stages))
    title = title or _title(stages)
    inner = len(stages) * COLUMN + (len(stages) - 1) * BETWEEN + BETWEEN
    lines = wrapped(title, TITLE, inner)
    width = BETWEEN + COLUMN - 16
    names = [[part for line in s.name.split("\n") for part in wrapped(line, TEXT, width)] for s in stages]
    head = MARGIN + len(lines) * (TITLE + 6) + 10
    top = head + (max(map(len, names)) + 2) * (TEXT + 4) + 10
    going = [flows(before, after) for before, after in pairwise(stages)]
    keys = _keys(stages, going)
    rows = _key_rows(keys, inner)
    foot = top + TALL + 40
    height = foot + (len(rows) + root) * 22 + MARGIN
    image = Image.new("RGB", ((inner + 2 * MARGIN) * FINER, height * FINER), PAPER)
    columns = _columns(stages, top, root)
    for (before, after), some in zip(pairwise(columns), going, strict=True):
        _draw_ribbons(image, before, after, some)
    draw = ImageDraw.Draw(image)
    for column in columns:
        for role, (first, last) in column.spans.items():
            box = (column.left, first, column.left + COLUMN, last)
            draw.rectangle(_finer(box), fill=colour_of(role), outline=PAPER, width=1)
    small = image.resize((inner + 2 * MARGIN, height), Image.Resampling.LANCZOS)
    _write(small, columns, names, lines, top)
    _write_dropped(small, columns, going, top + TALL + 8)
    _draw_legend(small, rows, foot)
    if root:
        note = "heights by the square root of the tokens"
        ImageDraw.Draw(small).text((MARGIN, foot + len(rows) * 22), note, SOFT, font(SMALL))
    return Picture(torch.from_numpy(np.array(small)), title)


def _title(stages: Sequence[Stage]) -> str:
    first, last = stages[0].visual, stages[-1].visual
    return f"From {first} tokens to {last}" + (f", {percent(last, first)}" if first and last < first else "")


def _far_apart(stages: Sequence[Stage]) -> bool:
    totals = [stage.total for stage in stages]
    return 0 < min(totals) < SMALLEST * max(totals)


def percent(part: int, whole: int) -> str:
    """`11 %`, `2.5 %`, `100 %`."""
    value = 100 * part / whole
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def _columns(stages: Sequence[Stage], top: float, root: bool) -> list[_Column]:
    """Every stage in the middle of the height, the largest as high as there is room."""
    most = max(stage.total for stage in stages) or 1
    out: list[_Column] = []
    for number, stage in enumerate(stages):
        tall = TALL * ((stage.total / most) ** 0.5 if root else stage.total / most)
        sizes = {role: max(LEAST, tall * n / stage.total) for role, n in stage.counts.items() if n}
        y, spans = top + (TALL - sum(sizes.values())) / 2, dict[Role, Span]()
        for role, size in sizes.items():
            spans[role] = y, y + size
            y += size
        out.append(_Column(stage, MARGIN + BETWEEN / 2 + number * (COLUMN + BETWEEN), spans))
    return out


def _draw_ribbons(image: Image.Image, before: _Column, after: _Column, going: Flows) -> None:
    """What is dropped, and over it what goes on: from the right of one column to the left of the next."""
    x0, x1 = before.left + COLUMN, after.left
    found = list(_ribbons(before, after, going))
    for left, right, colour in sorted(found, key=lambda ribbon: ribbon[1] is not None):
        if right is None:
            _draw_fading(image, (x0, x0 + BETWEEN * 0.62), left)
            continue
        layer = _ribbon(image, (x0, x1), left, right, VEIL)
        image.paste(colour, (round(x0 * FINER), 0), mask=layer)


def _ribbons(before: _Column, after: _Column, going: Flows) -> Iterator[Ribbon]:
    """Where each flow leaves and arrives; at both ends the flows share a role's height by their tokens."""
    into = {role: sum(n for (_, to), n in going.items() if to == role) for role in after.spans}
    arrived = {role: span[0] for role, span in after.spans.items()}
    for role, (first, last) in before.spans.items():
        unit, y = (last - first) / before.stage.counts[role], first
        mine = [(to, n) for (source, to), n in going.items() if source == role and n]
        for to, n in sorted(mine, key=lambda pair: (pair[0] is None, pair[0] or 0)):
            left = (y, y + n * unit)
            y = left[1]
            if to is None:
                yield left, None, GREY
                continue
            whole = after.spans[to][1] - after.spans[to][0]
            part = whole * n / into[to] * min(1.0, into[to] / after.stage.counts[to])
            yield left, (arrived[to], arrived[to] + part), colour_of(to)
            arrived[to] += part


def _curve(start: Point, end: Point, steps: int = 48) -> list[Point]:
    """A curve that leaves and arrives level."""
    out: list[Point] = []
    for i in range(steps + 1):
        t = i / steps
        ease = t * t * (3 - 2 * t)
        out.append((start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * ease))
    return out


def _draw_fading(image: Image.Image, across: Span, left: Span) -> None:
    """A ribbon that bends down and fades out."""
    drop = 26 + 0.12 * (left[1] - left[0])
    layer = np.asarray(_ribbon(image, across, left, (left[0] + drop, left[1] + drop)))
    fade = np.linspace(0.6, 0, layer.shape[1])
    mask = Image.fromarray((layer * fade).astype(np.uint8))
    image.paste(GREY, (round(across[0] * FINER), 0), mask=mask)


def _ribbon(image: Image.Image, across: Span, left: Span, right: Span, strength: int = 255) -> Image.Image:
    """A mask of a ribbon between two edges, as high as the image and as wide as it is long."""
    width = across[1] - across[0]
    layer = Image.new("L", (round(width * FINER), image.size[1]))
    upper, lower = _curve((0, left[0]), (width, right[0])), _curve((0, left[1]), (width, right[1]))
    ImageDraw.Draw(layer).polygon([_fine(point) for point in (*upper, *reversed(lower))], fill=strength)
    return layer


def _fine(point: Point) -> Point:
    return point[0] * FINER, point[1] * FINER


def _finer(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left * FINER, top * FINER, right * FINER, bottom * FINER


def _write(
    image: Image.Image,
    columns: Sequence[_Column],
    names: Sequence[Sequence[str]],
    title: Sequence[str],
    top: int,
) -> None:
    """Title, and above every column its name, its tokens, and what part of the first they are."""
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(title):
        draw.text((MARGIN, MARGIN + i * (TITLE + 6)), line, INK, font(TITLE))
    first, step = columns[0].stage.visual, TEXT + 4
    for column, lines in zip(columns, names, strict=True):
        middle, y = column.left + COLUMN / 2, top - 8 - (len(lines) + 2) * step
        for i, line in enumerate(lines):
            draw.text((middle, y + i * step), line, SOFT, font(TEXT), anchor="ma")
        stage = column.stage
        count = str(stage.visual) + (f" + {stage.text} text" if stage.text else "")
        draw.text((middle, y + len(lines) * step), count, INK, font(TITLE), anchor="ma")
        part = percent(stage.visual, first) if first and column is not columns[0] else ""
        draw.text((middle, y + (len(lines) + 1) * step + 2), part, SOFT, font(SMALL), anchor="ma")


def _write_dropped(image: Image.Image, columns: Sequence[_Column], going: Sequence[Flows], y: float) -> None:
    """Between two columns how many tokens are dropped there."""
    draw = ImageDraw.Draw(image)
    for (before, after), some in zip(pairwise(columns), going, strict=True):
        if gone := sum(n for (_, to), n in some.items() if to is None):
            middle = (before.left + COLUMN + after.left) / 2
            draw.text((middle, y), f"{gone} dropped", SOFT, font(SMALL), anchor="ma")


def _keys(stages: Sequence[Stage], going: Sequence[Flows]) -> list[tuple[Colour, str]]:
    there = sorted({role for stage in stages for role in stage.counts})
    keys = [(colour_of(role), "single patches" if role == Role.KEPT else name_of(role)) for role in there]
    return keys + ([(GREY, "dropped")] if any(to is None for some in going for _, to in some) else [])


def _key_rows(keys: Sequence[tuple[Colour, str]], width: int) -> list[list[tuple[Colour, str]]]:
    rows: list[list[tuple[Colour, str]]] = []
    used = 0
    for colour, name in keys:
        need = SWATCH + 6 + text_width(name, TEXT) + 20
        if not rows or used + need > width:
            rows.append([])
            used = 0
        rows[-1].append((colour, name))
        used += need
    return rows


def _draw_legend(image: Image.Image, rows: Sequence[Sequence[tuple[Colour, str]]], y: int) -> None:
    draw = ImageDraw.Draw(image)
    for row in rows:
        x = MARGIN
        for colour, name in row:
            draw.rectangle((x, y, x + SWATCH, y + SWATCH), fill=colour, outline=FRAME)
            draw.text((x + SWATCH + 6, y + SWATCH / 2), name, INK, font(TEXT), anchor="lm")
            x += SWATCH + 6 + text_width(name, TEXT) + 20
        y += 22
