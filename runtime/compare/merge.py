"""Several plans as one graph in which equal steps are one step.

Steps are equal when they are of one type, have equal settings, and take equal values. Up to the prompt, one
step then gives all the side channels that any graph asks of it; a step of the language model is shared only
where the graphs ask the same of it, for there such a channel would cost what others are compared by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ..build import ParamRef
from ..graph import Graph
from ..ir import Param, Step, Wire
from ..keys import settings_text
from ..plan import Plan, Planned
from ..values import LLMState
from .steps import PATCHES_ALONE
from .towers import reading


@dataclass(eq=False)
class _Shared:
    """A step of the merged graph. users: numbers of the plans that need it."""

    planned: Planned
    type: Any
    widgets: Mapping[str, Any]
    wires: Mapping[str, tuple[End, ...]]
    users: dict[int, None] = field(default_factory=dict[int, None])
    id: str = ""

    def step(self) -> Step:
        """As a step of the merged graph, when all have their ids."""
        wires = {
            name: tuple(end if isinstance(end, ParamRef) else Wire(end[0].id, end[1]) for end in ends)
            for name, ends in self.wires.items()
        }
        given = self.planned.step
        return Step(self.id, self.type, wires, self.widgets, True, given.at, given.device)


End = tuple[_Shared, str] | ParamRef


@dataclass(frozen=True)
class Merged:
    """One graph for several plans. params: what it is to be run with.

    places: per plan, by the id of a step, the ids of the merged steps that do its work. users: by merged id,
    the numbers of the plans that need it.
    """

    graph: Graph
    params: Mapping[str, Any]
    places: Sequence[Mapping[str, tuple[str, ...]]]
    users: Mapping[str, tuple[int, ...]]


def merge(plans: Sequence[Plan], names: Sequence[str]) -> Merged:
    """The plans as one graph; `names` tell their steps apart where these are not shared."""
    return _Merger(plans, names).merged()


class _Merger:
    def __init__(self, plans: Sequence[Plan], names: Sequence[str]) -> None:
        self.plans, self.names = plans, names
        self.shared: dict[Any, _Shared] = {}
        self.given: dict[Any, tuple[str, Any, Any]] = {}  # by what equal values share: name, type, value
        self.places: list[dict[str, list[_Shared]]] = []
        self.readings = {
            (number, planned.id): found
            for number, plan in enumerate(plans)
            for planned in plan.steps
            if (found := reading(plan, planned)) is not None
        }
        self.with_cls = {settings_text(one.widgets) for one in self.readings.values() if one.cls_token}

    def merged(self) -> Merged:
        """All plans, step by step."""
        for number, plan in enumerate(self.plans):
            self.places.append({})
            ends = self._given(plan)
            for planned in plan.steps:
                self._place(number, planned, ends)
        self._name()
        graph = Graph(" · ".join(self.names))
        graph.params = {name: Param(name, kind) for name, kind, _ in self.given.values()}
        graph.steps = {one.id: one.step() for one in self.shared.values()}
        merged = Merged(
            graph,
            {name: value for name, _, value in self.given.values()},
            [{id: tuple(one.id for one in found) for id, found in place.items()} for place in self.places],
            {one.id: tuple(one.users) for one in self.shared.values()},
        )
        for number, plan in enumerate(self.plans):
            maker = {slot: step.id for step in plan.steps for slot in step.outs}
            for name, slot in plan.outputs.items():
                wire = Wire(merged.places[number][maker[slot]][-1], plan.fields[slot])
                graph.outputs[output_name(number, name)] = wire
        return merged

    def _given(self, plan: Plan) -> dict[int, End]:
        """The values that a plan is given, as parameters of the merged graph: one for the same value."""
        ends: dict[int, End] = {}
        for slot, value in plan.given.items():
            kind = plan.graph.params[plan.fields[slot]].type
            new = (f"given_{len(self.given)}", kind, value)
            plain = isinstance(value, str | int | float | Path | tuple | None)
            key = (type(value), value) if plain else id(value)
            ends[slot] = ParamRef(self.given.setdefault(key, new)[0])
        return ends

    def _place(self, number: int, planned: Planned, ends: dict[int, End]) -> None:
        """Find the step among the others' or add it; and note what its outputs are now."""
        wires = {name: tuple(ends[slot] for slot in slots) for name, _, slots in planned.inputs}
        found, kind = self.readings.get((number, planned.id)), planned.statics.type
        settings, widgets, cut = settings_text(planned.widgets), planned.widgets, False
        if found is not None:
            settings = settings_text(found.widgets)
            if settings in self.with_cls:
                widgets, cut = {**widgets, "features": "cls_patch"}, not found.cls_token
        wanted = planned.wanted if LLMState in kind.outputs.values() else None
        key = (kind, settings, tuple(wires.items()), planned.step.device, wanted)
        chain = [self._one(key, _Shared(planned, kind, widgets, wires), number)]
        if cut:
            new = _Shared(planned, PATCHES_ALONE, {}, {"patches": ((chain[0], ""),)})
            chain.append(self._one((PATCHES_ALONE, chain[0]), new, number))
        self.places[number][planned.id] = chain
        ends |= {slot: (chain[-1], self.plans[number].fields[slot]) for slot in planned.outs}

    def _one(self, key: Any, new: _Shared, number: int) -> _Shared:
        one = self.shared.setdefault(key, new)
        one.users.setdefault(number)
        return one

    def _name(self) -> None:
        """Give every step its id: its own where several graphs share it, else behind its graph's name."""
        taken = set[str](name for name, _, _ in self.given.values())
        for one in sorted(self.shared.values(), key=lambda one: -len(one.users)):
            own = one.planned.id if one.type is not PATCHES_ALONE else f"{one.planned.id}_alone"
            if len(one.users) == 1 < len(self.plans):
                own = f"{_word(self.names[next(iter(one.users))])}/{own}"
            one.id = next(id for id in _numbered(own) if id not in taken)
            taken.add(one.id)


def output_name(number: int, name: str) -> str:
    """What an output of a plan is called in the merged graph."""
    return f"{number}/{name}"


def _word(name: str) -> str:
    """A name as part of an id: `visionzip keep=16` as `visionzip_keep_16`."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "graph"


def _numbered(id: str) -> Iterator[str]:
    yield id
    yield from (f"{id}_{n}" for n in count(2))
