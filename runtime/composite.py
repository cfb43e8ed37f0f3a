"""A graph file that stands for a node: its steps are inlined, its parameters replaced by what is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .ir import Wire
from .widgets import MISSING, type_text

if TYPE_CHECKING:
    from .graph import Graph
    from .yamlgraph import Building, End, Entry


def inline(build: Building, node: Entry, inner: Graph) -> None:
    """The steps of `inner` as `node.id/...`, its parameters replaced by what the entry gives."""
    given = _arguments(build, node, inner)
    outer_when, device = build.when(node), build.device(node)
    for step in inner.steps.values():
        id = f"{node.id}/{step.id}"
        wires: dict[str, tuple[End, ...]] = {}
        for key, ends in step.wires.items():
            moved = [
                _argument(build, node, id, key, i, end, given)
                if isinstance(end, ParamRef)
                else Wire(f"{node.id}/{end.node}", end.output)
                for i, end in enumerate(ends)
            ]
            if left := tuple(end for end in moved if end is not None and end is not MISSING):
                wires[key] = left
        widgets = {
            key: _argument(build, node, id, key, 0, value, given) if isinstance(value, ParamRef) else value
            for key, value in step.widgets.items()
        }
        widgets = {key: value for key, value in widgets.items() if value is not MISSING}
        inner_when = given[step.when.name] if isinstance(step.when, ParamRef) else step.when
        when = _both(build, node, inner_when, outer_when)
        place = None if "device" in step.type.widgets else step.device or device
        build.graph.steps[id] = replace(step, id=id, wires=wires, widgets=widgets, when=when, device=place)


def _argument(
    build: Building, node: Entry, id: str, key: str, index: int, ref: ParamRef, given: Mapping[str, Any]
) -> Any:
    """What stands for a parameter of the composite; its mistakes are shown where it was given."""
    value = node.keys.get(ref.name)
    build.marks[id, key, index] = node.at if value is None else value.at
    if given[ref.name] is MISSING:
        build.bad.add((id, key))
    return given[ref.name]


def _arguments(build: Building, node: Entry, inner: Graph) -> dict[str, Any]:
    """Per parameter of a composite a wire, an outer parameter or a value; MISSING after a mistake."""
    out: dict[str, Any] = {}
    settings = dict(node.settings())
    for name, param in inner.params.items():
        if name not in settings:
            out[name] = param.default
            if param.required:
                text = "nothing is connected to" if param.widget is None else "there is no value for"
                build.reader.say(node.at, f"{node.id}: {text} {name} ({type_text(param.type)})")
        elif param.widget is not None:
            out[name] = build.setting(node.id, param.widget, settings[name])
        else:
            ends = build.ends(node.id, name, settings[name], variadic=False)
            out[name] = ends[0] if ends else MISSING if (node.id, name) in build.bad else None
    return out


def _both(build: Building, node: Entry, inner: Any, outer: bool | ParamRef) -> bool | ParamRef:
    """A step inside runs when its own `when` and that of the composite hold."""
    if inner is MISSING or inner is True or inner == outer:
        return outer
    if inner is False or outer is False:
        return False
    if outer is not True:
        build.reader.say(
            node.keys["when"].at, f"{node.id}.when: a node inside has a parameter for its own when"
        )
    assert isinstance(inner, ParamRef)
    return inner
