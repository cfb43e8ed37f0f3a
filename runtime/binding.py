"""What a run is given and asked for: parameter values, checked, and the wanted results as wires."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .errors import GraphError, did_you_mean
from .fit import holds
from .ir import Wire
from .widgets import MISSING, type_text

if TYPE_CHECKING:
    from .graph import Graph


class Values:
    """The parameters of a run. Missing ones are noted when something asks for them, and reported at once."""

    def __init__(self, graph: Graph, given: Mapping[str, Any]) -> None:
        self._graph, self._missing = graph, dict[str, str]()
        self.known = _bind(graph, given)

    def of(self, ref: ParamRef, where: str) -> Any:
        """The parameter's value; MISSING when it has none."""
        if ref.name in self.known:
            return self.known[ref.name]
        if ref.name not in self._graph.params:
            self._graph.check()
        param = self._graph.params[ref.name]
        wanted = type_text(param.type) if param.widget is None else param.widget.describe()
        told = f" ({param.help})" if param.help else ""
        text = f"params.{ref.name} has no value; wanted {wanted}{told}, for {where}"
        self._missing.setdefault(ref.name, text)
        return MISSING

    def complete(self) -> None:
        """A GraphError that lists every parameter that was asked for and has no value."""
        if self._missing:
            raise GraphError("\n".join(self._missing.values()))


def _bind(graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    known = graph.params
    for name in given:
        if name not in known:
            raise GraphError(f"params: no parameter is called {name!r}{did_you_mean(name, known)}")
    out: dict[str, Any] = {}
    for name, param in known.items():
        if name not in given:
            if param.default is not MISSING:
                out[name] = param.default
        elif param.widget is not None:
            out[name] = param.widget.check("params", given[name])
        elif holds(given[name], param.type):
            out[name] = given[name]
        else:
            got = type_text(type(given[name]))
            raise GraphError(f"params.{name} wants {type_text(param.type)}, got {got}")
    return out


def results(graph: Graph, outputs: Collection[str] | None, until: str | None) -> dict[str, Wire]:
    """What is wanted, as wires by result name. Without declared outputs: every step nobody takes from."""
    steps = graph.steps
    if until is not None:
        if until not in steps:
            raise GraphError(f"until: no node is called {until!r}{did_you_mean(until, steps)}")
        return {until: Wire(until)}
    if outputs is not None:
        return {name: graph.outputs.get(name) or _reference(graph, name) for name in outputs}
    if graph.outputs:
        return dict(graph.outputs)
    taken = {source for step in steps.values() for source in step.sources}
    found = {name: Wire(name) for name in steps if name not in taken}
    if steps and not found:
        graph.check()
    return found


def _reference(graph: Graph, name: str) -> Wire:
    node, _, output = name.partition(".")
    if node not in graph.steps or (output and output not in graph.steps[node].type.outputs):
        known = [*graph.outputs, *graph.steps]
        raise GraphError(f"outputs: no output or node is called {name!r}{did_you_mean(name, known)}")
    return Wire(node, output)
