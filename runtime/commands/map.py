"""`tokenloom map`: a graph over a file of items, with rows in a folder, that goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from ..cache import default_cache
from ..check import unused_params
from ..mapping.api import Summary, fill
from ..mapping.executor import Terms
from ..mapping.folder import Folder
from ..mapping.job import Job, Options, Tally
from ..registry import load_plugin
from ..yamlfile import load
from .guard import FAILED, Phase
from .progress import Progress, duration
from .run import warn
from .words import apply_settings, given_params

SHOWN = 3  # items that are wrong, named in the warning


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The words and options of `map`."""

    graph: str
    items: Path
    output: Path
    words: Sequence[str] = ()
    settings: Sequence[str] = ()
    options: Options = field(default_factory=Options)
    retries: int = 2
    backoff: float = 0.5
    device: str = "auto"
    dtype: str = "auto"
    cache: bool = False
    plugins: Sequence[Path] = ()


def run(asked: Asked, phase: Phase, *, quiet: bool = False, as_json: bool = False) -> None:
    """Make the rows that the folder lacks, and say how many items failed; exit code 1 if any did."""
    for plugin in asked.plugins:
        load_plugin(plugin)
    with Folder(asked.output) as folder:
        job = _job(asked)
        if job.found is not None and job.found.wrong:
            _warn_of_wrong(job)
        summary = _filled(job, folder, phase, silent=quiet or as_json)
    if as_json:
        typer.echo(json.dumps(_plain(summary), ensure_ascii=False))
    elif not quiet:
        _show(summary, job.options)
    if summary.failed:
        raise typer.Exit(FAILED)


def _job(asked: Asked) -> Job:
    graph = load(asked.graph)
    apply_settings(graph, asked.settings)
    given = given_params(graph, asked.words)
    for name in unused_params(graph):
        if name in given:
            warn(f"params.{name}: nothing in the graph uses it, so it changes nothing")
    terms = Terms(
        device=asked.device,
        dtype=asked.dtype,
        cache=default_cache() if asked.cache else None,
        retries=asked.retries,
        backoff=asked.backoff,
    )
    return Job.of(graph, asked.items, given, asked.options, terms)


def _warn_of_wrong(job: Job) -> None:
    assert job.found is not None
    told = "".join(f"\n  {text}" for text in job.found.told[:SHOWN])
    more = "\n  ..." if job.found.wrong > SHOWN else ""
    warn(
        f"{job.found.wrong} of {job.found.total} items cannot be run; their rows will say why (--strict "
        f"refuses them all before any work):{told}{more}"
    )


def _filled(job: Job, folder: Folder, phase: Phase, *, silent: bool) -> Summary:
    total = None if job.found is None else job.found.total
    tally = Tally()
    todo = job.begin(folder, tally)
    with _line(tally, total or 0, silent) as line:
        phase.running = True
        try:
            return fill(job, todo, folder, tally, line.take)
        except BaseException as error:
            error.add_note(
                f"{tally.rows} of {total} rows are in {folder.path}; the same command goes on from there"
            )
            raise


@contextmanager
def _line(tally: Tally, total: int, silent: bool) -> Iterator[ItemProgress]:
    line = ItemProgress(total=total, done=0, silent=silent, what="items", tally=tally)
    try:
        yield line
    finally:
        line.close()


@dataclass
class ItemProgress(Progress):
    """Counts rows, tells failures, items a second and the time left. The first item, which loads the models,
    is left out of the speed as soon as there are others.
    """

    tally: Tally = field(default_factory=Tally)
    first: float = 0.0

    def take(self, one: object) -> None:
        """One more row; those that were there before are told with the first."""
        if not self.fresh:
            self.first = time.monotonic()
            there = self.tally.rows - 1
            if there and not self.silent:
                self.close()
                typer.echo(f"{there} of {self.total} rows are there already", err=True)
        self.done = self.tally.rows - 1
        super().take(one)

    def text(self, now: float) -> str:
        """`120 of 1000 items, 3 failed, 5.2 items/s, about 2 min 49 s left`."""
        timed, since = (self.fresh - 1, self.first) if self.fresh > 1 else (self.fresh, self.began)
        rate = timed / max(now - since, 1e-9)
        failed = f", {self.tally.failed} failed" if self.tally.failed else ""
        left = duration((self.total - self.done) / rate)
        return f"{self.done} of {self.total} {self.what}{failed}, {rate_text(rate)}, about {left} left"


def rate_text(rate: float) -> str:
    """`5.2 items/s`, or `12 s/item` for slow ones."""
    return f"{rate:.3g} items/s" if rate >= 0.5 else f"{1 / rate:.3g} s/item"


def _show(summary: Summary, options: Options) -> None:
    speed = f", {rate_text(summary.rate)} ({duration(summary.seconds)})" if summary.fresh else ""
    typer.echo(f"{summary.total} items: {summary.ok} ok, {summary.failed} failed{speed}")
    for name, count in summary.errors.items():
        typer.echo(f"  {count} {name}")
    typer.echo(f"{summary.folder} holds the rows (part-*.jsonl)")
    if summary.failed and not options.retry_failed:
        typer.echo("to run the failed ones again, say --retry-failed", err=True)


def _plain(summary: Summary) -> dict[str, Any]:
    """The outcome as one JSON object."""
    return {
        "ok": not summary.failed,
        "folder": str(summary.folder),
        "items": summary.total,
        "done": summary.ok,
        "failed": summary.failed,
        "errors": dict(summary.errors),
        "fresh": summary.fresh,
        "seconds": summary.seconds,
        "items_per_second": summary.rate,
    }
