"""Pictures of a graph, offline: a layered SVG of our own, and how two graphs in one are coloured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from .build import ParamRef
from .check import order, wire_problem
from .dump import value_text
from .fit import bare, is_union
from .ir import Param, Step, Wire
from .layout import Box, Link, place
from .packaged import path_text
from .widgets import MISSING, type_text
from .yamltree import UNPRINTABLE

if TYPE_CHECKING:
    from .graph import Graph

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
ADVANCE = 0.602  # of a monospaced letter, in em
ID_SIZE, TYPE_SIZE, ROW_SIZE, PORT_SIZE = 14.0, 11.0, 11.5, 10.0
ROW, PAD, MARGIN, LONGEST = 17.0, 12.0, 28.0, 44

# value families: fill of the boxes that make them, colour of their wires
FAMILIES: dict[str, tuple[str, str]] = {
    "media": ("#e8f1fd", "#3b7dd8"),
    "tokens": ("#fdf0e1", "#d9822b"),
    "model": ("#eef0f3", "#7b8794"),
    "prompt": ("#e6f6f4", "#2a9d8f"),
    "language": ("#eaf6e6", "#4f9d3a"),
    "report": ("#fbe9f1", "#c2487f"),
    "other": ("#f0ecfa", "#7c5cc4"),
}
FAMILY_OF = {
    **dict.fromkeys(("Image", "Video", "Frames", "Tiles"), "media"),
    **dict.fromkeys(("Tokens", "Patches", "VisualTokens"), "tokens"),
    **dict.fromkeys(("Model",), "model"),
    **dict.fromkeys(("Prompt", "str"), "prompt"),
    **dict.fromkeys(("LLMInput", "LLMState", "Answer", "KVCache"), "language"),
    **dict.fromkeys(("Picture", "Table"), "report"),
}


def family(t: Any) -> str:
    """The value family of a type: media, tokens, model, prompt, language, report or other."""
    t = bare(t)
    if is_union(t):
        t = next((a for a in get_args(t) if a is not type(None)), t)
    t = get_origin(t) or t
    names = (k.__name__ for k in t.__mro__) if isinstance(t, type) else iter([str(t)])
    return next((FAMILY_OF[name] for name in names if name in FAMILY_OF), "other")


def makes(step: Step) -> str:
    """The family of what a step gives first."""
    return family(next(iter(step.type.outputs.values())))


Mark = Literal["added", "removed", "changed", "same"]
# of what is marked: fill, stroke and text
MARKS: dict[Mark, tuple[str, str, str]] = {
    "added": ("#e2f5e5", "#2e8b3d", "#1d6b2b"),
    "removed": ("#fdeaea", "#c0392b", "#a12a1e"),
    "changed": ("#fff2cc", "#c98a00", "#8a5a00"),
    "same": ("#f6f7f9", "#b4bcc5", "#7b8794"),
}
PILL = ("#fff7d6", "#d9b400", "#6b5900")
HIDDEN = "\0"  # in the id of a step or output: what follows sets it apart and is not shown


@dataclass(frozen=True)
class Row:
    """One line in a box: a setting and its value; `pill` when a parameter sets it."""

    name: str
    value: str
    pill: bool = False
    mark: Mark | None = None


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What is different in a drawing of two graphs; what is not named is grey.

    boxes: by `step:id` and `output:name`. wires: by box and input, such as ("step:state", "inputs:0"). rows,
    heads: instead of a step's settings, and of its id and type. pills: instead of the parameters'; "" ends a
    row of them.
    """

    boxes: Mapping[str, Mark] = field(default_factory=dict[str, Mark])
    wires: Mapping[tuple[str, str], Mark] = field(default_factory=dict[tuple[str, str], Mark])
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict[str, Sequence[Row]])
    heads: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    pills: Sequence[tuple[str, Mark]] = ()

    def box(self, name: str) -> tuple[str, str, str]:
        """Fill, stroke and text of a box."""
        return MARKS[self.boxes.get(name, "same")]


