"""`tokenloom diff A B`: what sets two graphs apart; as text, as JSON, or as a coloured drawing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ..diff import GraphDiff, diff, given_values
from ..diff_text import SIGNS, as_json, diff_page, lines, summary
from ..draw import Mark
from ..errors import GraphError
from ..graph import Graph
from ..layers import builtin_graphs
from ..report.again import graph_again, values_again
from ..report.reading import is_png, read_recipe
from ..yamlfile import load
from .guard import harmless
from .look import load_plugins
from .show import on_terminal

COLOURS: dict[Mark, str] = {"added": "green", "removed": "red", "changed": "yellow", "same": ""}


class Side(NamedTuple):
    """One of the two. values: what its run was given; None for a graph that is not of a run."""

    name: str
    graph: Graph
    values: dict[str, Any] | None


def compare(
    old: str,
    new: str,
    *,
    output: Path | None = None,
    as_json_text: bool = False,
    plugins: Sequence[Path] = (),
) -> bool:
    """Print or draw the difference; whether there is none.

    Errors: GraphError for what is no graph and holds none, and for a drawing of another ending.
    """
    if output is not None and output.suffix.lower() not in (".svg", ".html"):
        raise GraphError(f"-o {output}: wants a file name that ends in .svg or .html")
    load_plugins(plugins)
    a, b = read_side(old), read_side(new)
    found = diff(a.graph, b.graph, tuple(given_values(a.graph, a.values, b.graph, b.values)))
    if output is not None:
        _write(output, found, a, b)
    if as_json_text:
        facts = {"ok": True, "a": _told(a), "b": _told(b), **as_json(found)}
        typer.echo(json.dumps(facts, ensure_ascii=False))
    elif output is None or found.same:
        _print(found, a, b)
    elif on_terminal():
        typer.echo(f"{output} written: {summary(found)}")
    return found.same


def read_side(name: str) -> Side:
    """A graph file, a built-in graph, or the graph and the values in a PNG or result file."""
    path = Path(name)
    if not path.is_file() or path.suffix.lower() in (".yaml", ".yml"):
        if path.is_dir():
            raise GraphError(
                f"{name}: a folder; wanted a graph file, a built-in graph, or a PNG or result file"
            )
        return Side(name, load(name), None)
    if path.suffix.lower() != ".json" and not is_png(path):
        return Side(name, load(name), None)
    recipe = read_recipe(path)
    graph = graph_again(path, recipe)
    return Side(name, graph, values_again(path, recipe, graph, {}))


def _print(found: GraphDiff, a: Side, b: Side) -> None:
    colour = on_terminal()
    if not found.same:
        _line("removed", f"--- {a.name}: {a.graph.title}", colour)
        _line("added", f"+++ {b.name}: {b.graph.title}", colour)
    for mark, text in lines(found):
        _line(mark, text if mark == "same" else f"  {SIGNS[mark]} {text}", colour)
    typer.echo(summary(found))


def _line(mark: Mark, text: str, colour: bool) -> None:
    """One line, without what a file by others might say to a terminal."""
    text = harmless(text)
    typer.echo(typer.style(text, fg=COLOURS[mark] or None, bold=mark == "same") if colour else text)


def _told(side: Side) -> dict[str, Any]:
    known = builtin_graphs()
    return {
        "name": side.name,
        "title": side.graph.title,
        "run": side.values is not None,
        "built_in": side.name.removesuffix(".yaml") in known,
    }


def _write(output: Path, found: GraphDiff, a: Side, b: Side) -> None:
    if output.suffix.lower() == ".html":
        text = diff_page(found, a.name, b.name)
    else:
        from ..diff_draw import diff_svg

        text = diff_svg(found, f"{a.name} → {b.name}")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GraphError(f"-o {output}: cannot be written: {error.strerror}") from None
