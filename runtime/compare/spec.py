"""What is compared, as it is written: `visionzip`, `visionzip:keep=32`, `visionzip:keep=16,32:targets=5`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..commands.words import value_of
from ..errors import LoomError, did_you_mean
from ..graph import Graph
from ..sweep.grid import plain_text, takes_lists
from ..sweep.identity import graph_name
from ..sweep.items import MEDIA
from ..sweep.problems import Problems
from ..widgets import Widget, type_text
from ..yamlfile import load

SETTING = re.compile(r":(?=[A-Za-z_]\w*=)")
INPUT = re.compile(r"[A-Za-z_]\w*=")
Named = Graph | Path | str | tuple[Graph | Path | str, Mapping[str, Any]]


class Typed(str):
    """A value as it is typed on the command line: read by what the parameter takes."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One graph with values of its own. own: those that set it apart, params: all that it was given."""

    name: str
    graph: Graph
    own: Mapping[str, Any] = field(default_factory=dict[str, Any])
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def value(self, name: str) -> Any:
        """A parameter's value, given or by default; None where it has none."""
        if name in self.params:
            return self.params[name]
        param = self.graph.params.get(name)
        return None if param is None or param.required else param.default


def split_words(words: Iterable[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Graphs, inputs (`name=value`) by name, and the names of inputs that are there twice."""
    graphs: list[str] = []
    inputs: dict[str, str] = {}
    twice: list[str] = []
    for word in words:
        if not INPUT.match(word):
            graphs.append(word)
            continue
        name, _, text = word.partition("=")
        twice += [name] if name in inputs else []
        inputs[name] = Typed(text)
    return graphs, inputs, twice


def read_entrants(named: Sequence[Named], inputs: Mapping[str, Any], problems: Problems) -> list[Entrant]:
    """The graphs with the inputs that they have; every mistake is noted.

    A graph whose own parameter is given several values stands for as many entrants.
    """
    out: list[Entrant] = []
    for one in named:
        try:
            out += _entrants(one, problems)
        except LoomError as error:
            problems.say(error)
    seen: dict[str, None] = {}
    for entrant in out:
        if entrant.name in seen:
            problems.say(
                f"{entrant.name}: is there twice; give one of them other values, {_example(entrant)}"
            )
        seen.setdefault(entrant.name)
    _check_known(out, inputs, problems)
    return [_given(entrant, inputs, problems) for entrant in out]


def _entrants(named: Named, problems: Problems) -> Iterator[Entrant]:
    """One entrant per combination of a graph's own values."""
    what, own = named if isinstance(named, tuple) else (named, {})
    if isinstance(what, str):
        what, *settings = SETTING.split(what)
        typed = [setting.partition("=") for setting in settings]
        own = {**{name: Typed(text) for name, _, text in typed}, **own}
    graph = what if isinstance(what, Graph) else load(what)
    name = graph_name(graph) or "graph"
    axes = {one: _values(name, graph, one, value, problems) for one, value in own.items()}
    for combination in product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        told = " ".join(f"{one}={plain_text(value)}" for one, value in values.items())
        yield Entrant(name=f"{name} {told}".strip(), graph=graph, own=values)


def _values(label: str, graph: Graph, name: str, value: Any, problems: Problems) -> list[Any]:
    """The checked values of a parameter of one graph; a mistake is noted, and stands for nothing."""
    widget = _widget(label, graph, name, problems)
    if widget is None:
        return []
    texts = alternatives(widget, value) if isinstance(value, Typed) else [value]
    return [one for text in texts for one in _checked(label, widget, text, problems)]


def alternatives(widget: Widget, text: str) -> list[str]:
    """`16,32` as two values; a text, a path or a list is one."""
    if takes_lists(widget) or widget.type in (str, Path):
        return [Typed(text)]
    return [Typed(one.strip()) for one in text.split(",")]


def _widget(label: str, graph: Graph, name: str, problems: Problems) -> Widget | None:
    if name not in graph.params:
        problems.say(f"{label}: no parameter is called {name!r}{did_you_mean(name, graph.params)}")
        return None
    widget = graph.params[name].widget
    if widget is None:
        kind = type_text(graph.params[name].type)
        problems.say(f"{label}: {name} wants {kind}, which a comparison cannot give; give it a widget type")
    return widget


def _checked(label: str, widget: Widget, value: Any, problems: Problems) -> list[Any]:
    try:
        if isinstance(value, Typed):
            return [value_of(label, widget, str(value))]
        return [widget.check(label, value)]
    except LoomError as error:
        problems.say(error)
        return []


def _given(entrant: Entrant, inputs: Mapping[str, Any], problems: Problems) -> Entrant:
    """The entrant with the inputs that its graph has; its own values go before them."""
    params = dict(entrant.own)
    for name, value in inputs.items():
        own = parameter(entrant.graph, name)
        if own is None or own in params:
            continue
        widget = entrant.graph.params[own].widget
        found = [value] if widget is None else _checked(entrant.name, widget, value, problems)
        if found:
            params[own] = found[0]
    return Entrant(name=entrant.name, graph=entrant.graph, own=entrant.own, params=params)


def parameter(graph: Graph, name: str) -> str | None:
    """The parameter of a graph that an input fills; `media` stands for a picture and for a clip."""
    if name in graph.params:
        return name
    own = [one for one in MEDIA if one in graph.params]
    return own[0] if name in MEDIA and len(own) == 1 and "media" in (name, own[0]) else None


def _check_known(entrants: Sequence[Entrant], inputs: Mapping[str, Any], problems: Problems) -> None:
    """Note inputs that no graph has; media that only some lack are told apart later."""
    for name in inputs:
        if entrants and name not in MEDIA and not any(parameter(one.graph, name) for one in entrants):
            known = {param for one in entrants for param in one.graph.params}
            problems.say(f"params: no graph has a parameter called {name!r}{did_you_mean(name, known)}")


def _example(entrant: Entrant) -> str:
    """`such as visionzip:keep=...`: how a graph gets a value of its own."""
    usual = (*MEDIA, "checkpoint", "question", "max_new_tokens")
    names = [*entrant.own, *(name for name in entrant.graph.params if name not in usual), "name"]
    return f"such as {entrant.name.partition(' ')[0]}:{names[0]}=..."
