"""What sets two graphs apart: parameters, nodes, settings, wires and outputs; not how files are written.

Order, comments, layout, titles, help texts and defaults that are written out make no difference; what a graph
extends is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .build import ParamRef
from .dump import value_text as yaml_text
from .ir import Param, Step, Wire
from .packaged import path_text
from .renames import pairs, renamed, settings, whole
from .widgets import MISSING, type_text

if TYPE_CHECKING:
    from .graph import Graph

Kind = Literal["node", "setting", "wire", "type", "default", "output", "value"]


@dataclass(frozen=True)
class Change:
    """One thing that is another: a setting, a wire, a default ... as text; None where there is none."""

    kind: Kind
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Changed:
    """A node or parameter that both graphs have, under one name or two, and what is different about it."""

    old: str
    new: str
    changes: tuple[Change, ...]

    @property
    def renamed(self) -> bool:
        """Whether it has another name."""
        return self.old != self.new


@dataclass(frozen=True)
class Part:
    """What was added, removed and changed in one part of a graph; names and texts."""

    added: Mapping[str, str] = field(default_factory=dict[str, str])
    removed: Mapping[str, str] = field(default_factory=dict[str, str])
    changed: tuple[Changed, ...] = ()

    def __len__(self) -> int:
        return len(self.added) + len(self.removed) + len(self.changed)


@dataclass(frozen=True)
class GraphDiff:
    """From `old` to `new`. names: the step of `new` for each of `old` that both have.

    values: what two runs were given, or what one was given that the other graph has another default for.
    """

    old: Graph
    new: Graph
    names: Mapping[str, str]
    params: Part
    nodes: Part
    outputs: Part
    values: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing is different."""
        return not (len(self.params) or len(self.nodes) or len(self.outputs) or self.values)

    @property
    def only_names(self) -> bool:
        """Whether both compute the same and differ in names of nodes alone."""
        rest = len(self.params) or len(self.outputs) or self.nodes.added or self.nodes.removed or self.values
        return not self.same and not rest and not any(one.changes for one in self.nodes.changed)


def diff(old: Graph, new: Graph, values: Sequence[Change] = ()) -> GraphDiff:
    """How `new` differs from `old`."""
    names = pairs(old, new)
    return GraphDiff(
        old, new, names, _params(old, new), _nodes(old, new, names), _outputs(old, new, names), tuple(values)
    )


def given_values(
    old: Graph, old_values: Mapping[str, Any] | None, new: Graph, new_values: Mapping[str, Any] | None
) -> Iterator[Change]:
    """Parameters that both have, where one run was given something else than the other or its default.

    None: there was no run, defaults count; a parameter without one then says nothing.
    """
    if old_values is None and new_values is None:
        return
    for name in old.params:
        if name not in new.params:
            continue
        before, after = (
            whole(graph.params[name].default if values is None else values.get(name, MISSING))
            for graph, values in ((old, old_values), (new, new_values))
        )
        if before is not MISSING and after is not MISSING and not _equal(before, after):
            yield Change("value", name, value_text(before), value_text(after))


def value_text(value: Any) -> str:
    """A value as YAML, paths of tokenloom's own files without the folder that it lies in."""
    return path_text(value) if isinstance(value, Path) else yaml_text(value)


# -- parameters ----------------------------------------------------------------------------------------------


def param_line(param: Param) -> str:
    """`int 1.. = 54`; `path` when a run must give it."""
    default = "" if param.default is MISSING else f" = {value_text(param.default)}"
    return f"{_takes(param)}{default}"


def _takes(param: Param) -> str:
    return type_text(param.type) if param.widget is None else param.widget.describe()


def _params(old: Graph, new: Graph) -> Part:
    changed = [
        Changed(name, name, tuple(changes))
        for name in old.params
        if name in new.params and (changes := list(_param_changes(old.params[name], new.params[name])))
    ]
    return Part(
        {name: param_line(param) for name, param in new.params.items() if name not in old.params},
        {name: param_line(param) for name, param in old.params.items() if name not in new.params},
        tuple(changed),
    )


