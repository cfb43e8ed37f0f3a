"""A drawing of the visual tokens that each layer of the language model sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import count

from .comparison import Column

WIDTH, HEIGHT = 1040, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 18, 44  # margins in pixels; labels stand on the right
COLOURS = ("#8a8f98", "#2a78d6", "#d9582b", "#1f9d6b", "#9a5bd0", "#c98a00", "#c8397f", "#3aa7b8")
LINE = 15  # pixels from one label to the next
STYLE = (
    "text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #3d4752 } .grid { stroke: #d5dbe1 } "
    "@media (prefers-color-scheme: dark) { text { fill: #c6ced6 } .grid { stroke: #3a434d } }"
)


def chart(columns: Sequence[Column]) -> str:
    """SVG: a line per graph, as high as its visual tokens are many; "" where none says its layers."""
    shown = [column for column in columns if column.layers and not column.error]
    if not shown:
        return ""
    counts = {column.name: list(column.layers) for column in shown}
    most = max(*map(max, counts.values()), 1)
    depth = max(map(len, counts.values()))
    parts = [*_axes(most, depth), *_lines(counts, most, depth), *_labels(counts, most)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


def _across(place: float, depth: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * place / depth


def _down(count: float, most: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / most


def _axes(most: int, depth: int) -> list[str]:
    out: list[str] = []
    step = next(step for step in _steps() if most <= 6 * step)
    for tick in range(0, most + 1, step):
        y = _down(tick, most)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_text(LEFT - 8, y + 4, str(tick), "end"))
    every = max(1, depth // 8)
    places = [(n, _across(n + 0.5, depth)) for n in range(0, depth, every)]
    return [*out, *(_text(x, HEIGHT - BOTTOM + 20, f"layer {n}", "middle") for n, x in places)]


def _steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, ..."""
    return (digit * 10**power for power in count() for digit in (1, 2, 5))


def _lines(counts: dict[str, list[int]], most: int, depth: int) -> list[str]:
    """Each graph as steps, one per layer; graphs with equal counts lie a little beside each other."""
    out: list[str] = []
    for number, values in enumerate(counts.values()):
        aside = (number - (len(counts) - 1) / 2) * min(2.2, 12 / len(counts))
        points = [
            f"{_across(place + end, depth) + aside:.1f},{_down(value, most) + aside:.1f}"
            for place, value in enumerate(values)
            for end in (0, 1)
        ]
        colour = COLOURS[number % len(COLOURS)]
        out.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2" '
            'stroke-linejoin="round"/>'
        )
    return out


def _labels(counts: dict[str, list[int]], most: int) -> list[str]:
    """Names at the ends of the lines, moved apart where they would meet."""
    ends = sorted((_down(values[-1], most), number) for number, values in enumerate(counts.values()))
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + LINE if places else TOP))
    over = max(0.0, places[-1] - (HEIGHT - BOTTOM))
    for i in reversed(range(len(places))):
        limit = HEIGHT - BOTTOM if i == len(places) - 1 else places[i + 1] - LINE
        places[i] = min(places[i], limit) if over else places[i]
    names = list(counts)
    out: list[str] = []
    for place, (y, number) in zip(places, ends, strict=True):
        x, colour = WIDTH - RIGHT, COLOURS[number % len(COLOURS)]
        name = names[number] if len(names[number]) < 30 else names[number][:29] + "…"
        out.append(f'<path d="M{x + 6} {y:.1f}L{x + 22} {place:.1f}" stroke="{colour}" stroke-width="2"/>')
        out.append(_text(x + 27, place + 4, f"{counts[names[number]][-1]}  {name}"))
    return out


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
