"""A difference of two graphs to be read, on a terminal in colours, by programs as JSON, or as a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .diff import Change, Changed, GraphDiff, Part
from .diff_draw import diff_svg
from .draw import Mark
from .report.page import Html, element, joined, page
from .report.page import Part as Piece

SIGNS: dict[Mark, str] = {"added": "+", "removed": "-", "changed": "~", "same": " "}
PARTS = ("params", "nodes", "outputs")
NOTHING = "-"  # in place of a text


def lines(found: GraphDiff) -> Iterator[tuple[Mark, str]]:
    """One line per difference under the name of its part, and how it is to be coloured."""
    for name in PARTS:
        part: Part = getattr(found, name)
        if len(part):
            yield "same", name
            yield from _part_lines(name, part)
    if found.values:
        yield "same", "given"
        for change in found.values:
            yield "changed", _change_line(change)


def _part_lines(kind: str, part: Part) -> Iterator[tuple[Mark, str]]:
    for name, text in part.removed.items():
        yield "removed", f"{name}: {text}"
    for name, text in part.added.items():
        yield "added", f"{name}: {text}"
    for one in part.changed:
        yield "changed", _changed_line(kind, one)


def _changed_line(kind: str, one: Changed) -> str:
    if kind == "outputs":
        return _change_line(one.changes[0])
    name = f"{one.old} -> {one.new}, renamed" if one.renamed else one.new
    told = ", ".join(map(_change_line, one.changes))
    return f"{name}: {told}" if told else name


def _change_line(change: Change) -> str:
    """`keep: 54 -> 27`; a `-` for what is not there."""
    return f"{change.name} {change.old or NOTHING} -> {change.new or NOTHING}"


def summary(found: GraphDiff) -> str:
    """`the same graph`, or how much is different."""
    if found.same:
        return "the same graph" + ("" if found.old.title == found.new.title else ", under another title")
    counts = [(len(getattr(found, name)), name.removesuffix("s")) for name in PARTS]
    counts.append((len(found.values), "given value"))
    told = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts if n)
    names = "; only names of nodes: both compute the same" if found.only_names else ""
    one = sum(n for n, _ in counts) == 1
    return f"{told} {'differs' if one else 'differ'}{names}"


def as_json(found: GraphDiff) -> dict[str, Any]:
    """The difference as JSON: per part what was added, removed and changed."""
    facts: dict[str, Any] = {"same": found.same, "only_names": found.only_names}
    facts |= {name: _part_json(getattr(found, name)) for name in PARTS}
    return {**facts, "given": [_change_json(change) for change in found.values]}


def _part_json(part: Part) -> dict[str, Any]:
    changed = [
        {"old": one.old, "new": one.new, "changes": [_change_json(change) for change in one.changes]}
        for one in part.changed
    ]
    return {"added": dict(part.added), "removed": dict(part.removed), "changed": changed}


def _change_json(change: Change) -> dict[str, str | None]:
    return {"kind": change.kind, "name": change.name, "old": change.old, "new": change.new}


def diff_page(found: GraphDiff, old: str, new: str) -> str:
    """The drawing and the list as one HTML page. old, new: what the graphs are called."""
    body: list[Piece] = [
        element("h1", f"{old} → {new}"),
        element("p", summary(found), class_="soft"),
    ]
    for name in (*PARTS, "values"):
        rows = list(_rows(found, name))
        if rows:
            body += [element("h2", "given" if name == "values" else name), _table(rows)]
    drawing = element("div", Html(diff_svg(found, f"{old} → {new}")), class_="scroll")
    return page(f"{old} and {new}", *body, element("h2", "drawing"), drawing)


def _rows(found: GraphDiff, name: str) -> Iterator[tuple[str, str]]:
    if name == "values":
        yield from ((SIGNS["changed"], _change_line(change)) for change in found.values)
    else:
        yield from ((SIGNS[mark], text) for mark, text in _part_lines(name, getattr(found, name)))


def _table(rows: list[tuple[str, str]]) -> Html:
    colours = {"+": "good", "-": "bad"}
    cells = (
        element("tr", *(element("td", element("code", cell), class_=colours.get(row[0])) for cell in row))
        for row in rows
    )
    return element("table", joined(*cells))
