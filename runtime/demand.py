"""Side channels by demand: what every socket needs is carried upstream to the node that can compute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .build import ParamRef
from .errors import NeedError
from .fit import fits
from .ir import Step, Wire
from .needs import Need

End = Wire | ParamRef


class Demand:
    """Walks the steps from the last to the first, so that every need has arrived when a step is reached."""

    def __init__(
        self,
        order: list[Step],
        number: Mapping[str, int],
        feeds: Mapping[str, list[tuple[str, bool, list[End]]]],
        params: Mapping[str, Any],
        widgets: list[Mapping[str, Any]],
    ) -> None:
        self._order, self._number, self._feeds, self._params = order, number, feeds, params
        self._widgets = widgets
        # per step: need -> (who asked first, the type it is asked of)
        self._asked: dict[int, dict[Need, tuple[str, Any]]] = {}
        self._family: dict[tuple[Any, Any], bool] = {}

    def wanted(self) -> dict[int, frozenset[Need]]:
        """The needs that each providing step must meet, by its number."""
        out: dict[int, frozenset[Need]] = {}
        for i in range(len(self._order) - 1, -1, -1):
            step = self._order[i]
            arrived = self._asked.pop(i, {})
            mine = frozenset(need for need in arrived if need.channel in step.type.provides)
            if mine:
                out[i] = mine
            for need, (asker, of) in arrived.items():
                if need not in mine:
                    self._pass_on(step, need, asker, of)
            needs = step.type.needs(self._widgets[i])
            for socket, _, ends in self._feeds[step.id] if needs else ():
                for need in needs.get(socket, ()):
                    for end in ends:
                        self._ask(end, need, step.id, step.type.sockets[socket].type)
        return out

    def _pass_on(self, step: Step, need: Need, asker: str, of: Any) -> None:
        """Through every socket of the same family: tokens come from tokens, a state from a state."""
        passed = False
        for socket, _, ends in self._feeds[step.id]:
            if self._same_family(step.type.sockets[socket].type, of):
                for end in ends:
                    self._ask(end, need, asker, of)
                passed = passed or bool(ends)
        if not passed:
            raise _unmet(need, asker, self._order[self._number[asker]], f"{step.id} ({step.type.name})")

    def _ask(self, end: End, need: Need, asker: str, of: Any) -> None:
        if isinstance(end, Wire):
            self._asked.setdefault(self._number[end.node], {}).setdefault(need, (asker, of))
            return
        side = getattr(self._params.get(end.name), "side", {})
        if need.key not in side and need.channel not in side:
            raise _unmet(need, asker, self._order[self._number[asker]], f"parameter {end.name}")

    def _same_family(self, a: Any, b: Any) -> bool:
        key = (a, b)
        if key not in self._family:
            self._family[key] = fits(a, b) or fits(b, a)
        return self._family[key]


def _unmet(need: Need, asker: str, step: Step, end: str) -> NeedError:
    at = f", {step.at}" if step.at else ""
    error = NeedError(
        f"{asker} needs {need.key}, and {end} neither provides it nor passes on something that does; "
        f"put {asker} after a node that provides {need.channel}, or choose a setting that does not need it"
    )
    error.add_note(f"in node {asker} ({step.type.name}){at}, while planning")
    return error
