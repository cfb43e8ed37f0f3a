"""A graph as a mermaid flowchart, which many Markdown readers draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .build import ParamRef
from .check import order
from .draw import FAMILIES, changed, ends, makes, param_text

if TYPE_CHECKING:
    from .graph import Graph


def mermaid(graph: Graph) -> str:
    """The graph as a mermaid flowchart: paste it into Markdown between ```mermaid fences."""
    done, left = order(graph.steps)
    number = {name: f"n{i}" for i, name in enumerate((*done, *left))}
    params = {name: f"p{i}" for i, name in enumerate(graph.params)}
    lines = ["flowchart TD"]
    lines += [f'    {params[p.name]}(["{_quoted(param_text(p))}"]):::param' for p in graph.params.values()]
    for name, ref in number.items():
        step = graph.steps[name]
        kind = [] if step.type.name == name else [f"<i>{_quoted(step.type.name)}</i>"]
        rows = [_quoted(f"{row.name}: {row.value}") for row in changed(step)]
        label = "<br/>".join([f"<b>{_quoted(name)}</b>", *kind, *rows])
        lines.append(f'    {ref}["{label}"]:::{makes(step)}')
    for name, ref in number.items():
        for socket, _, end in ends(graph, graph.steps[name]):
            if isinstance(end, ParamRef):
                lines.append(f'    {params[end.name]} -->|"{_quoted(socket)}"| {ref}')
            elif end.node in number:
                text = f"{end.output} → {socket}" if end.output and end.output != socket else socket
                lines.append(f'    {number[end.node]} -->|"{_quoted(text)}"| {ref}')
        for value in (*graph.steps[name].widgets.values(), graph.steps[name].when):
            if isinstance(value, ParamRef) and value.name in params:
                lines.append(f"    {params[value.name]} -.- {ref}")
    for i, (name, wire) in enumerate(graph.outputs.items()):
        if wire.node not in number:
            continue
        arrow = f'-->|"{_quoted(wire.output)}"|' if wire.output else "-->"
        lines.append(f'    {number[wire.node]} {arrow} o{i}(["{_quoted(name)}"]):::result')
    lines += [
        f"    classDef {name} fill:{fill},stroke:{stroke},color:#1f2933"
        for name, (fill, stroke) in FAMILIES.items()
    ]
    lines.append("    classDef param fill:#fff7d6,stroke:#d9b400,color:#6b5900")
    lines.append("    classDef result fill:#1f2933,stroke:#1f2933,color:#ffffff")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text for a mermaid label: entities for what ends a label or looks like markup."""
    entities = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "&": "#amp;", "`": "#96;", "\n": " "}
    return "".join(entities.get(char, char) for char in text)
