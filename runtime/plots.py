"""Quality against cost as a picture: points in series, intervals, the Pareto front marked (matplotlib)."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LoomError
from .files import write_whole
from .pareto import front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
FRONT = "#111827"
NAMED = 12  # points of the front that are named, at most
SHORT = 24  # characters of a label that may stand beside its point
CHARACTER, LINE = 0.009, 0.05  # of a label, as parts of the axes' width and height
ENDINGS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured setting. x: cost. y: quality. label: its settings. low, high: of an interval around y."""

    x: float
    y: float
    label: str = ""
    series: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a plot shows: names of its axes, its title, and whether more of y is better."""

    x: str
    y: str
    title: str = ""
    higher: bool = True
    log_x: bool = False


def check_plot(path: Path, where: str = "--plot") -> None:
    """Errors: LoomError without matplotlib, or for a file that it does not write. Called before any work."""
    if path.suffix.lower() not in ENDINGS:
        raise LoomError(f"{where} {path}: wants a file name that ends in {', '.join(ENDINGS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise LoomError(
            f"{where} {path}: drawing needs matplotlib; pip install 'tokenloom[report]'"
        ) from None


def scatter(points: Sequence[Point], axes: Axes) -> Figure:
    """The points by series, joined to a step line where they are on the Pareto front of them all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    points = [replace(p, label=_literal(p.label), series=_literal(p.series)) for p in points]
    best = front([(p.x, p.y) for p in points], higher=axes.higher)
    for number, name in enumerate(dict.fromkeys(p.series for p in points)):
        _series(ax, [p for p in points if p.series == name], name, number)
    if axes.log_x and all(p.x > 0 for p in points):
        ax.set_xscale("log")
    ax.margins(0.08, 0.12)
    on = sorted((p for p, on in zip(points, best, strict=True) if on), key=lambda p: p.x)
    if names := _front(ax, on, axes.higher):
        figure.set_figheight(5 + 0.17 * len(names))
        ax.annotate(
            "\n".join(names),
            (0, 0),
            xytext=(0, -42),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="#374151",
            linespacing=1.3,
        )
    ax.set_xlabel(axes.x)
    ax.set_ylabel(axes.y)
    ax.set_title(_literal(axes.title), loc="left", fontsize=11)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=8)
    return figure


def _literal(text: str) -> str:
    """A text that matplotlib does not read as mathematics: of questions and titles that name dollars."""
    return text.replace("$", r"\$")


def _series(ax: Any, points: Sequence[Point], name: str, number: int) -> None:
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    ax.scatter(
        [p.x for p in points], [p.y for p in points], s=34, c=colour, marker=mark, alpha=0.8, zorder=3,
        label=name or None, linewidths=0,
    )  # fmt: skip
    ranged = [(p, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if ranged:
        ax.vlines(
            [p.x for p, _, _ in ranged],
            [low for _, low, _ in ranged],
            [high for _, _, high in ranged],
            colors=colour,
            alpha=0.35,
            zorder=2,
        )


def _front(ax: Any, points: Sequence[Point], higher: bool) -> list[str]:
    """Draw a step line through the front and rings around its points; labels too long for that are numbered.

    The numbers' labels.
    """
    if not points:
        return []
    xs, ys = [p.x for p in points], [p.y for p in points]
    ax.step(xs, ys, where="post", color=FRONT, linewidth=1, linestyle="--", alpha=0.6, zorder=1)
    ax.scatter(
        xs, ys, s=90, facecolors="none", edgecolors=FRONT, linewidths=1.3, zorder=4, label="Pareto front"
    )
    named = list(_named(points).items())
    if len(named) > NAMED:
        named = [named[round(i * (len(named) - 1) / (NAMED - 1))] for i in range(NAMED)]
    numbered = any(len(label) > SHORT for _, label in named) or _crowded(ax, named)
    for number, (place, label) in enumerate(named, start=1):
        left = place[0] <= (min(xs) + max(xs)) / 2
        ax.annotate(
            str(number) if numbered else label,
            place,
            xytext=(7 if left else -7, 7 if higher else -7),
            textcoords="offset points",
            fontsize=8,
            ha="left" if left else "right",
            va="bottom" if higher else "top",
            color="#374151",
        )
    return [f"{number}  {label}" for number, (_, label) in enumerate(named, start=1)] if numbered else []


def _crowded(ax: Any, named: Sequence[tuple[tuple[float, float], str]]) -> bool:
    """Whether a label would reach the next one."""
    to_axes = ax.transData + ax.transAxes.inverted()
    places = [to_axes.transform(place) for place, _ in named]
    return any(
        abs(a[1] - b[1]) < LINE and abs(a[0] - b[0]) < CHARACTER * max(len(first), len(second))
        for ((_, first), a), ((_, second), b) in pairwise(zip(named, places, strict=True))
    )


def _named(points: Sequence[Point]) -> dict[tuple[float, float], str]:
    """The front's labels by place; of equal points the first one's."""
    places: dict[tuple[float, float], list[str]] = {}
    for point in points:
        name = ": ".join(filter(None, (point.series, point.label)))
        places.setdefault((point.x, point.y), []).append(name)
    return {
        place: names[0] + (f", and {len(names) - 1} more alike" if len(names) > 1 else "")
        for place, names in places.items()
        if any(names)
    }


def save_figure(figure: Figure, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write the picture, whole or not at all. texts: chunks of a PNG that go with it."""
    kind = path.suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=dict(texts or {}) if kind == "png" else None)
    try:
        os.makedirs(path.parent, exist_ok=True)
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise LoomError(f"{path}: cannot be written: {error.strerror}") from None
