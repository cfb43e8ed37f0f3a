"""Words of the command line as values: `image=cat.jpg keep=128`, `--set dominant.keep=128`.

A value is read by what the parameter or setting takes: text and paths as they are typed, everything else as a
YAML scalar (`54`, `0.5`, `true`, `null`); a list is `1,2,3` or `[1, 2, 3]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ..errors import GraphError, LoomError, WiringError, did_you_mean
from ..fit import is_union
from ..graph import Graph
from ..widgets import Widget, type_text
from ..yamltree import scalar


def given_params(graph: Graph, words: Iterable[str]) -> dict[str, Any]:
    """Checked values by parameter from `name=value` words.

    Errors: GraphError for a word without `=`, an unknown or doubled name, a parameter that only Python can
    give; WiringError for a value that does not fit.
    """
    out: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise GraphError(f"{word!r}: a parameter is given as name=value{_such_as(graph, word)}")
        if name not in graph.params:
            raise GraphError(f"params: no parameter is called {name!r}{did_you_mean(name, graph.params)}")
        if name in out:
            raise GraphError(f"params.{name} is given twice")
        widget = graph.params[name].widget
        if widget is None:
            kind = type_text(graph.params[name].type)
            raise GraphError(f"params.{name} wants {kind}, which only Python can give: tokenloom.run(...)")
        out[name] = value_of("params", widget, text)
    return out


def apply_settings(graph: Graph, words: Iterable[str]) -> None:
    """Change settings of nodes from `node.widget=value` words.

    Errors: GraphError or WiringError for a word of another form, unknown names, values that do not fit.
    """
    for word in words:
        place, equals, text = word.partition("=")
        node, dot, name = place.rpartition(".")
        if not equals or not dot:
            raise GraphError(f"--set {word}: wants node.setting=value, such as dominant.keep=54")
        if node not in graph.steps:
            raise GraphError(f"--set {word}: no node is called {node!r}{did_you_mean(node, graph.steps)}")
        widgets = graph.steps[node].type.widgets
        if name not in widgets:
            hint = did_you_mean(name, widgets)
            raise GraphError(f"--set {word}: {node} has no setting {name!r}{hint}")
        graph.set(node, **{name: value_of(node, widgets[name], text)})


def value_of(where: str, widget: Widget, text: str) -> Any:
    """The value that `text` stands for in this widget; a WiringError that starts with `where.name`."""
    first: LoomError | None = None
    for value in _readings(widget, text):
        try:
            return widget.check(where, value)
        except WiringError as error:
            first = first or error
    assert first is not None
    raise first


def _readings(widget: Widget, text: str) -> Iterable[Any]:
    """What `text` may mean, likeliest first."""
    kind = widget.type
    if widget.optional and text in ("null", "~"):
        yield None
    members = get_args(kind) if is_union(kind) else (kind,)
    if any(get_origin(member) is tuple for member in members) and (text[:1] == "[" or len(members) == 1):
        yield _items(text)
    elif not text or kind in (str, Path) or get_origin(kind) is Literal:
        yield text
        if kind not in (str, Path):
            yield scalar(text)
    else:
        yield scalar(text)
        yield text


def _items(text: str) -> list[Any]:
    inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    return [scalar(item.strip().strip("'\"")) for item in inner.split(",")] if inner.strip() else []


def _such_as(graph: Graph, word: str) -> str:
    """`, such as image=cat.jpg`: the first path that a run must give, else the first that it may."""
    paths = [p for p in graph.params.values() if Path in (p.type, *get_args(p.type))]
    fitting = [p for p in paths if p.required] or paths
    return f", such as {fitting[0].name}={word}" if fitting else ""
