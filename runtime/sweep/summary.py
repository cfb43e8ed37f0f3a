"""Rows put together: one setting each, with means over its items, and the Pareto front of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SweepError, did_you_mean
from ..pareto import front
from ..plots import Axes, Point
from ..rows import Row
from .grid import plain_text

COSTS = {
    "tokens": "visual tokens that the last layer sees",
    "tokens_placed": "visual tokens in the prompt",
    "tokens_mean": "visual tokens, mean of the language model's layers",
    "flops": "FLOPs, all stages",
    "flops_prompt": "FLOPs of the prompt in the language model",
    "seconds": "seconds, all stages",
}
QUALITIES = {"accuracy": "right answers, %", "kl": "KL to the uncompressed model, nats"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One combination. count: rows; failed: of them. accuracy: percent, and its 95 % interval; None: unknown.

    The other figures are means over the rows that have them.
    """

    params: Mapping[str, Any]
    label: str
    count: int
    failed: int
    accuracy: float | None
    interval: tuple[float, float] | None
    figures: Mapping[str, float | None]
    best: bool = False

    def quality(self, name: str) -> float | None:
        """`accuracy` or `kl`."""
        return self.accuracy if name == "accuracy" else self.figures.get(name)


def settings(rows: Iterable[Row], *, x: str = "tokens", y: str | None = None) -> list[Setting]:
    """One per combination, in the order of the rows; `best` marks the Pareto front of y against x.

    y: accuracy or kl; None: accuracy where it is known, else kl.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row["params"], sort_keys=True), []).append(row)
    varying = _varying([group[0]["params"] for group in groups.values()])
    made = [_setting(group, varying) for group in groups.values()]
    y = y or quality_of(made)
    placed = [i for i, one in enumerate(made) if _place(one, x, y) is not None]
    if y is not None and placed:
        points = [place for i in placed if (place := _place(made[i], x, y)) is not None]
        for i, on in zip(placed, front(points, higher=y == "accuracy"), strict=True):
            made[i] = Setting(**{**vars(made[i]), "best": on})
    return made


def quality_of(made: Sequence[Setting]) -> str | None:
    """What there is to compare: accuracy, else kl, else None."""
    return next((name for name in QUALITIES if any(one.quality(name) is not None for one in made)), None)


def points(made: Sequence[Setting], x: str, y: str) -> list[Point]:
    """The settings as points of a plot."""
    return [
        Point(
            x=place[0],
            y=place[1],
            label=one.label,
            low=one.interval[0] if y == "accuracy" and one.interval else None,
            high=one.interval[1] if y == "accuracy" and one.interval else None,
        )
        for one in made
        if (place := _place(one, x, y)) is not None
    ]


def axes(x: str, y: str, title: str) -> Axes:
    """Names for a plot's axes. FLOPs and seconds are drawn on a logarithmic scale."""
    return Axes(x=COSTS[x], y=QUALITIES[y], title=title, higher=y == "accuracy", log_x=x.startswith("flops"))


def check_names(x: str, y: str | None) -> None:
    """Errors: SweepError for a figure that no row has."""
    if x not in COSTS:
        raise SweepError(f"--x {x}: no such figure{did_you_mean(x, COSTS)}")
    if y is not None and y not in QUALITIES:
        raise SweepError(f"--y {y}: no such figure{did_you_mean(y, QUALITIES)}")


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in percent: sound for few items, and at 0 and 100 % too."""
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def _setting(rows: Sequence[Row], varying: Sequence[str]) -> Setting:
    params = rows[0]["params"]
    scored = [bool(row["correct"]) for row in rows if row.get("correct") is not None]
    return Setting(
        params=params,
        label=" ".join(f"{name}={plain_text(params.get(name))}" for name in varying),
        count=len(rows),
        failed=sum("error" in row for row in rows),
        accuracy=100 * sum(scored) / len(scored) if scored else None,
        interval=wilson(sum(scored), len(scored)) if scored else None,
        figures={name: _mean(rows, name) for name in (*COSTS, "kl")},
    )


def _varying(params: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for one in params for name in one)
    text: Callable[[Any], str] = json.dumps
    return [name for name in names if len({text(one.get(name)) for one in params}) > 1]


def _mean(rows: Sequence[Row], name: str) -> float | None:
    found = [float(row[name]) for row in rows if row.get(name) is not None]
    return sum(found) / len(found) if found else None


def _place(one: Setting, x: str, y: str | None) -> tuple[float, float] | None:
    cost, quality = one.figures.get(x), None if y is None else one.quality(y)
    return None if cost is None or quality is None else (cost, quality)
