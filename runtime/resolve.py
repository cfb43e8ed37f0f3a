"""What the outputs of a graph's steps are, once type variables are bound by what is wired in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .fit import fits
from .ir import Step, Wire

if TYPE_CHECKING:
    from .graph import Graph


class Types:
    """Types of outputs, each step looked at once. `forget` after an edit.

    unsure: generic steps whose variables something is missing for: an input, or one end of a cycle.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[str, tuple[Step, Mapping[str, Any]]] = {}
        self.unsure: set[str] = set()

    def forget(self) -> None:
        """Look at every step anew."""
        self._known.clear()
        self.unsure.clear()

    def outputs(self, id: str) -> Mapping[str, Any]:
        """Output names and types of a step; "" is the unnamed one."""
        node = self._graph.steps[id].type
        if not node.generic:
            return node.outputs
        if not self._is_known(id):
            self._find(id)
        return self._known[id][1]

    def of(self, end: Wire | ParamRef) -> Any:
        """The type that arrives over a wire or from a parameter; None when there is no such thing."""
        if isinstance(end, ParamRef):
            param = self._graph.params.get(end.name)
            return None if param is None else param.type
        return self.outputs(end.node).get(end.output) if end.node in self._graph.steps else None

    def given(self, step: Step) -> dict[str, tuple[Any, ...]]:
        """Per socket with type variables: the types that arrive there."""
        sockets = step.type.sockets
        return {
            name: tuple(t for t in map(self.of, ends) if t is not None)
            for name, ends in step.wires.items()
            if name in sockets and sockets[name].generic is not None
        }

    def _is_known(self, id: str) -> bool:
        if id not in self._known:
            return False
        seen, step = self._known[id][0], self._graph.steps[id]
        return seen is step or (seen.type is step.type and seen.wires == step.wires)

    def _find(self, id: str) -> None:
        """Sources first, without recursion; a cycle is entered with the bounds."""
        stack, opened = [id], set[str]()
        while stack:
            step = self._graph.steps[stack[-1]]
            left: list[str] = []
            if step.id not in opened:
                opened.add(step.id)
                self._known[step.id] = (step, step.type.outputs)
                self.unsure.add(step.id)
                left = [source for source in self._generic_sources(step) if not self._is_known(source)]
            stack += left
            if not left:
                self._bind(self._graph.steps[stack.pop()])

    def _generic_sources(self, step: Step) -> list[str]:
        sockets, steps = step.type.sockets, self._graph.steps
        return [
            end.node
            for name, ends in step.wires.items()
            if name in sockets and sockets[name].generic is not None
            for end in ends
            if isinstance(end, Wire) and end.node in steps and steps[end.node].type.generic
        ]

    def _bind(self, step: Step) -> None:
        given = self.given(step)
        self._known[step.id] = (step, step.type.resolve(given))
        lacking = any(
            s.required and s.generic is not None and not any(fits(t, s.type) for t in given.get(s.name, ()))
            for s in step.type.sockets.values()
        )
        if not lacking and self.unsure.isdisjoint(self._generic_sources(step)):
            self.unsure.discard(step.id)