def changed(step: Step) -> list[Row]:
    """The settings that differ from their defaults, or follow a parameter; then `when` and `device`."""
    rows = [
        Row(name, cut(_shown(value)), isinstance(value, ParamRef))
        for name, value in step.widgets.items()
        if isinstance(value, ParamRef) or value != step.type.widgets[name].default
    ]
    if step.when is not True:
        rows.append(Row("when", value_text(step.when), isinstance(step.when, ParamRef)))
    return [*rows, Row("device", step.device)] if step.device else rows


def _shown(value: Any) -> str:
    """A setting's value as it is read, without quotes unless nothing is left of it."""
    if isinstance(value, Path):
        value = path_text(value)
    return (" ".join(value.split()) or repr(value)) if isinstance(value, str) else value_text(value)


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, its middle left out where it is too long."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 3]}…{text[-(longest - longest // 3 - 1) :]}"


def param_text(param: Param) -> str:
    """`keep = 54`, or `clip: path` when a run must give it."""
    if param.default is MISSING:
        return f"{param.name}: {type_text(param.type)}"
    return f"{param.name} = {cut(_shown(param.default))}"


def without_models(graph: Graph) -> Graph:
    """A copy to be drawn: without the steps that load models, and their wires."""
    loaders = {
        name
        for name, step in graph.steps.items()
        if all(family(t) == "model" for t in step.type.outputs.values())
    }
    made = graph.copy()
    for name, step in graph.steps.items():
        wires = {
            socket: tuple(end for end in each if isinstance(end, ParamRef) or end.node not in loaders)
            for socket, each in step.wires.items()
        }
        made.steps[name] = replace(step, wires={socket: each for socket, each in wires.items() if each})
    made.steps = {name: step for name, step in made.steps.items() if name not in loaders}
    return made


def ends(graph: Graph, step: Step) -> Iterator[tuple[str, int, Wire | ParamRef]]:
    """Every wire into a step: socket, which one of a variadic socket, and where it comes from."""
    for name, wires in step.wires.items():
        for i, end in enumerate(wires):
            yield name, i, end


def shown(name: str) -> str:
    """What a reader sees of an id."""
    return name.partition(HIDDEN)[0]


def text_width(text: str, size: float) -> float:
    """Pixels of a monospaced text."""
    return len(text) * size * ADVANCE


# -- SVG -----------------------------------------------------------------------------------------------------


def svg(graph: Graph, marks: Marks | None = None) -> str:
    """The graph as an SVG picture: boxes by layer, wires in their value's colour, parameters as pills.

    marks: in these colours instead.
    """
    boxes, links = _boxes(graph, marks)
    placed = place(boxes, links)
    title = cut(graph.title, 90)
    pills = marks.pills if marks else [(param_text(p), None) for p in graph.params.values()]
    wide = max(placed.width, 420.0, text_width(title, 20))
    head, top = _head(title, pills, wide)
    width, height = wide + 2 * MARGIN, placed.height + top + 2 * MARGIN
    left = MARGIN + (wide - placed.width) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="{FONT}">',
        f"<title>{_xml(graph.title or 'tokenloom graph')}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="14" fill="#ffffff"/>',
        *head,
        f'<g transform="translate({left:.1f} {MARGIN + top:.1f})">',
    ]
    out += _wires(graph, links, placed.ways, marks)
    out += [line for box in boxes for line in _draw(graph, box, marks)]
    return "\n".join([*out, "</g>", "</svg>"]) + "\n"


def _boxes(graph: Graph, marks: Marks | None) -> tuple[list[Box], list[Link]]:
    """Value parameters, steps in order, and outputs; ids get a prefix so that they cannot clash."""
    done, left = order(graph.steps)
    steps = [graph.steps[name] for name in (*done, *left)]
    made, links = list[Box](), list[Link]()
    used = {e.name for step in steps for _, _, e in ends(graph, step) if isinstance(e, ParamRef)}
    for name in graph.params:
        if name in used:
            width = text_width(name, ROW_SIZE) + 2 * PAD
            made.append(Box(f"param:{name}", width, 26.0, outputs={"": width / 2}))
    for step in steps:
        made.append(_step_box(step, marks))
        for name, i, end in ends(graph, step):
            source = (
                (f"param:{end.name}", "") if isinstance(end, ParamRef) else (f"step:{end.node}", end.output)
            )
            if isinstance(end, ParamRef) or wire_problem(graph.steps, "", Any, end) is None:
                links.append(Link(*source, f"step:{step.id}", f"{name}:{i}"))
    for name, wire in graph.outputs.items():
        if wire_problem(graph.steps, "", Any, wire):
            continue
        width = text_width(shown(name), ROW_SIZE) + 2 * PAD + 8
        made.append(Box(f"output:{name}", width, 26.0, inputs={"": width / 2}))
        links.append(Link(f"step:{wire.node}", wire.output, f"output:{name}", ""))
    return made, links


