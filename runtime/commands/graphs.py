"""`tokenloom graphs`: the built-in graphs, one line each; one of them with parameters and stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from ..about import About, about, listed, own_copy, stages
from ..errors import GraphError
from ..ir import Param
from ..packaged import path_text
from ..widgets import MISSING, type_text
from .show import show_table

COLUMNS = ("graph", "what it is", "extends", "takes", "checkpoint")


def list_graphs(*, as_json: bool = False) -> None:
    """Print all built-in graphs."""
    found = [about(name) for name in listed()]
    if as_json:
        facts = {"ok": True, "graphs": [_short(one) for one in found]}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    rows = [(g.name, g.graph.title, g.extends[0] if g.extends else "-", g.inputs, g.weights) for g in found]
    show_table(COLUMNS, rows, spare=("extends",))


def show_graph(name: str, *, as_json: bool = False) -> None:
    """Print one graph: what it is, its parameters, its stages, and how to make one's own of it."""
    found = about(name)
    if as_json:
        typer.echo(json.dumps({"ok": True, **_short(found), **_long(found)}, ensure_ascii=False))
        return
    graph = found.graph
    typer.echo(f"{found.name}: {graph.title}" + (f"\n{found.why}" if found.why else ""))
    typer.echo("")
    for what, text in _facts(found):
        typer.echo(f"{what:<11} {text}")
    typer.echo("\nparameters")
    show_table(("name", "takes", "default", "help"), [_param(p) for p in graph.params.values()])
    typer.echo("\nstages")
    show_table(("name", "node", "takes from", "settings"), stages(graph))
    typer.echo(f"\noutputs     {', '.join(f'{n} ${w}' for n, w in graph.outputs.items())}")


def named(name: str | None, *, as_json: bool) -> str:
    """The name that `--yaml` goes with. Errors: GraphError without one, and for `--json` besides."""
    if name is None:
        raise GraphError(
            "--yaml: of which graph? say tokenloom graphs NAME --yaml; `tokenloom graphs` lists them"
        )
    if as_json:
        raise GraphError("--yaml and --json: one or the other")
    return name


def print_yaml(name: str) -> None:
    """Print a graph's file, so that it can lie anywhere."""
    typer.echo(own_copy(name), nl=False)


def _facts(found: About) -> list[tuple[str, str]]:
    return [
        ("file", found.path),
        ("extends", " on ".join(found.extends) or "nothing"),
        ("takes", found.inputs),
        ("checkpoint", found.weights),
        ("your own", f"tokenloom graphs {found.name} --yaml > mine.yaml"),
        ("a picture", f"tokenloom draw {found.name} -o graph.svg"),
    ]


def _param(param: Param) -> tuple[str, str, str, str]:
    return param.name, takes(param), default_text(param), param.help


def takes(param: Param) -> str:
    """`int 1.. or null`: what a parameter takes."""
    return type_text(param.type) if param.widget is None else param.widget.describe()


def default_text(param: Param) -> str:
    """The default as it is read; `(required)` without one."""
    if param.default is MISSING:
        return "(required)"
    text = "null" if param.default is None else str(param.default)
    if isinstance(param.default, Path):
        text = path_text(param.default)
    return text if text.strip() else repr(text)


def _short(found: About) -> dict[str, Any]:
    return {
        "name": found.name,
        "title": found.graph.title,
        "why": found.why,
        "extends": list(found.extends),
        "takes": found.inputs,
        "checkpoint": found.checkpoint or None,
        "needs": [name for name, param in found.graph.params.items() if param.required],
        "file": found.path,
    }


def _long(found: About) -> dict[str, Any]:
    return {
        "params": [
            {"name": p.name, "takes": takes(p), "required": p.required, "help": p.help}
            | ({} if p.required else {"default": json.loads(json.dumps(p.default, default=str))})
            for p in found.graph.params.values()
        ],
        "stages": [
            {"name": name, "node": kind, "takes_from": sources, "settings": settings}
            for name, kind, sources, settings in stages(found.graph)
        ],
        "outputs": {name: f"${wire}" for name, wire in found.graph.outputs.items()},
    }