def _param_changes(old: Param, new: Param) -> Iterator[Change]:
    if (old.type, old.bounds) != (new.type, new.bounds):
        yield Change("type", "type", _takes(old), _takes(new))
    if not _equal(whole(old.default), whole(new.default)):
        yield Change("default", "default", _default(old), _default(new))


def _default(param: Param) -> str | None:
    return None if param.default is MISSING else value_text(param.default)


# -- nodes ---------------------------------------------------------------------------------------------------


def step_line(step: Step) -> str:
    """`prefill: llm $model.llm, inputs $placed, until $k`: node type, wires, settings that were given."""
    parts = [f"{name} {_ends_text(ends)}" for name, ends in step.wires.items() if ends]
    parts += [
        f"{name} {value_text(value)}"
        for name, value in step.widgets.items()
        if not _equal(whole(value), whole(step.type.widgets[name].default))
    ]
    extra = settings(step)
    parts += [f"{name} {value_text(extra[name])}" for name in _beside(step) if name in extra]
    return f"{step.type.name}{': ' if parts else ''}{', '.join(parts)}"


def _nodes(old: Graph, new: Graph, names: Mapping[str, str]) -> Part:
    taken = set(names.values())
    changed = list[Changed]()
    for before, after in names.items():
        changes = tuple(step_changes(old.steps[before], new.steps[after], names))
        if changes or before != after:
            changed.append(Changed(before, after, changes))
    return Part(
        {name: step_line(step) for name, step in new.steps.items() if name not in taken},
        {name: step_line(step) for name, step in old.steps.items() if name not in names},
        tuple(changed),
    )


def step_changes(old: Step, new: Step, names: Mapping[str, str]) -> Iterator[Change]:
    """Node type, wires by socket and settings of a step that both have. names: as in GraphDiff."""
    if old.type.name != new.type.name:
        yield Change("node", "node", old.type.name, new.type.name)
    for socket in dict.fromkeys((*old.wires, *new.wires)):
        before, after = old.wires.get(socket, ()), new.wires.get(socket, ())
        moved = renamed({socket: before}, names)
        if moved is None or moved[socket] != after:
            one, other = _ends_text(before) or None, _ends_text(after) or None
            other = f"{other}, another node" if other is not None and one == other else other
            yield Change("wire", socket, one, other)
    was, now = settings(old), settings(new)
    for name in dict.fromkeys((*was, *now)):
        if old.type.name != new.type.name and not (_given(old, name) or _given(new, name)):
            continue  # a default of a node of another type
        told, says = was.get(name, MISSING), now.get(name, MISSING)
        if not _equal(told, says):
            yield Change("setting", name, _setting(told), _setting(says))


def _beside(step: Step) -> Iterator[str]:
    """`when` and `device`, unless the node has settings that are called so."""
    return (name for name in ("when", "device") if name not in step.type.widgets)


def _given(step: Step, name: str) -> bool:
    return name in step.widgets or name in _beside(step)


def _setting(value: Any) -> str | None:
    return None if value is MISSING else value_text(value)


def _ends_text(ends: Sequence[Wire | ParamRef]) -> str:
    """`$patches`, `[$a, $b]`; "" for an open socket."""
    texts = [f"${end.name}" if isinstance(end, ParamRef) else f"${end}" for end in ends]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


# -- outputs -------------------------------------------------------------------------------------------------


def _outputs(old: Graph, new: Graph, names: Mapping[str, str]) -> Part:
    changed = list[Changed]()
    for name, wire in old.outputs.items():
        if name in new.outputs:
            moved = renamed({name: (wire,)}, names)
            if moved is None or moved[name] != (new.outputs[name],):
                change = Change("output", name, f"${wire}", f"${new.outputs[name]}")
                changed.append(Changed(name, name, (change,)))
    return Part(
        {name: f"${wire}" for name, wire in new.outputs.items() if name not in old.outputs},
        {name: f"${wire}" for name, wire in old.outputs.items() if name not in new.outputs},
        tuple(changed),
    )


def _equal(a: Any, b: Any) -> bool:
    """Equal, and of one type: 1 is not True."""
    return type(a) is type(b) and bool(a == b)