def _rows(step: Step, marks: Marks | None) -> Sequence[Row]:
    return marks.rows[step.id] if marks and step.id in marks.rows else changed(step)


def _heading(step: Step, marks: Marks | None) -> tuple[str, str]:
    """Name and node type; the type is "" where it is the name."""
    if marks and step.id in marks.heads:
        return marks.heads[step.id]
    name = shown(step.id)
    return cut(name), "" if step.type.name == name else cut(step.type.name)


def _step_box(step: Step, marks: Marks | None) -> Box:
    rows, (name, kind) = _rows(step, marks), _heading(step, marks)
    ports = [(f"{name}:{i}", name) for name, wires in step.wires.items() for i in range(len(wires))]
    outputs = [(name, name) for name in step.type.outputs]
    lines = [
        text_width(name, ID_SIZE),
        text_width(kind, TYPE_SIZE),
        *(text_width(f"{row.name}  {row.value}", ROW_SIZE) + 12 for row in rows),
        _ports_width(ports),
        _ports_width(outputs),
    ]
    width = max(110.0, *lines) + 2 * PAD
    height = 2 * PAD + 18 + ROW * len(rows) + 6
    height += 15 * bool(kind) + 13 * bool(ports) + 13 * (outputs[0][0] != "")
    return Box(f"step:{step.id}", width, height, _ports(ports, width), _ports(outputs, width))


def _ports_width(ports: Sequence[tuple[str, str]]) -> float:
    return sum(text_width(name, PORT_SIZE) + 14 for _, name in ports)


def _ports(ports: Sequence[tuple[str, str]], width: float) -> dict[str, float]:
    """Offsets along an edge of the box: as wide as their names, spread evenly."""
    spare = (width - 2 * PAD - _ports_width(ports)) / max(1, len(ports))
    out: dict[str, float] = {}
    x = PAD
    for key, name in ports:
        size = text_width(name, PORT_SIZE) + 14 + spare
        out[key] = x + size / 2
        x += size
    return out


def _head(title: str, pills: Sequence[tuple[str, Mark | None]], width: float) -> tuple[list[str], float]:
    """Title and parameter pills, and how high they are."""
    out: list[str] = []
    y = MARGIN
    if title:
        out.append(_text(MARGIN, y + 16, title, 20, "#1f2933", weight="bold"))
        y += 34
    x = MARGIN
    for pill, mark in pills:
        if not pill:
            x, y = MARGIN, y + 30
            continue
        wide = text_width(pill, ROW_SIZE) + 20
        if x > MARGIN and x + wide > MARGIN + width:
            x, y = MARGIN, y + 30
        out += _pill(x, y, wide, pill, mark)
        x += wide + 8
    return out, y + (30 if pills else 0) - MARGIN + (18 if out else 0)


def _pill(x: float, y: float, width: float, text: str, mark: Mark | None = None) -> list[str]:
    fill, stroke, ink = MARKS[mark] if mark else PILL
    return [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="22" rx="11" fill="{fill}" '
        f'stroke="{stroke}"/>',
        _text(x + width / 2, y + 15, text, ROW_SIZE, ink, anchor="middle"),
    ]


