"""`tokenloom run`: plan, run, and show the answer with a table of the stages."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ..cache import default_cache
from ..check import unused_params
from ..console import Console
from ..cost import flops_text
from ..describe import describe
from ..errors import GraphError
from ..events import Event, NodeCached, NodeDone, NodeStarted
from ..plan import Plan, plan
from ..registry import load_plugin
from ..report.record import plain, random_weights
from ..result import Result, Row
from ..run import execute
from ..trace import ChromeTrace, JsonLines
from ..values import Answer, Table
from ..yamlfile import load
from .guard import Phase, harmless
from .record import recorded
from .save import save, save_targets
from .show import Cells, seconds_text, show_table, show_text, size_text
from .words import apply_settings, given_params

RANDOM = "random weights: this text means nothing"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words and options of `run` and `plan`."""

    graph: str
    params: Sequence[str] = ()
    settings: Sequence[str] = ()
    until: str | None = None
    from_: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    cache: bool = True
    plugins: Sequence[Path] = ()


def planned(asked: Asked) -> Plan:
    """The plan of what was asked for; no weights are read, no media decoded."""
    for plugin in asked.plugins:
        load_plugin(plugin)
    graph = load(asked.graph)
    apply_settings(graph, asked.settings)
    given = given_params(graph, asked.params)
    for name in unused_params(graph):
        if name in given:
            warn(f"params.{name}: nothing in the graph uses it, so it changes nothing")
    made = plan(
        graph,
        given,
        until=asked.until,
        from_=asked.from_,
        device=asked.device,
        dtype=asked.dtype,
        cache=default_cache() if asked.cache else None,
    )
    return replace(made, options=options(asked))


def command(asked: Asked, verb: str) -> str:
    """What was typed, as far as it decides the result."""
    words = ["tokenloom", verb, asked.graph, *asked.params]
    words += ["--until", asked.until] if asked.until else []
    words += ["--from", asked.from_] if asked.from_ else []
    return shlex.join([*words, *options(asked)])


def warn(text: str) -> None:
    """A line on stderr."""
    typer.echo(f"warning: {harmless(text)}", err=True)


def options(asked: Asked) -> tuple[str, ...]:
    """The options that a resumed run needs to do the same."""
    words = [word for setting in asked.settings for word in ("--set", setting)]
    words += [word for plugin in asked.plugins for word in ("--plugin", str(plugin))]
    words += ["--device", asked.device] if asked.device != "auto" else []
    words += ["--dtype", asked.dtype] if asked.dtype != "auto" else []
    return tuple(words)


def run(
    asked: Asked,
    phase: Phase,
    *,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    trace: Path | None = None,
    events: Path | None = None,
    result_file: Path | None = None,
    saving: Sequence[str] = (),
    planning: Callable[[Asked], Plan] = planned,
) -> Result:
    """Run a graph and print its results: with `as_json` one JSON object, with `quiet` nothing else.

    result_file: where the result is put down, or how the run failed. saving: words of `--save`. planning:
    from what was asked for to the plan.
    """
    with recorded(result_file) as seen:
        seen.graph, seen.command = asked.graph, command(asked, "run" if planning is planned else "rerun")
        seen.plan = made = planning(asked)
        targets = save_targets(saving, made)
        followers = _followers(quiet or as_json, verbose, trace, events)
        phase.running = True
        seen.result = result = execute(made, subscribers=[*followers, *([seen] if result_file else [])])
    paths = save(targets, result)
    if as_json:
        typer.echo(json.dumps(_with_paths(plain(result), paths), ensure_ascii=False))
        return result
    show_results(result, paths)
    if not quiet:
        show_stages(result)
    return result


def _with_paths(told: dict[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """The JSON of a result, with the file that each saved picture lies in."""
    for name, path in paths.items():
        told["outputs"][name]["path"] = path
    return told


def show_results(result: Result, paths: Mapping[str, str] | None = None) -> None:
    """Answers first, then what else the graph gives; with `paths`, where pictures were saved."""
    saved = paths or {}
    label = RANDOM if random_weights(result.plan) else ""
    texts = {name: value for name, value in result.outputs.items() if isinstance(value, str | Answer)}
    for name, value in texts.items():
        show_text(name, value.text if isinstance(value, Answer) else value, label)
    for name, value in result.outputs.items():
        if isinstance(value, Table):
            show_table(value.columns, value.texts(), title=value.title or name)
        elif name not in texts:
            where = f", saved as {saved[name]}" if name in saved else ""
            typer.echo(f"{name}: {describe(value)}{where}")


def show_stages(result: Result) -> None:
    """One row per step: tokens in and out, FLOPs, seconds, memory, and whether it came from the cache.

    What loading models took is a row of its own, and no step's. Without any FLOPs they have no column.
    """
    columns: Cells = ("stage", "tokens", "FLOPs", "seconds", "memory", "cached")
    rows: list[Cells] = [_stage(row) for row in result.report]
    if loading := sum(row.loading for row in result.report):
        rows.append(("(loading)", "", "", seconds_text(loading), "", ""))
    peak = max((row.peak for row in result.report), default=0)
    counted = [row.flops for row in result.report if row.flops is not None]
    flops = flops_text(sum(counted)) if counted else ""
    rows.append(("total", "", flops, seconds_text(result.seconds), size_text(peak) if peak else "", ""))
    if not counted:
        columns, rows = (*columns[:2], *columns[3:]), [(*row[:2], *row[3:]) for row in rows]
    typer.echo("")
    show_table(columns, rows, right=("FLOPs", "seconds", "memory"))
    spared = sum(step.state == "skip" for step in result.plan.steps)
    if spared:
        verb, them = ("was", "it") if spared == 1 else ("were", "them")
        typer.echo(f"{spared} more {verb} not needed, as what follows {them} is cached; --no-cache runs all")


def _stage(row: Row) -> tuple[str, ...]:
    seconds = "" if row.cached else seconds_text(row.seconds)
    flops = "" if row.flops is None else flops_text(row.flops)
    return (row.id, row.tokens, flops, seconds, size_text(row.peak) if row.peak else "", row.cached)


def _followers(
    silent: bool, verbose: bool, trace: Path | None, events: Path | None
) -> list[Callable[[Event], None]]:
    """Who is told what happens: people at the terminal, and the files that were asked for."""
    out: list[Callable[[Event], None]] = []
    if not silent and (sys.stderr.isatty() or not verbose):
        out.append(Console(verbose=verbose))
    elif not silent:
        out.append(_narrate)
    for option, path, make in (("--trace", trace, ChromeTrace), ("--events", events, JsonLines)):
        if path is not None:
            try:
                out.append(make(path))
            except OSError as error:
                raise GraphError(f"{option} {path}: cannot be written: {error.strerror}") from None
    return out


def _narrate(event: Event) -> None:
    """`-v` without a terminal: a plain line for what a node did."""
    if isinstance(event, NodeStarted):
        typer.echo(f"{event.node} ({event.type})", err=True)
    elif isinstance(event, NodeCached):
        typer.echo(f"{event.node} ({event.type}): cached ({event.tier})", err=True)
    elif isinstance(event, NodeDone):
        text = f"{seconds_text(event.seconds)} s, {size_text(event.bytes)}, peak +{size_text(event.peak)}"
        text += "" if event.flops is None else f", {flops_text(event.flops)}FLOP"
        typer.echo(f"{event.node}: {text}", err=True)
