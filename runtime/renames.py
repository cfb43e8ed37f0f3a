"""Which step of one graph is which of another: by name, and renamed ones by everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .check import order
from .ir import Step, Wire

if TYPE_CHECKING:
    from .graph import Graph

Ends = Mapping[str, tuple[Wire | ParamRef, ...]]


def pairs(old: Graph, new: Graph) -> dict[str, str]:
    """The step of `new` for each of `old` that has one.

    Steps of one name and node type are one; then those of which all but the name is the same: node type,
    settings, and what they take, from the same steps; last those of one name and different types that take
    mostly the same.
    """
    found = {
        name: name
        for name, step in old.steps.items()
        if name in new.steps and new.steps[name].type.name == step.type.name
    }
    free: dict[tuple[Any, ...], list[str]] = {}
    taken = set(found.values())
    for name in _ordered(new):
        if name not in taken:
            free.setdefault(_signature(new.steps[name], new.steps[name].wires), []).append(name)
    for name in _ordered(old):
        if name not in found and (wires := renamed(old.steps[name].wires, found)) is not None:
            same = free.get(_signature(old.steps[name], wires))
            if same:
                found[name] = same.pop(0)
    taken = set(found.values())
    for name in old.steps:
        both = name not in found and name in new.steps and name not in taken
        if both and _mostly(old.steps[name].wires, new.steps[name].wires, found):
            found[name] = name
    return found


def _mostly(old: Ends, new: Ends, names: Mapping[str, str]) -> bool:
    """Whether more than half of the sockets get the same."""
    sockets = {*old, *new}
    same = [s for s in sockets if s in old and s in new and renamed({s: old[s]}, names) == {s: new[s]}]
    return 2 * len(same) > len(sockets)


def renamed(wires: Ends, names: Mapping[str, str]) -> Ends | None:
    """The wires as they are with other names of the steps; None when one comes from a step without."""
    out: dict[str, tuple[Wire | ParamRef, ...]] = {}
    for socket, ends in wires.items():
        if any(isinstance(end, Wire) and end.node not in names for end in ends):
            return None
        out[socket] = tuple(
            Wire(names[end.node], end.output) if isinstance(end, Wire) else end for end in ends
        )
    return out


def settings(step: Step) -> dict[str, Any]:
    """All settings of a step, defaults too, with whole paths; `when` and `device` where they are set."""
    out = {name: whole(step.widgets.get(name, w.default)) for name, w in step.type.widgets.items()}
    if step.when is not True:
        out["when"] = step.when
    if step.device is not None:
        out["device"] = step.device
    return out


def whole(value: Any) -> Any:
    """Relative paths as files name them: from the working folder."""
    if isinstance(value, tuple):
        return tuple(map(whole, value))
    return Path(os.path.abspath(value)) if isinstance(value, Path) else value


def _ordered(graph: Graph) -> list[str]:
    done, left = order(graph.steps)
    return [*done, *left]


def _signature(step: Step, wires: Ends) -> tuple[Any, ...]:
    """Equal for steps that do the same with the same. Type and value: 1, 1.0 and True differ."""
    given = tuple((name, type(value).__name__, repr(value)) for name, value in settings(step).items())
    return step.type.name, given, tuple(sorted((name, ends) for name, ends in wires.items() if ends))