def _wires(
    graph: Graph,
    links: Sequence[Link],
    ways: dict[Link, list[tuple[float, float]]],
    marks: Marks | None,
) -> Iterator[str]:
    """Every stretch of every wire once: a straight line past a layer, a curve between two."""
    seen: set[tuple[tuple[float, float], tuple[float, float]]] = set()
    for link in sorted(
        links, key=lambda one: _wire_mark(one, marks) != "same"
    ):  # a stretch that both have is grey
        mark = _wire_mark(link, marks)
        colour = MARKS[mark][1] if mark else FAMILIES[family(_sent(graph, link))][1]
        dash = ' stroke-dasharray="6 4"' if mark == "removed" else ""
        way = ways[link]
        for (x0, y0), (x1, y1) in pairwise(way):
            if ((x0, y0), (x1, y1)) in seen:
                continue
            seen.add(((x0, y0), (x1, y1)))
            bend = max(18.0, abs(y1 - y0) / 2)
            path = f"M{x0:.1f} {y0:.1f}" + (
                f"V{y1:.1f}"
                if x0 == x1
                else f"C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"
            )
            yield (
                f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" '
                f'stroke-opacity="0.85"{dash}/>'
            )
        x, y = way[-1]
        yield f'<path d="M{x - 4:.1f} {y - 6:.1f}h8l-4 6z" fill="{colour}"/>'


def _wire_mark(link: Link, marks: Marks | None) -> Mark | None:
    return marks.wires.get((link.target, link.input), "same") if marks else None


def _sent(graph: Graph, link: Link) -> Any:
    kind, _, name = link.source.partition(":")
    if kind == "param":
        return graph.params[name].type if name in graph.params else Any
    return graph.steps[name].type.outputs.get(link.output, Any) if name in graph.steps else Any


def _draw(graph: Graph, box: Box, marks: Marks | None) -> list[str]:
    kind, _, name = box.name.partition(":")
    if kind == "step":
        return _draw_step(graph.steps[name], box, marks)
    if kind == "param":
        return _pill(box.x, box.y + 2, box.width, name, "same" if marks else None)
    middle = box.x + box.width / 2
    fill = marks.box(box.name)[1] if marks else "#1f2933"
    return [
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="26" rx="13" fill="{fill}"/>',
        _text(middle, box.y + 17, shown(name), ROW_SIZE, "#ffffff", anchor="middle", weight="bold"),
    ]


def _draw_step(step: Step, box: Box, marks: Marks | None) -> list[str]:
    fill, stroke = marks.box(box.name)[:2] if marks else FAMILIES[makes(step)]
    name, kind = _heading(step, marks)
    off = ' opacity="0.45" stroke-dasharray="5 4"' if step.when is False else ""
    tip = f"{shown(step.id)}: {step.type.name}. {step.type.summary}"
    out = [
        f"<g><title>{_xml(tip)}</title>",
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="9" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.4"{off}/>',
    ]
    y = box.y + PAD
    for key, x in box.inputs.items():
        out.append(_text(box.x + x, y, key.partition(":")[0], PORT_SIZE, "#52606d", anchor="middle"))
    y += 13 * bool(box.inputs) + 12
    out.append(_text(box.x + PAD, y, name, ID_SIZE, "#1f2933", weight="bold"))
    if kind:
        y += 15
        out.append(_text(box.x + PAD, y, kind, TYPE_SIZE, "#52606d"))
    y += 6
    for row in _rows(step, marks):
        y += ROW
        out += _draw_row(box.x + PAD, y, row)
    for key, x in box.outputs.items():
        out.append(_text(box.x + x, box.y + box.height - 6, key, PORT_SIZE, "#52606d", anchor="middle"))
    return [*out, "</g>"]


def _draw_row(x: float, y: float, row: Row) -> list[str]:
    value_x = x + text_width(f"{row.name}  ", ROW_SIZE)
    wide = text_width(row.value, ROW_SIZE)
    fill, stroke, ink = MARKS[row.mark] if row.mark else PILL
    pill = (
        f'<rect x="{value_x - 6:.1f}" y="{y - 11.5:.1f}" width="{wide + 12:.1f}" height="15" rx="7.5" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="0.8"/>'
    )
    return [
        _text(x, y, row.name, ROW_SIZE, "#52606d"),
        *([pill] if row.pill else []),
        _text(value_x, y, row.value, ROW_SIZE, ink if row.pill else "#1f2933"),
    ]


def _xml(text: str) -> str:
    """Text as XML; what XML cannot hold becomes a space."""
    return escape(UNPRINTABLE.sub(" ", text))


def _text(
    x: float, y: float, text: str, size: float, fill: str, *, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" text-anchor="{anchor}" '
        f'font-weight="{weight}" xml:space="preserve">{_xml(text)}</text>'
    )
