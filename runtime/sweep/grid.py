"""The grid of a sweep: parameters with one value or several, in the order that lets the cache do most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any, get_args, get_origin

from ..build import ParamRef
from ..errors import LoomError, did_you_mean
from ..fit import is_union
from ..graph import Graph
from ..models.handle import Model
from ..widgets import Widget, short, type_text
from .problems import Problems

Combination = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """Values by parameter. models: those that decide which model is loaded; the others come after them.

    Both in the order in which the graph uses them, so that the one that is used last varies fastest.
    """

    values: Mapping[str, tuple[Any, ...]]
    models: tuple[str, ...] = ()

    def __len__(self) -> int:
        return prod(map(len, self.values.values()))

    @property
    def axes(self) -> tuple[str, ...]:
        """The parameters with more than one value."""
        return tuple(name for name, values in self.values.items() if len(values) > 1)

    def outer(self) -> Iterator[Combination]:
        """Every combination of what decides the models."""
        return _products({name: self.values[name] for name in self.models})

    def inner(self) -> Iterator[Combination]:
        """Every combination of the rest."""
        return _products({n: values for n, values in self.values.items() if n not in self.models})

    def __iter__(self) -> Iterator[Combination]:
        return _products(self.values)

    def sample(self, most: int) -> Iterator[Combination]:
        """All combinations if not more than `most`; else every value once, beside the others' first."""
        if len(self) <= most:
            yield from self
            return
        first = {name: values[0] for name, values in self.values.items()}
        for name, values in self.values.items():
            yield from ({**first, name: value} for value in islice(values, most))

    def label(self, combination: Combination) -> str:
        """`keep=16 alpha=0.2`: what sets a combination apart."""
        return " ".join(f"{name}={plain_text(combination[name])}" for name in self.axes)


def _products(values: Mapping[str, tuple[Any, ...]]) -> Iterator[Combination]:
    return (dict(zip(values, one, strict=True)) for one in product(*values.values()))


def plain_text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple | list):
        return f"[{','.join(map(plain_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def read_grid(graph: Graph, given: Mapping[str, Any], problems: Problems) -> Grid:
    """The grid with checked values; what is unknown, unfit or there twice is noted.

    A list of values is an axis, anything else one value. Of a parameter that takes lists, one list is one
    value, and a list of lists an axis.
    """
    checked: dict[str, tuple[Any, ...]] = {}
    for name, value in given.items():
        if (widget := widget_of(graph, name, problems)) is None:
            continue
        values = _values(widget, value)
        if not values:
            problems.say(f"params.{name}: no value; give at least one")
        checked[name] = _checked(widget, values, problems)
    places = _places(graph)
    models = sorted((n for n in checked if places[n][1]), key=lambda n: places[n][0])
    others = sorted((n for n in checked if not places[n][1]), key=lambda n: places[n][0])
    return Grid({name: checked[name] for name in (*models, *others)}, tuple(models))


def _values(widget: Widget, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple | range):
        return (value,)
    if takes_lists(widget) and not (value and all(isinstance(one, list | tuple) for one in value)):
        return (value,)
    return value


def _checked(widget: Widget, values: Sequence[Any], problems: Problems) -> tuple[Any, ...]:
    found: list[Any] = []
    for value in values:
        try:
            one = widget.check("params", value)
        except LoomError as error:
            problems.say(error)
            continue
        if any(type(one) is type(old) and one == old for old in found):
            problems.say(f"params.{widget.name}: {short(value)} is there twice")
        found.append(one)
    return tuple(found) or (None,)  # a mistake was noted


def takes_lists(widget: Widget) -> bool:
    """Whether a list can be one of its values."""
    members = get_args(widget.type) if is_union(widget.type) else (widget.type,)
    return any(get_origin(member) is tuple for member in members)


def widget_of(graph: Graph, name: str, problems: Problems) -> Widget | None:
    """How a parameter's values are checked; None, and noted, when there is no such one."""
    if name not in graph.params:
        problems.say(f"params: no parameter is called {name!r}{did_you_mean(name, graph.params)}")
        return None
    widget = graph.params[name].widget
    if widget is None:
        kind = type_text(graph.params[name].type)
        problems.say(f"params.{name} wants {kind}, which a sweep cannot give; give it a widget type")
    return widget


def _places(graph: Graph) -> dict[str, tuple[int, bool]]:
    """Per parameter the first step that it decides, and whether that gives a model."""
    places = {name: (len(graph.steps), False) for name in graph.params}
    for number, id in enumerate(graph.order()):
        step = graph.steps[id]
        ends = (*step.widgets.values(), step.when, *(end for ends in step.wires.values() for end in ends))
        for end in ends:
            if isinstance(end, ParamRef) and number < places[end.name][0]:
                kinds = [get_origin(kind) or kind for kind in step.type.outputs.values()]
                places[end.name] = (number, Model in kinds)
    return places
