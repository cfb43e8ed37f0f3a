"""Commands that look at graphs and nodes without running anything: check, plan, nodes, draw, schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ..check import unused_params
from ..errors import GraphError
from ..graph import Graph
from ..layers import builtin_graphs
from ..needs import Needs
from ..node import NodeType
from ..plan import Plan, plan
from ..registry import all_nodes, find, load_plugin
from ..widgets import Widget, type_text
from ..yamlfile import load
from .run import Asked, planned
from .show import on_terminal, show_table
from .words import given_params


def load_plugins(plugins: Sequence[Path]) -> None:
    """Import the nodes of `--plugin` files."""
    for plugin in plugins:
        load_plugin(plugin)


def check(words: Sequence[str]) -> None:
    """Read graph files (all built-in ones when none is named) and say what is in them.

    With values for all parameters that need one (`image=cat.jpg`), the graph is also planned: what the nodes
    foresee, side channels and checkpoints are checked too.
    """
    graphs = [word for word in words if "=" not in word]
    values = [word for word in words if "=" in word]
    for name in graphs or builtin_graphs():
        graph = load(name)
        graph.check()
        params = given_params(graph, values)
        missing = [p.name for p in graph.params.values() if p.required and p.name not in params]
        if not missing:
            plan(graph, params)
        elif values:
            raise GraphError(f"{name}: no value was given for {', '.join(missing)}")
        typer.echo(f"{name}: ok{'' if missing else ', plans'}: {_told(graph)}")


def _told(graph: Graph) -> str:
    idle = unused_params(graph)
    parts = [f"{len(graph.steps)} nodes"]
    parts += [f"parameters {', '.join(graph.params)}"] if graph.params else []
    parts += [f"outputs {', '.join(graph.outputs)}"] if graph.outputs else []
    parts += [f"nothing uses the parameters {', '.join(idle)}"] if idle else []
    return "; ".join(parts)


def show_plan(asked: Asked, *, as_json: bool = False) -> None:
    """Print what a run would do: which steps run and why, and what comes from the cache."""
    made = planned(asked)
    if as_json:
        typer.echo(json.dumps(plain_plan(made), ensure_ascii=False))
        return
    table = made.table()
    rows = [[str(cell) for cell in row] for row in table.rows]
    show_table(table.columns, rows, title=table.title, spare=("device", "freed after", "type"))
    for note in made.notes:
        typer.echo(f"note: {note}")


def plain_plan(made: Plan) -> dict[str, Any]:
    """A plan as one JSON object: a step per row of its table, in the order they run."""
    steps = [
        {
            "node": step.id,
            "type": step.statics.type.name,
            "state": step.state,
            "why": made.why(step.id),
            "side_channels": sorted(need.key for need in step.wanted),
            "freed_after": made.last_use.get(step.id),
            "device": step.device,
            "key": None if step.volatile else step.key,
            "sources": [made.steps[source].id for source in made.steps.sources(step.number)],
        }
        for step in made.steps
    ]
    return {
        "ok": True,
        "title": made.graph.title,
        "graph": made.graph.at,
        "device": made.device,
        "dtype": made.dtype,
        "outputs": list(made.outputs),
        "steps": steps,
        "notes": list(made.notes),
    }


def list_nodes() -> None:
    """Print every node type with its first sentence."""
    rows = [(name, _first_sentence(made.summary)) for name, made in sorted(all_nodes().items())]
    show_table(("node", "what it gives"), rows)


def show_node(name: str) -> None:
    """Print inputs, settings and outputs of one node type."""
    made = find(name)
    about = [f"version {made.version}", f"lane {made.lane}", *([] if made.pure else ["never cached"])]
    typer.echo(f"{made.name} ({made.place}; {', '.join(about)})\n{made.summary}")
    if made.details:
        typer.echo(f"\n{made.details}")
    if made.sockets:
        typer.echo("\ninputs")
        show_table(("name", "type", "needs", "help"), [_input(made, name) for name in made.sockets])
    if made.widgets:
        typer.echo("\nsettings")
        rows = [(w.name, w.describe(), _default(w), w.help) for w in made.widgets.values()]
        show_table(("name", "takes", "default", "help"), rows)
    typer.echo("\noutputs")
    show_table(("name", "type"), [_output(made, name) for name in made.outputs])
    if made.provides:
        typer.echo(f"\nprovides on demand: {', '.join(made.provides)}")


def draw(graph_name: str, output: Path, *, models: bool = True) -> None:
    """Write a picture of a graph: `.svg`, or mermaid text in `.mmd` or `.md`.

    models: False leaves out the steps that load models, and their wires.
    """
    from ..draw import svg, without_models
    from ..mermaid import mermaid

    graph = load(graph_name) if models else without_models(load(graph_name))
    match output.suffix.lower():
        case ".svg":
            text = svg(graph)
        case ".mmd":
            text = mermaid(graph)
        case ".md":
            text = f"```mermaid\n{mermaid(graph).rstrip()}\n```\n"
        case _:
            raise GraphError(f"-o {output}: wants a file name that ends in .svg, .mmd or .md")
    _write(output, text)


def schema(output: Path | None) -> None:
    """Print the JSON Schema of graph files, or write it to a file."""
    from ..schema import schema as made

    text = json.dumps(made(), indent=1) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GraphError(f"-o {output}: cannot be written: {error.strerror}") from None
    if on_terminal():
        typer.echo(f"{output} written")


def _first_sentence(text: str) -> str:
    head, dot, _ = text.partition(". ")
    return head + dot.strip()


def _input(made: NodeType[..., object], name: str) -> tuple[str, ...]:
    socket = made.sockets[name]
    kind = type_text(socket.type) + (
        "" if socket.required else ", any number" if socket.variadic else ", optional"
    )
    return (f"*{name}" if socket.variadic else name, kind, ", ".join(map(_need, socket.needs)), socket.help)


def _output(made: NodeType[..., object], name: str) -> tuple[str, str]:
    kind = type_text(made.outputs[name])
    if same := made.echoes.get(name):
        kind += f", the same as {' and '.join(same)}"
    return name or "(the only one)", kind


def _need(needs: Needs) -> str:
    when = " and ".join(f"{name}={value}" for name, value in needs.when.items())
    return needs.channel + (f" when {when}" if when else "")


def _default(widget: Widget) -> str:
    if widget.required:
        return "(required)"
    text = "null" if widget.default is None else str(widget.default)
    return text if text.strip() else repr(text)
