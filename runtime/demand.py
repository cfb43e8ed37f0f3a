"""Side channels by demand: what every socket needs is carried upstream to the node that can compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .arrange import Arrangement
from .blame import placed
from .errors import NeedError
from .fit import fits
from .ir import Step
from .needs import Need


class _Asked(NamedTuple):
    """Who asked first, the type that it is asked of, and whether it is a mistake when nobody can help."""

    by: int
    of: Any
    must: bool = True


class Demand:
    """Walks the steps from the last to the first, so that every need has arrived when a step is reached."""

    def __init__(
        self, made: Arrangement, params: Mapping[str, Any], widgets: Sequence[Mapping[str, Any]]
    ) -> None:
        self._made, self._params, self._widgets = made, params, widgets
        self._asked: dict[int, dict[Need, _Asked]] = {}  # per step
        self._family: dict[tuple[Any, Any], bool] = {}

    def wanted(self) -> dict[int, frozenset[Need]]:
        """The needs that each providing step must meet, by its number."""
        out: dict[int, frozenset[Need]] = {}
        made = self._made
        for number in range(len(made.order) - 1, -1, -1):
            arrived = self._asked.pop(number, {})
            if not arrived and not made.statics[number].has_needs:
                continue
            step = made.order[number]
            mine = frozenset(need for need in arrived if need.channel in step.type.provides)
            if mine:
                out[number] = mine
            for need, asked in arrived.items():
                if need not in mine:
                    self._pass_on(number, step, need, asked)
                elif need.channel in step.type.adds_to:
                    self._pass_on(number, step, need, asked._replace(must=False))
            needs = step.type.needs(self._widgets[number])
            for socket, _, slots in made.inputs[number] if needs else ():
                for need in needs.get(socket, ()):
                    for slot in slots:
                        self._ask(slot, need, _Asked(number, step.type.sockets[socket].type))
        return out

    def _pass_on(self, number: int, step: Step, need: Need, asked: _Asked) -> None:
        """Through every socket of the same family: tokens come from tokens, a state from a state."""
        passed = False
        for socket, _, slots in self._made.inputs[number]:
            if self._same_family(step.type.sockets[socket].type, asked.of):
                passed = True
                for slot in slots:
                    self._ask(slot, need, asked)
        if not passed and asked.must:
            raise self._unmet(need, asked.by, f"{step.id} ({step.type.name})")

    def _ask(self, slot: int, need: Need, asked: _Asked) -> None:
        maker = self._made.makers[slot]
        if maker >= 0:
            here = self._asked.setdefault(maker, {})
            before = here.setdefault(need, asked)
            if asked.must and not before.must:
                here[need] = asked
            return
        name = self._made.fields[slot]
        given = self._params.get(name)
        if asked.must and need.key not in getattr(given, "carried", getattr(given, "side", ())):
            raise self._unmet(need, asked.by, f"parameter {name}")

    def _same_family(self, a: Any, b: Any) -> bool:
        key = (a, b)
        if key not in self._family:
            self._family[key] = fits(a, b) or fits(b, a)
        return self._family[key]

    def _unmet(self, need: Need, asker: int, end: str) -> NeedError:
        step = self._made.order[asker]
        error = NeedError(
            f"{step.id} needs {need.key}, and {end} neither provides it nor passes on something that does; "
            f"put {step.id} after a node that provides {need.channel}, or choose a setting that does "
            "not need it"
        )
        placed(error, step, self._params)
        return error
