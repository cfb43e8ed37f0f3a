"""Literal values and parameters of a graph file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from .check import widget_problem
from .errors import GraphError, did_you_mean
from .ir import Param
from .layers import Reader, kind_text
from .typenames import parse_type
from .widgets import MISSING, Range, type_text
from .yamltree import Marked

KEYS = ("type", "default", "min", "max", "choices", "help")


def is_reference(value: Marked) -> bool:
    """True for `$name`, False for `$$` and everything else."""
    return isinstance(value.value, str) and value.value[:1] == "$" and value.value[:2] != "$$"


def literal(reader: Reader, where: str, value: Marked) -> Any:
    """The plain value, `$$` unescaped; MISSING after a mistake."""
    if isinstance(value.value, dict):
        reader.say(value.at, f"{where}: a mapping is no value of a setting")
        return MISSING
    if isinstance(value.value, list):
        items: list[Any] = []
        for item in value.value:
            if is_reference(item):
                reader.say(
                    item.at,
                    f"{where}: {item.value} stands inside a list; make the whole list a parameter (or write "
                    "$$ for a dollar)",
                )
                return MISSING
            if (one := literal(reader, where, item)) is MISSING:
                return MISSING
            items.append(one)
        return tuple(items)
    if isinstance(value.value, str) and value.value.startswith("$$"):
        return value.value[1:]
    return value.value


def placed(value: Any, path: str) -> Any:
    """Relative paths in a checked value, seen from the folder of the file at `path`."""
    if isinstance(value, tuple):
        return tuple(placed(item, path) for item in value)
    if isinstance(value, Path) and not value.is_absolute():
        return Path(os.path.abspath(os.path.join(os.path.dirname(path), value)))
    return value


def read_param(reader: Reader, name: str, entry: Marked) -> Param | None:
    """One entry of `params`; None after a mistake in its type."""
    if not isinstance(entry.value, dict):
        reader.say(entry.at, f"params.{name}: wants a mapping such as {{type: int, default: 1}}")
        return None
    keys: dict[str, Marked] = entry.value
    for key, value in keys.items():
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            reader.say(value.key, f"params.{name}: {key!r} is not known of a parameter{hint}")
    kind = _kind(reader, name, entry)
    if kind is None:
        return None
    text = keys["help"].value if "help" in keys else ""
    if not isinstance(text, str):
        reader.say(keys["help"].at, f"params.{name}.help: wants a text, got {kind_text(keys['help'])}")
        text = ""
    made = Param(name, kind, bounds=_bounds(reader, name, keys), help=text, at=entry.key)
    if "default" not in keys:
        return made
    return replace(made, default=_default(reader, made, keys["default"]))


def _kind(reader: Reader, name: str, entry: Marked) -> Any:
    """The type, narrowed to its choices; None after a mistake."""
    value, choices = entry.value.get("type"), entry.value.get("choices")
    if value is None or not isinstance(value.value, str):
        at = entry.key if value is None else value.at
        reader.say(at, f"params.{name}: the type is missing, such as type: int")
        return None
    try:
        kind = parse_type(value.value)
    except GraphError as error:
        reader.say(value.at, f"params.{name}: {error}")
        return None
    if choices is None:
        return kind
    items = [literal(reader, f"params.{name}.choices", c) for c in _items(choices)]
    if not items or kind not in (int, str, bool) or any(type(item) is not kind for item in items):
        reader.say(choices.at, f"params.{name}.choices: wants a list of {type_text(kind)}")
        return None
    made: Any = Literal
    return made[tuple(items)]


def _items(value: Marked) -> list[Marked]:
    items: list[Marked] = value.value if isinstance(value.value, list) else []
    return items


def _bounds(reader: Reader, name: str, keys: Mapping[str, Marked]) -> Range | None:
    found: dict[str, float] = {}
    for key in ("min", "max"):
        if key in keys:
            value = keys[key].value
            if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
                found[key] = value
            else:
                reader.say(keys[key].at, f"params.{name}.{key}: wants a number, got {kind_text(keys[key])}")
    if len(found) == 2 and found["min"] > found["max"]:
        reader.say(keys["max"].at, f"params.{name}: max {found['max']} is below min {found['min']}")
    return Range(found.get("min"), found.get("max")) if found else None


def _default(reader: Reader, param: Param, value: Marked) -> Any:
    """The checked default; MISSING after a mistake."""
    where, widget = f"params.{param.name}", param.widget
    if widget is None:
        if value.value is not None:
            kind = type_text(param.type)
            reader.say(value.at, f"{where}: a {kind} is given by a run; it can have no default but null")
        return None
    given = literal(reader, where, value)
    if given is MISSING:
        return MISSING
    if message := widget_problem("params", widget, given):
        reader.say(value.at, message)
        return MISSING
    return placed(widget.check("params", given), value.at.path)
