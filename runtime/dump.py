"""A graph as the text of a graph file: nodes in order, one to a line where it fits."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .check import order
from .errors import GraphError
from .ir import Param, Step, Wire
from .typenames import type_name
from .widgets import MISSING, type_text
from .yamltree import scalar

if TYPE_CHECKING:
    from .graph import Graph

WIDTH = 110
BARE = re.compile(r"\$?[A-Za-z0-9_./][A-Za-z0-9_./+@-]*( [A-Za-z0-9_./+@-]+)*[!.]?")
ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def dump(graph: Graph) -> str:
    """The text; `load` reads an equal graph from it. Paths are written absolute, so it may lie anywhere.

    Errors: GraphError for a parameter whose type a graph file cannot name.
    """
    lines = ["tokenloom: 1"]
    if graph.title:
        lines.append(f"title: {text(graph.title)}")
    for name, entries in (
        ("params", {p.name: _param(p) for p in graph.params.values()}),
        ("nodes", _nodes(graph)),
    ):
        if entries:
            lines.append(f"{name}:")
            for key, entry in entries.items():
                lines += _entry(key, entry)
    if graph.outputs:
        lines.append("outputs:")
        lines += [f"  {text(name)}: {_reference(wire)}" for name, wire in graph.outputs.items()]
    return "\n".join(lines) + "\n"


def _nodes(graph: Graph) -> dict[str, dict[str, str]]:
    done, left = order(graph.steps)
    return {name: _step(graph.steps[name]) for name in (*done, *left)}


def _entry(name: str, entry: Mapping[str, str]) -> list[str]:
    """`name: {key: value, ...}`, or one key to a line where that is too long."""
    inner = [f"{key}: {value}" for key, value in entry.items()]
    line = f"  {name}: {{{', '.join(inner)}}}"
    return [line] if len(line) <= WIDTH else [f"  {name}:", *(f"    {one}" for one in inner)]


def _param(param: Param) -> dict[str, str]:
    choices = param.widget.choices if param.widget is not None else ()
    optional = param.widget is not None and param.widget.optional
    try:
        kinds = dict.fromkeys(type(c) for c in choices) if choices and not optional else ()
        if len(kinds) > 1 or (choices and optional):
            raise TypeError(type_text(param.type))
        out = {"type": text(type_name(next(iter(kinds), param.type)))}
    except TypeError as error:
        raise GraphError(f"params.{param.name}: a graph file has no name for the type {error}") from None
    if param.default is not MISSING:
        out["default"] = value_text(param.default)
    if param.bounds is not None:
        ends = {"min": param.bounds.low, "max": param.bounds.high}
        out |= {key: value_text(end) for key, end in ends.items() if end is not None}
    if choices:
        out["choices"] = value_text(choices)
    if param.help:
        out["help"] = text(param.help)
    return out


def _step(step: Step) -> dict[str, str]:
    out = {"node": text(step.type.name)}
    if step.when is not True:
        out["when"] = value_text(step.when)
    if step.device is not None:
        out["device"] = text(step.device)
    for name, ends in step.wires.items():
        wires = [_reference(end) for end in ends]
        out[name] = f"[{', '.join(wires)}]" if step.type.sockets[name].variadic else wires[0]
    return out | {name: value_text(value) for name, value in step.widgets.items()}


def _reference(end: Wire | ParamRef) -> str:
    return f"${end.name}" if isinstance(end, ParamRef) else f"${end}"


def value_text(value: Any) -> str:
    """A setting's value as YAML."""
    if isinstance(value, ParamRef):
        return _reference(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else (".inf" if value > 0 else "-.inf")
    if isinstance(value, Path):
        return text(os.path.abspath(value))
    return text("$" + value if value.startswith("$") else value) if isinstance(value, str) else repr(value)


def text(value: str) -> str:
    """A string, in quotes where a reader would take it for something else."""
    if BARE.fullmatch(value) and scalar(value) == value and value not in _SWITCHES:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return ESCAPE.sub(lambda m: f"\\u{ord(m[0]):04x}", quoted)


_SWITCHES = {
    form for word in ("y", "n", "yes", "no", "on", "off") for form in (word, word.title(), word.upper())
}
