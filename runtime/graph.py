"""The graph as it is written: recorded inside `with Graph()`, read from YAML, or edited step by step."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Token
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from .build import Edge, ParamRef, building
from .check import (
    Problem,
    cycle_problems,
    order,
    output_problem,
    problems,
    step_problems,
    wire_problem,
    wire_problems,
)
from .errors import GraphError, WiringError, did_you_mean
from .ir import At as At
from .ir import Param as Param
from .ir import Step as Step
from .ir import Wire as Wire
from .node import NodeType, Socket
from .resolve import Types
from .widgets import MISSING, Range, type_text

if TYPE_CHECKING:
    from .arrange import Arranged
    from .mapping.api import Items, Mapped, Summary

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:/[A-Za-z_][A-Za-z0-9_-]*)*")
RESERVED = ("node", "when")  # keys of a node in a graph file that no socket or setting may use


class Graph:
    """Steps, parameters and outputs by name.

    Inside `with Graph() as g`, node calls record steps and return edges; composites are ordinary functions.
    A step is called like its node type (`_2`, `_3` when that is taken) unless `named` says otherwise. Steps
    and parameters share one namespace. Wires are checked when they are made.
    """

    def __init__(self, title: str = "", *, at: str | None = None) -> None:
        self.title, self.at = title, at
        self.params: dict[str, Param] = {}
        self.steps: dict[str, Step] = {}
        self.outputs: dict[str, Wire] = {}
        self.arranged: deque[Arranged] = deque(maxlen=4)  # of the latest plans; they go with the graph
        self._count: dict[str, int] = {}
        self._scope = ""
        self._tokens: list[Token[Graph | None]] = []
        self.types = Types(self)  # of the outputs, kept while the graph grows

    def __enter__(self) -> Self:
        self._tokens.append(building.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        building.reset(self._tokens.pop())

    def __getstate__(self) -> dict[str, Any]:
        """For copies: they are planned anew."""
        return {**self.__dict__, "arranged": deque[Any](maxlen=4)}

    # -- writing -------------------------------------------------------------------------------------------

    @overload
    def param(
        self, name: str, type: type[T], *, default: T = ..., bounds: Range | None = None, help: str = ""
    ) -> T: ...
    @overload
    def param(
        self, name: str, type: Any, *, default: Any = ..., bounds: Range | None = None, help: str = ""
    ) -> Any: ...
    def param(
        self, name: str, type: Any, *, default: Any = MISSING, bounds: Range | None = None, help: str = ""
    ) -> Any:
        """Declare a value that a run gives, and return what stands for it: wire it to sockets, set widgets.

        type: a widget type (int, Path, `Literal["a", "b"]`, ...) or a value type (Frames, ...).
        Errors: GraphError for a name that is taken, WiringError for a default that the type refuses.
        """
        self._free(name, "parameter")
        made = Param(name, type, default, bounds, help, _caller())
        if made.widget is not None and default is not MISSING:
            made = replace(made, default=made.widget.check("params", default))
        elif made.widget is None and default is not MISSING and default is not None:
            raise WiringError(
                f"params.{name}: a {type_text(type)} is given by a run; it can have no default but null"
            )
        self.params[name] = made
        return ParamRef(name)

    def add(
        self,
        node: NodeType[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        when: bool | ParamRef = True,
        device: str | None = None,
        at: At | None = None,
    ) -> Edge:
        """Record a step and return the edge of its output.

        Errors: WiringError for arguments, types and values that do not fit; GraphError for a name that is
        taken or a parameter that nobody declared.
        """
        name = self._new_id(node, id)
        given = dict(kwargs or {})
        for key, value in given.items():
            if isinstance(value, Edge) and key in node.widgets:
                raise WiringError(
                    f"{name}.{key} is a setting: it takes a value or a parameter, not the output of "
                    f"{value.node}"
                )
        bound = node.bind(args, given, where=name)
        wires = {
            key: ends
            for key, value in bound.sockets.items()
            if (ends := _ends(f"{name}.{key}", node.sockets[key], value))
        }
        widgets = {key: bound.widgets[key] for key in node.widgets if key in given}
        if device is not None and "device" in node.widgets:
            raise GraphError(f"{name} has a setting called device; set that one")
        step = Step(name, node, wires, widgets, when, at or _caller(), device)
        _raise_first(step_problems(self, step))
        self.steps[name] = step
        return self._edge(name)

    def named(
        self,
        id: str,
        node: Callable[P, R],
        *,
        when: bool = True,
        device: str | None = None,
    ) -> Callable[P, R]:
        """`g.named("dominant", select_dominant)(patches, keep=54)`: the same call, recorded under this id.

        when: False, or a bool parameter, to bypass the step. device: where it runs, e.g. "cuda:1".
        """
        if not isinstance(node, NodeType):
            raise WiringError(f"{id}: {node!r} is not a node; name a composite with `with g.scope({id!r})`")

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast(R, self.add(node, args, kwargs, id=id, when=when, device=device))

        return call

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Inside the block ids start with `name/`: a composite used twice stays readable."""
        before, self._scope = self._scope, f"{self._scope}{name}/"
        try:
            yield
        finally:
            self._scope = before

    def output(self, **edges: Any) -> None:
        """Name results: `g.output(answer=answer.text)`. A name that is already there is set anew."""
        for name, edge in edges.items():
            wire = self._wire(edge, f"output {name}")
            if message := wire_problem(self.steps, f"output {name}", Any, wire):
                raise GraphError(message)
            self.outputs[name] = wire

    # -- editing -------------------------------------------------------------------------------------------

    def __getitem__(self, ref: str) -> Any:
        """The edge of a step (`g["picked"]`, `g["picked.kept"]`) or what stands for a parameter."""
        if ref in self.params:
            return ParamRef(ref)
        name, _, output = ref.partition(".")
        if name not in self.steps:
            known = [*self.steps, *self.params]
            raise GraphError(f"nothing in the graph is called {name!r}{did_you_mean(name, known)}")
        edge = self._edge(name)
        if output and output not in edge.outputs:
            raise GraphError(output_problem(name, output, self.steps[name].type.outputs))
        return getattr(edge, output) if output else edge

    def connect(self, sender: Any, receiver: str) -> None:
        """Wire `sender` (an edge, "picked.kept", or a parameter) to the socket `receiver` ("merged.kept").

        A socket that holds a wire takes the new one instead; a variadic one takes it in addition.
        """
        step, name = self._socket(receiver)
        edge = self[sender] if isinstance(sender, str) else sender
        ends = _ends(receiver, step.type.sockets[name], edge, one=True)
        before = step.wires.get(name, ()) if step.type.sockets[name].variadic else ()
        self._put(replace(step, wires={**step.wires, name: (*before, *ends)}))

    def disconnect(self, receiver: str) -> None:
        """Take all wires off a socket ("merged.kept"); `check` says so if it cannot stay open."""
        step, name = self._socket(receiver)
        self.steps[step.id] = replace(step, wires={k: v for k, v in step.wires.items() if k != name})
        self.types.forget()

    def set(self, id: str, **widgets: Any) -> None:
        """Change settings of a step."""
        step = self._step(id)
        checked: dict[str, Any] = {}
        for name, value in widgets.items():
            widget = step.type.widgets.get(name)
            if widget is None:
                raise WiringError(f"{id} has no setting {name!r}{did_you_mean(name, step.type.widgets)}")
            checked[name] = value if isinstance(value, ParamRef) else widget.check(id, value)
        self._put(replace(step, widgets={**step.widgets, **checked}))

    def replace(self, id: str, node: NodeType[..., Any], **widgets: Any) -> None:
        """Put another node in a step's place: wires and settings that it has too stay, and so do its takers.

        Errors: WiringError when an input, a setting or a taker does not fit; then nothing has changed.
        """
        old = self._step(id)
        wires = {name: ends for name, ends in old.wires.items() if name in node.sockets}
        kept = {k: v for k, v in old.widgets.items() if k in node.widgets and k not in widgets}
        checked = {
            k: v if isinstance(v, ParamRef) or k not in node.widgets else node.widgets[k].check(id, v)
            for k, v in widgets.items()
        }
        self.steps[id] = new = replace(old, type=node, wires=wires, widgets={**kept, **checked})
        self.types.forget()
        try:
            _raise_first(step_problems(self, new))
            for taker in self.takers(id):
                _raise_first(step_problems(self, self.steps[taker]))
            self._check_after(id)
            for name, wire in self.outputs.items():
                message = wire_problem(self.steps, f"output {name}", Any, wire) if wire.node == id else None
                if message:
                    raise GraphError(message)
        except Exception:
            self.steps[id] = old
            self.types.forget()
            raise

    def remove(self, id: str) -> None:
        """Take a step out. A GraphError when other steps or outputs still take from it."""
        self._step(id)
        takers = [*self.takers(id), *(f"output {n}" for n, w in self.outputs.items() if w.node == id)]
        if takers:
            raise GraphError(
                f"{id} cannot be removed: {', '.join(takers)} takes from it; connect that elsewhere first"
            )
        del self.steps[id]

    def takers(self, id: str) -> list[str]:
        """The steps that take something from this one."""
        return [step.id for step in self.steps.values() if id in step.sources]

    def copy(self) -> Graph:
        """A graph of its own to edit; steps are immutable and shared."""
        made = Graph(self.title, at=self.at)
        made.params, made.steps = dict(self.params), dict(self.steps)
        made.outputs, made._count = dict(self.outputs), dict(self._count)
        return made

    # -- running -------------------------------------------------------------------------------------------

    @overload
    def map(self, items: Items, /, *, output: None = None, **options: Any) -> Iterator[Mapped]: ...
    @overload
    def map(self, items: Items, /, *, output: Path | str, **options: Any) -> Summary: ...
    def map(self, items: Items, /, **options: Any) -> Iterator[Mapped] | Summary:
        """Run the graph for every item; what `tokenloom.map` does, with its options and parameters."""
        from .mapping.api import map

        done: Iterator[Mapped] | Summary = map(self, items, **options)
        return done

    # -- asking --------------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Everything that is wrong: wires, types, settings, parameters, outputs, cycles."""
        return problems(self)

    def resolved(self) -> Types:
        """What type every output has, read from the steps as they are now."""
        return Types(self)

    def check(self) -> None:
        """Raise one GraphError that lists everything that is wrong."""
        if found := self.problems():
            raise GraphError("\n".join(map(str, found)))

    def order(self) -> list[str]:
        """Step ids, each after those it takes from, else as written; a GraphError names cycles."""
        done, left = order(self.steps)
        if left:
            raise GraphError("\n".join(problem.message for problem in cycle_problems(self)))
        return done

    def to_yaml(self) -> str:
        """The graph as the text of a graph file; `load` reads an equal graph from it."""
        from .dump import dump

        return dump(self)

    def __eq__(self, other: object) -> bool:
        """Same title, parameters, steps (defaults filled in) and outputs, in any order, anywhere."""
        return isinstance(other, Graph) and self._meaning() == other._meaning()

    __hash__ = None  # type: ignore[assignment]  # it can be edited

    def __repr__(self) -> str:
        return f"<Graph {self.title!r}: {len(self.steps)} steps, {len(self.params)} parameters>"

    def _meaning(self) -> tuple[Any, ...]:
        steps = {
            step.id: (
                step.type.name,
                {name: ends for name, ends in step.wires.items() if ends},
                {n: _absolute(step.widgets.get(n, w.default)) for n, w in step.type.widgets.items()},
                step.when,
                step.device,
            )
            for step in self.steps.values()
        }
        params = {p.name: replace(p, default=_absolute(p.default)) for p in self.params.values()}
        return self.title, params, steps, self.outputs

    # -- inside --------------------------------------------------------------------------------------------

    def _edge(self, name: str) -> Edge:
        outputs = self.types.outputs(name)
        if "" in outputs:
            return Edge(name, "", outputs[""])
        return Edge(name, "", self.steps[name].type.output, dict(outputs))

    def _wire(self, edge: Any, where: str) -> Wire:
        if isinstance(edge, str):
            edge = self[edge]
        if isinstance(edge, Edge):
            return Wire(edge.node, edge.output)
        raise GraphError(f"{where}: {type_text(type(edge))} is not an output of a step")

    def _step(self, id: str) -> Step:
        if id not in self.steps:
            raise GraphError(f"no node is called {id!r}{did_you_mean(id, self.steps)}")
        return self.steps[id]

    def _socket(self, receiver: str) -> tuple[Step, str]:
        id, _, name = receiver.partition(".")
        step = self._step(id)
        if name not in step.type.sockets:
            raise WiringError(f"{id} has no input {name!r}{did_you_mean(name, step.type.sockets)}")
        return step, name

    def _put(self, step: Step) -> None:
        _raise_first(step_problems(self, step))
        old = self.steps[step.id]
        self.steps[step.id] = step
        if old.wires == step.wires or not step.type.generic:
            return
        self.types.forget()
        try:
            self._check_after(step.id)
        except Exception:
            self.steps[step.id] = old
            self.types.forget()
            raise

    def _check_after(self, id: str) -> None:
        """Refuse what a step's outputs are now, where they end, also through generic steps."""
        takers: dict[str, list[str]] = {}
        for step in self.steps.values():
            for source in step.sources:
                takers.setdefault(source, []).append(step.id)
        seen, stack = {id}, [id]
        while stack:
            name = stack.pop()
            if name != id and not self.steps[name].type.generic:
                continue
            for taker in takers.get(name, ()):
                if taker not in seen:
                    seen.add(taker)
                    stack.append(taker)
                    _raise_first(wire_problems(self, self.steps[taker], self.types))

    def _new_id(self, node: NodeType[..., Any], id: str | None) -> str:
        for key in RESERVED:
            if key in node.sockets or key in node.widgets:
                raise GraphError(f"node {node.name}: {key!r} means something else in a graph file; rename it")
        if id is not None:
            self._free(self._scope + id, "node")
            return self._scope + id
        base = self._scope + re.sub(r"[^A-Za-z0-9_]", "_", node.name)
        count = self._count.get(base, 0)
        while True:
            count += 1
            name = base if count == 1 else f"{base}_{count}"
            if name not in self.steps and name not in self.params:
                self._count[base] = count - 1  # a call that fails leaves no gap
                return name

    def _free(self, name: str, what: str) -> None:
        if not ID.fullmatch(name):
            raise GraphError(
                f"{name!r} is no name for a {what}; use letters, digits, _ and -, a letter first"
            )
        if name in self.steps:
            raise GraphError(f"a node is already called {name!r}; nodes and parameters share one namespace")
        if name in self.params:
            raise GraphError(
                f"a parameter is already called {name!r}; nodes and parameters share one namespace"
            )


