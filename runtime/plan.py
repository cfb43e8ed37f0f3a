"""Graph to plan: what will run, in which order, with which settings, side channels and cache keys.

A plan is made without reading weights or decoding media. It holds every step that the wanted outputs depend on;
`state` says which of them will run, which come from the cache, and which nobody needs because of that.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .cache import Cache
from .device import resolve_device, resolve_dtype
from .ir import Step
from .keys import Recipe
from .needs import Need
from .statics import Statics
from .values import Table

if TYPE_CHECKING:
    from .graph import Graph

State = Literal["run", "memory", "disk", "skip"]


class Planned(NamedTuple):
    """One step of a plan.

    inputs: per socket that is fed, whether it is variadic and the slots of its values. outs: (output, slot)
    of everything that is taken from it. sources: numbers of the steps it waits for. recipe: what its key is
    made of; volatile: it or something upstream is impure, so its key is this run's own.
    """

    number: int
    id: str
    step: Step
    statics: Statics
    widgets: Mapping[str, Any]
    inputs: tuple[tuple[str, bool, tuple[int, ...]], ...]
    outs: tuple[tuple[str, int], ...]
    sources: tuple[int, ...]
    wanted: frozenset[Need]
    known: Any
    key: str
    recipe: Recipe
    volatile: bool
    device: str
    state: State

    @property
    def where(self) -> str:
        """`dominant (select_dominant), graphs/visionzip.yaml:12:3`."""
        at = f", {self.step.at}" if self.step.at else ""
        return f"{self.id} ({self.statics.type.name}){at}"


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in the order they run; results by name as slots; values of parameters wired to sockets by slot."""

    graph: Graph
    params: Mapping[str, Any]
    steps: tuple[Planned, ...]
    outputs: Mapping[str, int]
    given: Mapping[int, Any]
    slots: int
    targets: tuple[int, ...]
    device: str
    dtype: str
    cache: Cache | None
    from_: str | None = None
    until: str | None = None

    @cached_property
    def by_id(self) -> Mapping[str, Planned]:
        """Steps by id."""
        return {planned.id: planned for planned in self.steps}

    @cached_property
    def last_use(self) -> Mapping[str, str]:
        """For every step whose values are taken, the step after which they are freed."""
        out: dict[str, str] = {}
        for planned in self.steps:
            if planned.state == "run":
                out.update((self.steps[number].id, planned.id) for number in planned.sources)
        kept = set(self.outputs.values())
        return {
            name: last
            for name, last in out.items()
            if not any(slot in kept for _, slot in self.by_id[name].outs)
        }

    def why(self, name: str) -> str:
        """Why a step runs: what changed since it was last cached, or that it never was."""
        planned = self.by_id[name]
        if planned.state != "run":
            return {"skip": "not needed", "memory": "cached (memory)", "disk": "cached (disk)"}[planned.state]
        if not planned.statics.type.pure:
            return "never cached (impure)"
        if planned.volatile:
            return "follows an impure step"
        if self.cache is None:
            return "no cache"
        return self.cache.explain(planned.id, planned.key, planned.recipe)

    def table(self) -> Table:
        """One row per step: what runs, what comes from the cache, why, and the side channels asked of it."""
        rows = tuple(
            (
                planned.id,
                planned.statics.type.name,
                "run" if planned.state == "run" else "skip" if planned.state == "skip" else "cached",
                self.why(planned.id),
                ", ".join(sorted(need.key for need in planned.wanted)),
                self.last_use.get(planned.id, ""),
                planned.device,
            )
            for planned in self.steps
        )
        columns = ("node", "type", "does", "why", "side channels", "freed after", "device")
        return Table(columns, rows, self.graph.title)

    def __str__(self) -> str:
        table = self.table()
        rows = [table.columns, *(tuple(map(str, row)) for row in table.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join(lines)

    def command(self, from_: str | None = None) -> str:
        """The command line (or the call, for a graph without a file) that runs this plan, from a step on."""
        given = {k: v for k, v in self.params.items() if isinstance(v, str | int | float | bool) or v is None}
        given |= {k: str(v) for k, v in self.params.items() if hasattr(v, "__fspath__")}
        given = {k: v for k, v in given.items() if v != self.graph.params[k].default}
        if self.graph.at is None:
            extra = "".join(f", {name}={value!r}" for name, value in given.items())
            extra += f", until={self.until!r}" if self.until else ""
            return f"tokenloom.run(graph{extra}{f', from_={from_!r}' if from_ else ''})"
        words = ["tokenloom", "run", str(self.graph.at), *(f"{k}={_word(v)}" for k, v in given.items())]
        words += ["--until", self.until] if self.until else []
        words += ["--from", from_] if from_ else []
        return shlex.join(words)


def _word(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not value
        else ("true" if value is True else str(value))
    )


def plan(
    graph: Graph,
    params: Mapping[str, Any] | None = None,
    *,
    outputs: Collection[str] | None = None,
    until: str | None = None,
    from_: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | None = None,
) -> Plan:
    """What a run of `graph` with these parameters will do.

    outputs: names of graph outputs, or `node` / `node.output`; default all. until: stop after this node, which
    is then the result. from_: this node and what follows it run afresh, what lies before comes from the cache.
    Errors: GraphError for unknown names and parameters, missing parameters, cycles and what `from_` misses;
    NeedError for side channels that nothing can provide; whatever a node foresees that cannot work.
    """
    from .planner import Planner

    device = resolve_device(device)
    planner = Planner(graph, dict(params or {}), device, resolve_dtype(dtype, device), cache)
    return planner.plan(outputs, until, from_)


__all__ = ["Plan", "Planned", "Sequence", "State", "plan"]
