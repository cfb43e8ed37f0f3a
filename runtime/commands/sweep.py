"""`tokenloom sweep`: a graph over a grid of parameters and a data file, with rows, a table and a plot."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ..cache import Cache, default_cache
from ..errors import LoomError, SweepError
from ..graph import Graph
from ..layers import locate
from ..plots import check_plot, save_figure, scatter
from ..registry import load_plugin
from ..rows import Row
from ..sweep.api import fill, opened
from ..sweep.file import SweepFile, is_sweep_file, read_sweep_file
from ..sweep.grid import takes_lists, widget_of
from ..sweep.identity import graph_text
from ..sweep.parquet import check_parquet, write_parquet
from ..sweep.problems import Problems
from ..sweep.summary import Setting, axes, check_names, points, quality_of, settings
from ..sweep.sweep import Options, Sweep
from ..widgets import Widget
from ..yamlfile import load
from .guard import Phase
from .progress import Progress
from .sweep_table import plain_settings, show_settings
from .words import apply_settings, value_of

MANY = 10_000  # rows that are asked about before they are begun


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words and options of `sweep`; None where the sweep file decides, if there is one."""

    graph: str
    words: Sequence[str] = ()
    settings: Sequence[str] = ()
    data: Path | None = None
    output: Path | None = None
    parquet: Path | None = None
    plot: Path | None = None
    x: str | None = None
    y: str | None = None
    kl: bool = False
    base: str | None = None
    score: str | None = None
    limit: int | None = None
    keep_going: bool = False
    yes: bool = False
    device: str = "auto"
    dtype: str = "auto"
    cache: bool = True
    plugins: Sequence[Path] = ()


@dataclass(frozen=True)
class Job:
    """A checked sweep, and where its results go."""

    sweep: Sweep
    rows: Path
    parquet: Path | None
    plot: Path | None
    x: str
    y: str | None
    title: str


def run(asked: Asked, phase: Phase, *, quiet: bool = False, as_json: bool = False) -> None:
    """Check everything, ask when it is much, make the rows that are lacking, and show what came out."""
    for plugin in asked.plugins:
        load_plugin(plugin)
    job = prepared(asked)
    confirm(job.sweep, asked.yes)
    cache = default_cache() if asked.cache else None
    rows = _made(job, cache, phase, silent=quiet or as_json)
    found = settings(rows, x=job.x, y=job.y)
    files = [job.rows, *_write(job, rows, found)]
    if as_json:
        typer.echo(json.dumps(_plain(job, rows, found, files), ensure_ascii=False))
    elif not quiet:
        best = job.y or quality_of(found)
        show_settings(found, job.sweep.grid.axes, job.title, f"{best} against {job.x}", job.rows)
        for path in files:
            typer.echo(f"{path} written")


def prepared(asked: Asked) -> Job:
    """The sweep of these words. Errors: SweepError with everything that is wrong, before any work."""
    told = (
        read_sweep_file(asked.graph) if is_sweep_file(asked.graph) else SweepFile(graph=locate(asked.graph))
    )
    graph = load(told.graph)
    apply_settings(graph, asked.settings)
    problems = Problems()
    given = {**told.params, **given_values(graph, asked.words, problems)}
    data = asked.data or told.data
    if data is None:
        raise SweepError("sweep: no data; say --data FILE.jsonl, one JSON object of parameters per line")
    name = asked.base or told.base
    kl = asked.kl or told.kl or name is not None
    x, y = asked.x or told.x, asked.y or told.y
    rows = asked.output or told.rows or Path(f"{Path(asked.graph).stem}.sweep.jsonl")
    parquet, plot = asked.parquet or told.parquet, asked.plot or told.plot
    _check_outputs(data, rows, parquet, plot, x, y, problems)
    made = Sweep.of(
        graph,
        given,
        data,
        Options(
            kl=kl,
            base=None if name is None else load(name),
            score=asked.score or told.score,
            device=asked.device,
            dtype=asked.dtype,
            keep_going=asked.keep_going,
        ),
        limit=asked.limit or told.limit,
        problems=problems,
    )
    _check_quality(made, plot, y)
    return Job(made, rows, parquet, plot, x, y, told.title or graph.title)


def given_values(graph: Graph, words: Sequence[str], problems: Problems) -> dict[str, Any]:
    """Lists of values by parameter from words such as `keep=16,32,64`; mistakes are noted.

    Numbers, choices and true/false are split at commas, lists only between brackets. Free text and paths may
    hold commas: they are one value per word, and the word is repeated for more.
    """
    out: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            problems.say(f"{word!r}: a parameter is given as name=value or name=value,value")
        elif (widget := widget_of(graph, name, problems)) is not None:
            values = out.setdefault(name, [])
            for one in _split(widget, text):
                try:
                    values.append(value_of("params", widget, one))
                except LoomError as error:
                    problems.say(error)
    return {name: values for name, values in out.items() if values}