def _ends(where: str, socket: Socket, value: Any, one: bool = False) -> tuple[Wire | ParamRef, ...]:
    """The wires that a socket argument stands for; None leaves an optional socket open."""
    values = tuple(value) if socket.variadic and not one else (value,)
    ends: list[Wire | ParamRef] = []
    for each in values:
        if isinstance(each, Edge):
            ends.append(Wire(each.node, each.output))
        elif isinstance(each, ParamRef):
            ends.append(each)
        elif each is not None or socket.default is not None:
            wanted, got = type_text(socket.type), type_text(type(each))
            raise WiringError(
                f"{where} got {got}, but while a graph is being written an input takes a wire; pass it as a "
                f'parameter: g.param("{socket.name}", {wanted})'
            )
    return tuple(ends)


def _absolute(value: Any) -> Any:
    """Relative paths as files name them: from the working folder."""
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    return Path(os.path.abspath(value)) if isinstance(value, Path) else value


def _raise_first(found: Iterator[Problem]) -> None:
    for problem in found:
        raise problem.kind(problem.message)


def _caller() -> At | None:
    """The line outside `tokenloom.runtime` that is being executed."""
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__", "").startswith("tokenloom.runtime.") and frame.f_back:
        frame = frame.f_back
    return At(frame.f_code.co_filename, frame.f_lineno, 1)
