"""Two graphs in one drawing: what was added is green, removed red, changed amber, and the rest grey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from .build import ParamRef
from .diff import Changed, GraphDiff
from .draw import HIDDEN, Mark, Marks, Row, changed, cut, param_text, shown, svg
from .graph import Graph
from .ir import Step, Wire
from .renames import renamed

Ends = tuple[Wire | ParamRef, ...]
OLD = f"{HIDDEN}old"  # in the ids of what the new graph has not, or has elsewhere
LEGEND: tuple[tuple[Mark, str], ...] = (
    ("added", "added"),
    ("removed", "removed"),
    ("changed", "changed"),
    ("same", "the same"),
)


def diff_svg(found: GraphDiff, title: str) -> str:
    """The drawing as SVG. Nodes that have another name show both."""
    both = Graph(title)
    both.params = {**found.old.params, **found.new.params}
    names = _names(found)
    taken = {name: found.new.steps[name] for name in found.new.steps}
    wires: dict[tuple[str, str], Mark] = {}
    for name, step in taken.items():
        old = next((before for before, after in found.names.items() if after == name), None)
        merged = _both_wires(step, None if old is None else found.old.steps[old], names)
        both.steps[name] = replace(step, wires={k: tuple(e for e, _ in ends) for k, ends in merged.items()})
        wires |= {(f"step:{name}", port): mark for port, mark in _ports(merged)}
    for name in found.nodes.removed:
        step, key = found.old.steps[name], names[name]
        both.steps[key] = replace(step, id=key, wires=_moved(step.wires, names))
        wires |= {
            (f"step:{key}", f"{s}:{i}"): "removed" for s, e in step.wires.items() for i in range(len(e))
        }
    boxes: dict[str, Mark] = {f"step:{name}": "added" for name in found.nodes.added}
    boxes |= {f"step:{names[name]}": "removed" for name in found.nodes.removed}
    boxes |= {f"step:{one.new}": "changed" for one in found.nodes.changed}
    _put_outputs(found, both, names, boxes, wires)
    marks = Marks(
        boxes=boxes,
        wires=wires,
        rows=_rows(found, names),
        heads={one.new: _heading(found, one) for one in found.nodes.changed},
        pills=[*_legend(found), *_pills(found)],
    )
    return svg(both, marks)


def _names(found: GraphDiff) -> dict[str, str]:
    """For each step of the old graph its id in the drawing."""
    out = dict(found.names)
    for name in found.nodes.removed:
        out[name] = name + OLD if name in found.new.steps else name
    return out


def _both_wires(
    new: Step, old: Step | None, names: Mapping[str, str]
) -> dict[str, list[tuple[Wire | ParamRef, Mark]]]:
    """A step's wires by socket, those that it has and those that it had."""
    before = {} if old is None else _moved(old.wires, names)
    out: dict[str, list[tuple[Wire | ParamRef, Mark]]] = {}
    for socket in dict.fromkeys((*new.wires, *before)):
        now, then = new.wires.get(socket, ()), before.get(socket, ())
        gone = tuple(end for end in then if end not in now)
        out[socket] = [(end, _mark(end, then, gone)) for end in (*now, *gone)]
    return out


def _mark(end: Wire | ParamRef, before: Ends, gone: Ends) -> Mark:
    if end in gone:
        return "removed"
    return "same" if end in before else "added"


def _moved(wires: Mapping[str, tuple[Wire | ParamRef, ...]], names: Mapping[str, str]) -> dict[str, Ends]:
    return {name: (renamed({name: ends}, names) or {}).get(name, ()) for name, ends in wires.items()}


def _ports(merged: Mapping[str, Sequence[tuple[Wire | ParamRef, Mark]]]) -> Iterator[tuple[str, Mark]]:
    for socket, ends in merged.items():
        for number, (_, mark) in enumerate(ends):
            yield f"{socket}:{number}", mark


def _put_outputs(
    found: GraphDiff,
    both: Graph,
    names: Mapping[str, str],
    boxes: dict[str, Mark],
    wires: dict[tuple[str, str], Mark],
) -> None:
    """The outputs of both graphs; one that comes from elsewhere now is there twice."""
    moved = {one.new for one in found.outputs.changed}
    for name, wire in found.new.outputs.items():
        both.outputs[name] = wire
        if name in moved or name in found.outputs.added:
            boxes[f"output:{name}"] = wires[(f"output:{name}", "")] = "added"
    for name in (*moved, *found.outputs.removed):
        wire, key = found.old.outputs[name], name + OLD
        both.outputs[key] = Wire(names[wire.node], wire.output)
        boxes[f"output:{key}"] = wires[(f"output:{key}", "")] = "removed"


def _rows(found: GraphDiff, names: Mapping[str, str]) -> dict[str, list[Row]]:
    """The settings of every step; `old → new` where they are different."""
    rows: dict[str, list[Row]] = {}
    for one in found.nodes.changed:
        settings = {c.name: c for c in one.changes if c.kind == "setting"}
        kept = [row for row in changed(found.new.steps[one.new]) if row.name not in settings]
        told = [
            Row(c.name, cut(f"{c.old or 'none'} → {c.new or 'none'}"), True, "changed")
            for c in settings.values()
        ]
        rows[one.new] = [*_plain(kept), *told]
    for name, step in found.new.steps.items():
        if name not in rows:
            rows[name] = _plain(changed(step), "added" if name in found.nodes.added else "same")
    for name in found.nodes.removed:
        rows[names[name]] = _plain(changed(found.old.steps[name]), "removed")
    return rows


def _plain(rows: Iterable[Row], mark: Mark = "same") -> list[Row]:
    return [replace(row, mark=mark) for row in rows]


def _heading(found: GraphDiff, one: Changed) -> tuple[str, str]:
    name = f"{one.old} → {one.new}" if one.renamed else one.new
    old, new = found.old.steps[one.old].type.name, found.new.steps[one.new].type.name
    kind = f"{old} → {new}" if old != new else new
    return cut(shown(name)), "" if kind == name else cut(kind)


def _legend(found: GraphDiff) -> Iterator[tuple[str, Mark]]:
    for mark, text in LEGEND:
        yield text, mark
    if len(found.params) or found.values:
        yield "", "same"


def _pills(found: GraphDiff) -> Iterator[tuple[str, Mark]]:
    """The parameters that are different, and values that runs were given."""
    for name in found.params.added:
        yield param_text(found.new.params[name]), "added"
    for name in found.params.removed:
        yield param_text(found.old.params[name]), "removed"
    for one in found.params.changed:
        told = [f"{c.name} {c.old or 'none'} → {c.new or 'none'}" for c in one.changes]
        yield cut(f"{one.new}: {', '.join(told)}", 70), "changed"
    for change in found.values:
        yield cut(f"{change.name}: given {change.old} → {change.new}", 70), "changed"
