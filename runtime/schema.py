"""JSON Schema (draft 2020-12) of graph files, made from the registry: completion and tooltips in editors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from . import registry
from .fit import is_union
from .graph import ID
from .node import NodeType, Socket
from .typenames import PLAIN, value_types
from .widgets import Widget, type_text

Schema = dict[str, Any]
PLAIN_TYPES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    Path: "string",
}
WIRE = {"$ref": "#/$defs/wire"}
PARAMETER = {"$ref": "#/$defs/parameter"}


def schema(nodes: Mapping[str, NodeType[..., Any]] | None = None) -> Schema:
    """The schema of graph files that may use these nodes (default: every registered one).

    In a file that extends another one, `null` removes what is inherited and nodes may be written in part.
    """
    known = dict(sorted((registry.all_nodes() if nodes is None else nodes).items()))
    whole = {"additionalProperties": {"allOf": [{"required": ["node"]}, *map(_complete, known.values())]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tokenloom graph",
        "type": "object",
        "required": ["tokenloom"],
        "additionalProperties": False,
        "properties": {
            "tokenloom": {"const": 1, "description": "version of the file format"},
            "title": {"type": "string"},
            "extends": {
                "type": "string",
                "description": "a graph file beside this one, or the bare name of a built-in graph",
            },
            "params": {"type": "object", "additionalProperties": {"$ref": "#/$defs/param"}},
            "nodes": {
                "type": "object",
                "propertyNames": {"pattern": f"^{ID.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/entry"},
            },
            "outputs": {"type": "object", "additionalProperties": {"anyOf": [WIRE, {"type": "null"}]}},
        },
        "if": {"not": {"required": ["extends"]}},
        "then": {"properties": {"nodes": whole}},
        "$defs": {
            "wire": {
                "type": "string",
                "pattern": rf"^\$({ID.pattern})(\.[A-Za-z_][A-Za-z0-9_]*)?$",
                "description": "$node, $node.output or $parameter",
            },
            "parameter": {"type": "string", "pattern": rf"^\$({ID.pattern})$", "description": "$parameter"},
            "param": _param(),
            "entry": _entry(known),
            "composite": _composite(),
            **{f"node.{name}": _node(node) for name, node in known.items()},
        },
    }


def _param() -> Schema:
    names = [*PLAIN, *(f"list of {name}" for name in PLAIN), *sorted(value_types())]
    number = {"type": "number"}
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "type": {"anyOf": [{"enum": names}, {"type": "string", "pattern": "^list of | or "}]},
            "default": {"not": {"type": "object"}},
            "min": number,
            "max": number,
            "choices": {"type": "array", "minItems": 1},
            "help": {"type": "string"},
        },
    }


def _entry(nodes: Mapping[str, NodeType[..., Any]]) -> Schema:
    """One node: the branch of its type when it names one, else a part of an inherited node."""
    kinds = [{"$ref": f"#/$defs/node.{name}"} for name in nodes]
    return {
        "type": ["object", "null"],
        "if": {"type": "object", "required": ["node"]},
        "then": {"oneOf": [*kinds, {"$ref": "#/$defs/composite"}]},
    }


def _composite() -> Schema:
    return {
        "type": "object",
        "description": "another graph file: its parameters are the inputs and settings",
        "required": ["node"],
        "properties": {
            "node": {"type": "string", "pattern": r"\.ya?ml$"},
            "when": _when(),
            "device": _device(),
        },
    }


def _node(node: NodeType[..., Any]) -> Schema:
    keys: Schema = {"node": {"const": node.name, "description": node.summary}, "when": _when()}
    keys |= {"device": _device()}
    keys |= {name: _socket(socket) for name, socket in node.sockets.items()}
    keys |= {name: widget_schema(widget) for name, widget in node.widgets.items()}
    return {
        "type": "object",
        "description": node.summary,
        "required": ["node"],
        "additionalProperties": {"type": "null"},  # takes away what the inherited node had
        "properties": keys,
    }


def _complete(node: NodeType[..., Any]) -> Schema:
    """What a node of this type cannot do without, where nothing is inherited."""
    required = [s.name for s in node.sockets.values() if s.required]
    required += [w.name for w in node.widgets.values() if w.required]
    is_this = {"properties": {"node": {"const": node.name}}}
    return {"if": is_this, "then": {"required": required}} if required else {}


def _socket(socket: Socket) -> Schema:
    ends: list[Schema] = [WIRE, {"type": "null"}]
    if socket.variadic:
        ends.append({"type": "array", "items": WIRE})
    text = ": ".join(filter(None, [type_text(socket.type), socket.help]))
    return {"anyOf": ends, "description": text}


def widget_schema(widget: Widget) -> Schema:
    """What a setting takes: a value of its type and bounds, a parameter, or null (its default)."""
    made: Schema = {"anyOf": [*_values(widget.type, widget), PARAMETER, {"type": "null"}]}
    if widget.help:
        made["description"] = widget.help
    if not widget.required:
        made["default"] = _plain(widget.default)
    return made


def _values(t: Any, widget: Widget) -> list[Schema]:
    if is_union(t):
        return [one for part in get_args(t) for one in _values(part, widget)]
    if get_origin(t) is tuple:
        args = get_args(t)
        if len(args) == 2 and args[1] is Ellipsis:
            return [{"type": "array", "items": {"anyOf": _values(args[0], widget)}}]
        items = [{"anyOf": _values(arg, widget)} for arg in args]
        return [{"type": "array", "prefixItems": items, "minItems": len(args), "maxItems": len(args)}]
    if t not in PLAIN_TYPES:
        return [{"enum": list(get_args(t))}]
    made: Schema = {"type": PLAIN_TYPES[t]}
    if widget.bounds is not None and t in (int, float):
        ends = {"minimum": widget.bounds.low, "maximum": widget.bounds.high}
        made |= {key: end for key, end in ends.items() if end is not None}
    return [made]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _when() -> Schema:
    return {
        "anyOf": [{"type": "boolean"}, PARAMETER, {"type": "null"}],
        "description": "false leaves the node out of the plan",
    }


def _device() -> Schema:
    return {
        "anyOf": [{"type": "string", "pattern": "^(auto|cpu|mps|cuda(:[0-9]+)?)$"}, {"type": "null"}],
        "description": "where the node runs",
    }
