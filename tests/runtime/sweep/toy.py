"""A graph without models that sweeps run quickly: start + early + late, as text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tokenloom import Graph
from tokenloom.runtime.events import Event, NodeDone
from tokenloom.runtime.sweep.problems import Problems
from tokenloom.runtime.sweep.sweep import Sweep
from tokenloom.runtime.widgets import Range

from .. import engine_nodes as e

DATA: list[dict[str, Any]] = [
    {"start": 1, "answer": "13", "id": "one", "kind": "sum"},
    {"start": 2, "answer": ["14", "fourteen"]},
]


def toy() -> Graph:
    """`start` must be given, by the data; `late` is used last."""
    with Graph("toy") as g:
        number = g.named("number", e.eng_number)(start=g.param("start", int, help="where to begin"))
        late = g.param("late", int, default=2)
        early = g.named("first", e.eng_add)(number, add=g.param("early", int, default=10, bounds=Range(0)))
        g.output(answer=g.named("text", e.eng_text)(g.named("last", e.eng_add)(early, add=late)))
    return g


class Counts:
    """A subscriber that counts what was executed, by node."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeDone):
            self.done[event.node] += 1


def refused(grid: dict[str, Any], data: Any = DATA, graph: Graph | None = None, **options: Any) -> str:
    """What a sweep says before any work."""
    from tokenloom.runtime.errors import SweepError

    try:
        Sweep.of(graph or toy(), grid, data, problems=Problems(), **options)
    except SweepError as error:
        return str(error)
    raise AssertionError("it was not refused")


def lines(path: Path, *objects: str) -> Path:
    """A data file of these lines."""
    path.write_text("\n".join(objects) + "\n")
    return path
