"""Graph to plan: what will run, in which order, with which settings, side channels and cache keys.

A plan is made without reading weights or decoding media. It holds every step that the wanted outputs depend
on; `state` says which will run, which come from the cache, and which nobody needs because of that.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from .arrange import Arrangement, Inputs, arrange
from .binding import Values, results
from .cache import Cache
from .device import resolve_device, resolve_dtype
from .ir import Step
from .keys import Recipe
from .needs import Need
from .statics import Statics
from .values import Table

if TYPE_CHECKING:
    from .graph import Graph
    from .planner import Planner
    from .recipes import Recipes

State = Literal["run", "memory", "disk", "skip"]
_NONE: frozenset[Need] = frozenset()


class Planned(NamedTuple):
    """One step of a plan.

    inputs: per socket that is fed, whether it is variadic and the slots of its values. outs: slots of the
    values that are taken from it. volatile: it or something upstream is impure, so its key is this run's own.
    """

    number: int
    id: str
    step: Step
    statics: Statics
    widgets: Mapping[str, Any]
    inputs: Inputs
    outs: tuple[int, ...]
    wanted: frozenset[Need]
    known: Any
    key: str
    volatile: bool
    device: str
    state: State

    @property
    def where(self) -> str:
        """`dominant (select_dominant), graphs/visionzip.yaml:12:3`."""
        at = f", {self.step.at}" if self.step.at else ""
        return f"{self.id} ({self.statics.type.name}){at}"


class Steps(Sequence[Planned]):
    """The steps of a plan, in the order they run; each is put together when it is looked at."""

    def __init__(self, made: Arrangement, planner: Planner, states: list[State]) -> None:
        self._made, self._planner, self._states = made, planner, states

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, number: int) -> Planned: ...
    @overload
    def __getitem__(self, number: slice) -> list[Planned]: ...
    def __getitem__(self, number: int | slice) -> Planned | list[Planned]:
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        made, planner = self._made, self._planner
        step = made.order[number]
        return Planned(
            number,
            step.id,
            step,
            made.statics[number],
            planner.widgets[number],
            made.inputs[number],
            made.outs[number],
            planner.wanted.get(number, _NONE),
            planner.known.get(number),
            planner.keys[number],
            bool(planner.volatile[number]),
            step.device or planner.device,
            self._states[number],
        )

    def state(self, number: int) -> State:
        """What becomes of a step."""
        return self._states[number]

    def key(self, number: int) -> str:
        """A step's cache key."""
        return self._planner.keys[number]

    def sources(self, number: int) -> tuple[int, ...]:
        """The steps that a step waits for, each once."""
        return self._made.sources[number]

    def feeding(self, number: int) -> dict[str, list[str]]:
        """Per socket, the ids of the steps that feed it."""
        made = self._made
        makers = {name: [made.makers[slot] for slot in slots] for name, _, slots in made.inputs[number]}
        return {name: [made.order[m].id for m in found if m >= 0] for name, found in makers.items()}

    def inputs(self, number: int) -> Inputs:
        """The slots of a step's sockets."""
        return self._made.inputs[number]

    def recipe(self, number: int) -> Recipe:
        """What a step's key is made of."""
        return self._planner.recipes[number]

    @property
    def recipes(self) -> Recipes:
        """What the keys of all steps are made of."""
        return self._planner.recipes


@dataclass(frozen=True, eq=False)
class Plan:
    """What will run. outputs: results by name, as slots. given: parameters wired to sockets, by slot.

    fields: the output that each slot holds ("" for the only one). targets: steps that make the results.
    """

    graph: Graph
    params: Mapping[str, Any]
    steps: Steps
    outputs: Mapping[str, int]
    given: Mapping[int, Any]
    fields: Sequence[str]
    targets: tuple[int, ...]
    device: str
    dtype: str
    cache: Cache | None
    from_: str | None = None
    until: str | None = None
    options: tuple[str, ...] = ()  # further words of the command line that it came from
    verb: str = "run"  # the command

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
                sources = self.steps.sources(planned.number)
                out.update((self.steps[source].id, planned.id) for source in sources)
        for name in [n for n in out if not set(self.by_id[n].outs).isdisjoint(self.outputs.values())]:
            del out[name]  # a result is not freed
        return out

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the nodes foresee that a person should know: `model: scale_factor 2, from ...`."""
        found: dict[str, str] = {}
        for planned in self.steps:
            known = planned.known if isinstance(planned.known, tuple) else (planned.known,)
            for note in (note for one in known for note in getattr(one, "notes", ())):
                found.setdefault(note, planned.id)  # later steps pass it on
        return tuple(f"{where}: {note}" for note, where in found.items())

    def why(self, name: str) -> str:
        """Why a step runs: what changed since it was last cached, or that it never was."""
        planned = self.by_id[name]
        if planned.state != "run":
            return {"skip": "not needed", "memory": "cached (memory)", "disk": "cached (disk)"}[planned.state]
        if not planned.statics.type.pure:
            return "never cached (impure)"
        if self.cache is None:
            return "no cache"
        if planned.volatile:
            return "follows an impure step"
        recipe = self.steps.recipe(planned.number)
        return self.cache.explain(planned.id, planned.key, recipe, self.steps.feeding(planned.number))

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
        return str(replace(self.table(), title=""))

    def command(self, from_: str | None = None) -> str:
        """The command line (or the call, for a graph without a file) that runs this plan, from a step on."""
        plain = (str, int, float, type(None), tuple)
        given = {k: v for k, v in self.params.items() if isinstance(v, plain)}
        given |= {k: str(v) for k, v in self.params.items() if hasattr(v, "__fspath__")}
        given = {k: v for k, v in given.items() if v != self.graph.params[k].default}
        if self.graph.at is None:
            extra = "".join(f", {name}={value!r}" for name, value in given.items())
            extra += f", until={self.until!r}" if self.until else ""
            return f"tokenloom.run(graph{extra}{f', from_={from_!r}' if from_ else ''})"
        words = ["tokenloom", self.verb, str(self.graph.at), *(f"{k}={_word(v)}" for k, v in given.items())]
        words += ["--until", self.until] if self.until else []
        words += ["--from", from_] if from_ else []
        return shlex.join([*words, *self.options])


def _word(value: Any) -> str:
    """A value as it is typed after `name=`."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


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

    outputs: names of graph outputs, or `node` / `node.output`; default all. until: stop after this node,
    which is then the result. from_: this node and what follows it run afresh, what lies before comes from the
    cache.
    Errors: GraphError for unknown names and parameters, missing parameters, cycles and what `from_` misses;
    NeedError for side channels that nothing can provide; whatever a node foresees that cannot work.
    """
    from .planner import Planner

    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    values = Values(graph, params or {})
    wanted = results(graph, outputs, until)
    made = arrange(graph, values, list(wanted.values()))
    planner = Planner(made, values, device, dtype, cache)
    given = {slot: values.known[name] for slot, name in made.given}
    return Plan(
        graph,
        values.known,
        Steps(made, planner, planner.states(from_)),
        dict(zip(wanted, made.results, strict=True)),
        given,
        made.fields,
        tuple(made.targets),
        device,
        dtype,
        cache,
        from_,
        until,
    )