def _split(widget: Widget, text: str) -> list[str]:
    if takes_lists(widget):
        return [f"[{one}]" for one in re.split(r"\]\s*,\s*\[", text[1:-1])] if text[:1] == "[" else [text]
    if widget.type in (str, Path):
        return [text]
    return [one.strip() for one in text.split(",")]


def _check_outputs(
    data: Path, rows: Path, parquet: Path | None, plot: Path | None, x: str, y: str | None, problems: Problems
) -> None:
    try:
        check_names(x, y)
        if parquet is not None:
            check_parquet(parquet)
        if plot is not None:
            check_plot(plot)
    except LoomError as error:
        problems.say(error)
    named = {"--data": data, "-o": rows, "--parquet": parquet, "--plot": plot}
    seen: dict[Path, str] = {}
    for option, path in named.items():
        if path is not None and (other := seen.setdefault(path.absolute(), option)) != option:
            problems.say(f"{option} {path}: is the file of {other} too; choose another")


def _check_quality(made: Sweep, plot: Path | None, y: str | None) -> None:
    """Refuse a plot of what no row will have."""
    known = any(item.expected is not None for item in made.items)
    if y == "accuracy" and not known:
        raise SweepError("--y accuracy: no line of the data has an `answer` that is expected")
    if y == "kl" and made.base is None:
        raise SweepError("--y kl: nothing is compared; say --kl")
    if plot is not None and not known and made.base is None:
        raise SweepError(
            f"--plot {plot}: nothing to draw: the data says no `answer` that is expected; say --kl to draw "
            "how far the first token is from the uncompressed model's"
        )


def interactive() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(made: Sweep, yes: bool) -> None:
    """Ask before very many rows. Errors: SweepError where nobody can answer."""
    if len(made) <= MANY or yes:
        return
    told = f"{len(made.grid):,} combinations of {len(made.items):,} items are {len(made):,} runs"
    if not interactive():
        raise SweepError(f"sweep: {told}; say --yes if that is meant, or --limit N for the first N items")
    if not typer.confirm(f"{told}. Go on?", err=True):
        raise typer.Exit(1)


def _made(job: Job, cache: Cache | None, phase: Phase, *, silent: bool) -> list[Row]:
    """All rows of the sweep; those that the file lacks are made now."""
    with opened(job.sweep, job.rows) as file:
        total = len(job.sweep)
        there = total - sum(1 for _ in job.sweep.todo(file.rows))
        if not silent and there:
            typer.echo(f"{there} of {total} rows are in {job.rows} already", err=True)
        if file.torn:
            typer.echo(f"warning: {job.rows}: its last line was cut short; that row is made again", err=True)
        phase.running = True
        progress = Progress(total, there, silent)
        try:
            return fill(job.sweep, file, cache, progress.take)
        except BaseException as error:
            error.add_note(
                f"{progress.done} of {total} rows are in {job.rows}; the same command goes on from there"
            )
            raise
        finally:
            progress.close()


def _facts(job: Job) -> dict[str, Any]:
    """What the rows were made of, for files that people pass on: the whole graph, grid, versions."""
    made = job.sweep
    return {
        "title": job.title,
        "command": shlex.join(["tokenloom", *sys.argv[1:]]),
        "sweep": {name: [str(v) for v in values] for name, values in made.grid.values.items()},
        "items": len(made.items),
        **made.common,
        "graph_yaml": graph_text(made.graph),
    }


def _write(job: Job, rows: Sequence[Row], found: Sequence[Setting]) -> Iterator[Path]:
    """Write what else was asked for; the files. Of rows that all failed there is no plot."""
    facts = _facts(job)
    if job.parquet is not None:
        write_parquet(rows, job.parquet, facts)
        yield job.parquet
    y = job.y or quality_of(found)
    if job.plot is not None and y is not None:
        figure = scatter(points(found, job.x, y), axes(job.x, y, job.title))
        save_figure(figure, job.plot, {"tokenloom-sweep": json.dumps(facts, default=str)})
        yield job.plot


def _plain(job: Job, rows: Sequence[Row], found: Sequence[Setting], files: Sequence[Path]) -> dict[str, Any]:
    """The outcome as one JSON object."""
    return {
        "ok": True,
        "title": job.title,
        **job.sweep.common,
        "rows": len(rows),
        "files": list(map(str, files)),
        "settings": plain_settings(found),
    }
