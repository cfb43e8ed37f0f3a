"""What is wrong with a graph: wires, types, settings, parameters, cycles; all at once, without running."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from .build import ParamRef
from .errors import GraphError, LoomError, WiringError, did_you_mean
from .fit import bound_of, fits, is_union
from .generic import variables
from .ir import At, Param, Step, Wire
from .widgets import MISSING, Widget, type_text

if TYPE_CHECKING:
    from .graph import Graph
    from .resolve import Types


@dataclass(frozen=True)
class Problem:
    """One mistake: the step it is in ("" for the graph), the socket or setting, and which of its wires."""

    message: str
    step: str = ""
    key: str = ""
    index: int = 0
    at: At | None = None
    kind: type[LoomError] = WiringError

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


def problems(graph: Graph) -> list[Problem]:
    """Everything that is wrong with the graph, step by step, then outputs, then cycles."""
    found: list[Problem] = []
    types = graph.resolved()
    for step in graph.steps.values():
        found += step_problems(graph, step, types)
    for name, wire in graph.outputs.items():
        if message := wire_problem(graph.steps, f"output {name}", Any, wire):
            found.append(Problem(message, key=name, kind=GraphError))
    return found + list(cycle_problems(graph))


def unused_params(graph: Graph) -> list[str]:
    """Parameters that no setting, input or `when` takes: giving them changes nothing."""
    used: set[str] = set()
    for step in graph.steps.values():
        ends = (end for wires in step.wires.values() for end in wires)
        used.update(v.name for v in (*step.widgets.values(), *ends, step.when) if isinstance(v, ParamRef))
    return [name for name in graph.params if name not in used]


def step_problems(graph: Graph, step: Step, types: Types | None = None) -> Iterator[Problem]:
    """What is wrong with one step, given the steps and parameters that are there."""
    yield from wire_problems(graph, step, types or graph.types)
    for socket in step.type.sockets.values():
        if socket.required and not step.wires.get(socket.name):
            message = f"{step.id}: nothing is connected to {socket.name} ({type_text(socket.type)})"
            yield Problem(message, step.id, socket.name, at=step.at)
    yield from _widget_problems(graph.params, step)
    if isinstance(step.when, ParamRef):
        param = graph.params.get(step.when.name)
        if param is None:
            yield Problem(
                unknown_param(f"{step.id}.when", step.when, graph.params), step.id, "when", at=step.at
            )
        elif param.type is not bool:
            message = f"{step.id}.when wants bool, but parameter {param.name} is {_param_text(param)}"
            yield Problem(message, step.id, "when", at=step.at)


def wire_problems(graph: Graph, step: Step, types: Types) -> Iterator[Problem]:
    """What is wrong with what is wired to one step."""
    for name, ends in step.wires.items():
        if name not in step.type.sockets:
            known = [*step.type.sockets, *step.type.widgets]
            message = f"{step.id}: no input or setting is called {name!r}{did_you_mean(name, known)}"
            yield Problem(message, step.id, name, at=step.at)
            continue
        socket = step.type.sockets[name]
        for i, end in enumerate(ends):
            if wrong := _end_problem(graph, f"{step.id}.{name}", socket.type, end, types):
                yield Problem(wrong, step.id, name, i, step.at)
        if len(ends) > 1 and not socket.variadic:
            message = f"{step.id}.{name} takes one wire, {len(ends)} are given"
            yield Problem(message, step.id, name, 1, step.at)
    if step.type.generic:
        yield from _conflicts(step, types)


def _conflicts(step: Step, types: Types) -> Iterator[Problem]:
    """Sockets that share a type variable are given what no single one of its constraints takes."""
    for variable, given in step.type.conflicts(types.given(step)).items():
        names = [s.name for s in step.type.sockets.values() if variable in variables(s.generic)]
        wanted, got = type_text(bound_of(variable)), ", ".join(map(type_text, given))
        message = f"{step.id}: {' and '.join(names)} want the same of {wanted}, got {got}"
        yield Problem(message, step.id, names[-1], at=step.at)


def _widget_problems(params: Mapping[str, Param], step: Step) -> Iterator[Problem]:
    for name, value in step.widgets.items():
        widget = step.type.widgets.get(name)
        message: str | None = None
        if widget is None:
            known = [*step.type.sockets, *step.type.widgets]
            message = f"{step.id}: no input or setting is called {name!r}{did_you_mean(name, known)}"
        elif not isinstance(value, ParamRef):
            message = widget_problem(step.id, widget, value)
        elif value.name in params:
            message = param_problem(step.id, params[value.name], widget)
        else:
            message = unknown_param(f"{step.id}.{name}", value, params)
        if message:
            yield Problem(message, step.id, name, at=step.at)
    for widget in step.type.widgets.values():
        if widget.required and widget.name not in step.widgets:
            message = f"{step.id}.{widget.name} has no value; wanted {widget.describe()}"
            yield Problem(message, step.id, widget.name, at=step.at)


def _end_problem(graph: Graph, where: str, wanted: Any, end: Wire | ParamRef, types: Types) -> str | None:
    if isinstance(end, Wire):
        return wire_problem(graph.steps, where, wanted, end, types)
    if end.name not in graph.params:
        return unknown_param(where, end, graph.params)
    param = graph.params[end.name]
    if fits(param.type, wanted):
        return None
    return f"{where} wants {type_text(wanted)}, but parameter {param.name} is {_param_text(param)}"


def unknown_param(where: str, ref: ParamRef, params: Mapping[str, Param]) -> str:
    """The message for a parameter that nobody declared."""
    return f"{where}: no parameter is called {ref.name!r}{did_you_mean(ref.name, params)}"


def wire_problem(
    steps: Mapping[str, Step], where: str, wanted: Any, wire: Wire, types: Types | None = None
) -> str | None:
    """Why this wire cannot end in a socket of type `wanted`, or None."""
    if wire.node not in steps:
        return f"{where}: no node is called {wire.node!r}{did_you_mean(wire.node, steps)}"
    sender = steps[wire.node].type
    if wire.output not in sender.outputs:
        if wire.output:
            return f"{where}: {output_problem(wire.node, wire.output, sender.outputs)}"
        text = (
            f": {wire.node} gives" if wanted is Any else f" wants {type_text(wanted)}, but {wire.node} gives"
        )
        picks = " or ".join(sender.outputs)
        return f"{where}{text} {type_text(sender.output)}; say which output: {picks}"
    given = (types.outputs(wire.node) if types else sender.outputs)[wire.output]
    if fits(given, wanted):
        return None
    if types and wire.node in types.unsure and fits(wanted, given):
        return None  # what is missing before it is reported there
    return f"{where} wants {type_text(wanted)}, but {wire} gives {type_text(given)}"


def output_problem(node: str, output: str, outputs: Mapping[str, Any]) -> str:
    """The message for an output that the node does not have."""
    if list(outputs) == [""]:
        return f"{node} has one unnamed output and no {output!r}; say {node} alone"
    return f"{node} has no output {output!r}{did_you_mean(output, outputs)}"


def widget_problem(where: str, widget: Widget, value: Any) -> str | None:
    """Why the widget refuses this value, or None."""
    try:
        widget.check(where, value)
    except WiringError as error:
        return str(error)
    return None


def param_problem(where: str, param: Param, widget: Widget) -> str | None:
    """Why this parameter cannot set this widget, or None: by type, then by its default value."""
    source = param.widget
    if source is None or not _may_set(source, widget):
        wanted, given = widget.describe(), _param_text(param)
        return f"{where}.{widget.name} wants {wanted}, but parameter {param.name} is {given}"
    if param.default is MISSING or (message := widget_problem(where, widget, param.default)) is None:
        return None
    return f"{message} (the default of parameter {param.name})"


def _may_set(source: Widget, target: Widget) -> bool:
    """True when values of the parameter's type can be values of the widget's."""
    if source.optional and not target.optional:
        return False
    if source.choices:
        return all(widget_problem("", target, choice) is None for choice in source.choices)
    return _kind_fits(source.type, target.type)


def _kind_fits(given: Any, wanted: Any) -> bool:
    if is_union(given):
        return all(_kind_fits(g, wanted) for g in get_args(given))
    if is_union(wanted):
        return any(_kind_fits(given, w) for w in get_args(wanted))
    if get_origin(given) is tuple and get_origin(wanted) is tuple:
        return all(
            _kind_fits(g, w)
            for g in get_args(given)
            for w in get_args(wanted)
            if g is not Ellipsis and w is not Ellipsis
        )
    choices = get_args(wanted) if widget_choices(wanted) else ()
    if choices:
        return any(type(choice) is given for choice in choices)
    return given == wanted or (given, wanted.__name__ if isinstance(wanted, type) else "") in (
        (int, "float"),
        (str, "Path"),
    )


def widget_choices(t: Any) -> tuple[Any, ...]:
    """The choices of a `Literal` type, else ()."""
    return Widget("", t, False, MISSING, None, "").choices


def _param_text(param: Param) -> str:
    return type_text(param.type) if param.widget is None else param.widget.describe()


def order(steps: Mapping[str, Step]) -> tuple[list[str], list[str]]:
    """Ids with every step after those it takes from, in written order where that is free; and what is left.

    What is left waits for a cycle. Wires to unknown steps do not count.
    """
    ids = list(steps)
    number = {name: i for i, name in enumerate(ids)}
    waiting = [0] * len(ids)
    takers: list[list[int]] = [[] for _ in ids]
    for i, step in enumerate(steps.values()):
        for source in step.sources:
            if source in number:
                waiting[i] += 1
                takers[number[source]].append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]  # sorted, so a heap
    done: list[str] = []
    while ready:
        i = heapq.heappop(ready)
        done.append(ids[i])
        for taker in takers[i]:
            waiting[taker] -= 1
            if waiting[taker] == 0:
                heapq.heappush(ready, taker)
    return done, [ids[i] for i, count in enumerate(waiting) if count]


def cycles(steps: Mapping[str, Step]) -> Iterator[list[str]]:
    """One cycle for every knot of steps that wait for each other, along the wires."""
    left = order(steps)[1]
    if not left:
        return
    import networkx as nx  # slow to import, and few graphs have cycles

    place = {name: i for i, name in enumerate(left)}
    knots: Any = nx.DiGraph()
    knots.add_nodes_from(left)
    knots.add_edges_from((s, name) for name in left for s in steps[name].sources if s in place)
    members = (min(m, key=place.__getitem__) for m in nx.strongly_connected_components(knots))
    found: set[str] = set()
    for first in sorted(members, key=place.__getitem__):
        try:
            cycle = [edge[0] for edge in nx.find_cycle(knots, first)]
        except nx.NetworkXNoCycle:
            continue
        if found.isdisjoint(cycle):
            yield cycle
        found.update(cycle)


def cycle_problems(graph: Graph) -> Iterator[Problem]:
    """A message per cycle that names its steps and where they are written."""
    for names in cycles(graph.steps):
        yield Problem(
            cycle_text(graph.steps[name] for name in names),
            names[0],
            at=graph.steps[names[0]].at,
            kind=GraphError,
        )


def cycle_text(steps: Iterable[Step]) -> str:
    """`these nodes wait for each other: a (x.yaml:8:3) -> b (x.yaml:9:3) -> a`."""
    members = list(steps)
    named = [f"{step.id} ({step.at})" if step.at else step.id for step in members]
    return f"these nodes wait for each other: {' -> '.join([*named, members[0].id])}"
