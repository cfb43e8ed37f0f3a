"""Types of graph parameters as a graph file writes them: `int`, `list of path`, `Frames`, `str or null`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union, get_args

from . import registry, values
from .errors import GraphError, did_you_mean
from .fit import bare, is_union
from .widgets import type_text

PLAIN: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "path": Path}


def value_types() -> dict[str, Any]:
    """Every type that a socket or an output of a known node has, and the built-in values, by its text."""
    found: dict[str, Any] = {name: getattr(values, name) for name in values.__all__}
    for node in registry.all_nodes().values():
        for t in (*(s.type for s in node.sockets.values()), *node.outputs.values()):
            for part in get_args(bare(t)) if is_union(bare(t)) else (bare(t),):
                if part is not type(None) and part is not Any:
                    found.setdefault(type_text(part), part)
    return found


def parse_type(text: str) -> Any:
    """The type that `text` names; a GraphError that suggests the nearest."""
    parts = [_one(part.strip()) for part in text.split(" or ")]
    return parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007  (built at run time)


def _one(text: str) -> Any:
    if text == "null":
        return type(None)
    if text.startswith("list of "):
        lists: Any = tuple
        return lists[_one(text.removeprefix("list of ").strip()), ...]
    if text in PLAIN:
        return PLAIN[text]
    known = value_types()
    if text not in known:
        raise GraphError(f"no type is called {text!r}{did_you_mean(text, [*PLAIN, *known])}")
    return known[text]


def type_name(t: Any) -> str:
    """The text that `parse_type` reads as `t`; a TypeError when there is none."""
    text = type_text(t)
    if parse_type(text) != t:
        raise TypeError(text)
    return text
