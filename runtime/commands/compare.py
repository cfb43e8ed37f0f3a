"""`tokenloom compare`: several graphs on one question; a table, a page, or JSON."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from ..compare.api import compared
from ..compare.comparison import COLUMNS, RIGHT, Comparison
from ..compare.spec import split_words
from ..console import Console
from ..errors import CompareError, GraphError
from ..registry import load_plugin
from ..sweep.problems import Problems
from .guard import FAILED, Phase
from .run import RANDOM, warn
from .show import seconds_text, show_table

LONG = 48  # characters of an answer in the table


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words and options of `compare`."""

    words: Sequence[str]
    output: Path | None = None
    base: str | None = None
    no_base: bool = False
    repeat: int = 1
    device: str = "auto"
    dtype: str = "auto"
    cache: bool = True
    plugins: Sequence[Path] = ()


def run(asked: Asked, phase: Phase, *, quiet: bool = False, as_json: bool = False) -> None:
    """Compare, show and write; exit code 1 when a graph failed."""
    for plugin in asked.plugins:
        load_plugin(plugin)
    problems = Problems(CompareError)
    graphs, inputs, twice = split_words(asked.words)
    for name in twice:
        problems.say(f"params.{name} is given twice")
    if asked.no_base and asked.base is not None:
        problems.say("--base and --no-base: say one of them")
    if asked.output is not None:
        _check_output(asked.output)

    def begin() -> None:
        phase.running = True

    found = compared(
        graphs,
        inputs,
        base=asked.base or not asked.no_base,
        repeat=asked.repeat,
        device=asked.device,
        dtype=asked.dtype,
        cache=asked.cache,
        subscribers=() if quiet or as_json else (Console(),),
        begin=begin,
        problems=problems,
    )
    found = replace(found, command=shlex.join(["tokenloom", *sys.argv[1:]]))
    _write(found, asked.output)
    if as_json:
        typer.echo(json.dumps(found.record(), ensure_ascii=False, allow_nan=False))
    else:
        _show(found, asked.output, quiet=quiet)
    if not found.ok:
        raise typer.Exit(FAILED)


def _check_output(path: Path) -> None:
    """Errors: GraphError for a page that could not be written, before any work."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise GraphError(f"-o {path}: wants a file name that ends in .html")
    if path.is_dir():
        raise GraphError(f"-o {path}: cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise GraphError(f"-o {path}: cannot be written: there is no folder {path.parent}")


def _write(found: Comparison, path: Path | None) -> None:
    if path is None:
        return
    try:
        found.save(path)
    except OSError as error:
        raise GraphError(f"-o {path}: cannot be written: {error.strerror}") from None


def _show(found: Comparison, path: Path | None, *, quiet: bool) -> None:
    """The table, how to read it, and why graphs failed."""
    rows = [[_cut(cell) for cell in row] for row in found.table().texts()]
    used = [i for i, _ in enumerate(COLUMNS) if i < 2 or any(row[i] for row in rows)]
    show_table(
        [COLUMNS[i] for i in used],
        [[row[i] for i in used] for row in rows],
        right=RIGHT,
        title=found.question,
        spare=("KV cache", "memory", "of base", "seconds", "in LLM"),
    )
    for column in found:
        if column.error:
            typer.echo(f"\n{column.name} failed: {column.error}", err=True)
            for note in column.notes:
                typer.echo("  " + note.replace("\n", "\n  "), err=True)
    for note in found.notes:
        warn(note)
    if not quiet:
        if found.random_weights:
            typer.echo(f"({RANDOM})")
        typer.echo(_reading(found))
    if path is not None:
        typer.echo(f"{path} written")


def _reading(found: Comparison) -> str:
    """What the figures mean."""
    shared = any(stage.shared > 1 for column in found for stage in column.stages)
    cached = any(stage.cached for column in found for stage in column.stages)
    parts = [f"{seconds_text(found.seconds)} s for all"]
    if found.loading:
        parts.append(f"{seconds_text(found.loading)} s of it loading models, which no graph is charged for")
    if shared:
        parts.append("shared stages were run once and are charged to each graph")
    if cached:
        parts.append("stages from the cache are charged with what they took when they were made")
    if found.repeats > 1:
        parts.append(f"seconds and memory are medians of {found.repeats} runs")
    return "; ".join(parts)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONG else line[: LONG - 1] + "…"
