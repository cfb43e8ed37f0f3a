"""`tokenloom bench accuracy`: methods beside their controls, with rows, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import typer

from ..accuracy.chart import chart
from ..accuracy.draft import MEDIA, Medium
from ..accuracy.job import ROWS, Asking, Job, fill
from ..accuracy.markdown import budgets_of, by_method, markdown, percent
from ..accuracy.summary import as_lines, summary
from ..errors import BenchError, LoomError
from ..files import write_whole
from ..plots import check_plot, save_figure
from ..rows import Row, RowFile
from ..shapes.score import OVERALL
from ..shapes.words import RULES
from .guard import Phase
from .progress import Progress
from .show import show_table

SUMMARY, TABLES, PLOT, DATA = "summary.json", "accuracy.md", "accuracy.png", "data"


@dataclass(frozen=True, kw_only=True)
class Words:
    """The options of `bench accuracy` as they are typed."""

    checkpoint: str = "tiny-llava"
    methods: str = "all"
    budgets: str = ".5,.25,.1"
    images: bool | None = None
    clips: bool | None = None
    number: int = 500
    seed: int = 0
    split: str = "test"
    frames: int = 8
    rule: str = "exact"
    device: str = "auto"
    dtype: str = "auto"
    output: Path | None = None
    jobs: int = 1

    def asking(self) -> Asking:
        """What they ask for. Errors: BenchError."""
        if self.rule not in RULES:
            raise BenchError(f"--rule: {self.rule!r} is none of {', '.join(RULES)}")
        if self.jobs < 1:
            raise BenchError(f"--jobs: {self.jobs}; wanted 1 or more")
        names = tuple(dict.fromkeys(name.strip() for name in self.methods.split(",") if name.strip()))
        return Asking(
            checkpoint=self.checkpoint,
            methods=() if names == ("all",) else names or _none(),
            budgets=_budgets(self.budgets),
            media=self._media(),
            number=self.number,
            seed=self.seed,
            split=cast(Any, self.split),
            frames=self.frames,
            device=self.device,
            dtype=self.dtype,
        )

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.output or Path(f"accuracy-{Path(self.checkpoint).name}")

    def _media(self) -> tuple[Medium, ...]:
        """Both, unless one is asked for or the other is not wanted."""
        wanted: Mapping[Medium, bool | None] = {"image": self.images, "video": self.clips}
        some: tuple[Medium, ...] = tuple(m for m in MEDIA if wanted[m])
        found: tuple[Medium, ...] = some or tuple(m for m in MEDIA if wanted[m] is not False)
        if not found:
            raise BenchError("--no-images --no-clips: nothing is left to ask about")
        return found


def accuracy(words: Words, phase: Phase, *, quiet: bool = False, as_json: bool = False) -> None:
    """Check everything, make the rows that are lacking, write summary, tables and plot, and show them."""
    asking = words.asking()
    check_plot(words.folder / PLOT, "-o")
    if words.folder.exists() and not words.folder.is_dir():
        raise BenchError(f"-o {words.folder}: is a file, wanted a folder")
    silent = quiet or as_json
    words.folder.mkdir(parents=True, exist_ok=True)
    job = Job.of(asking, words.folder / DATA, lambda text: None if silent else typer.echo(text, err=True))
    found = summary(job, _rows(job, words, phase, silent=silent), words.rule)
    files = _write(words.folder, found)
    if as_json:
        typer.echo(json.dumps({"ok": True, "files": list(map(str, files)), **found}))
    elif not quiet:
        for name, medium in found["media"].items():
            _show(name, medium)
        for path in files:
            typer.echo(f"{path} written")


def _rows(job: Job, words: Words, phase: Phase, *, silent: bool) -> list[Row]:
    path = words.folder / ROWS
    with RowFile(path) as file:
        job.check_rows(file.rows, path)
        total = sum(len(work.questions) for work in job.works)
        left = sum(len(task.asked) for task in job.todo(file.rows))
        if not silent and left < total:
            typer.echo(f"{total - left} of {total} questions are answered in {path} already", err=True)
        phase.running = True
        progress = Progress(total, total - left, silent, "questions")
        try:
            return fill(job, file, words.jobs, progress.take)
        except BaseException as error:
            error.add_note(
                f"{progress.done} of {total} questions are in {path}; the same command goes on from there"
            )
            raise
        finally:
            progress.close()


def _write(folder: Path, found: Mapping[str, Any]) -> list[Path]:
    files = [folder / name for name in (ROWS, SUMMARY, TABLES, PLOT)]
    try:
        write_whole(files[1], (as_lines(found) + "\n").encode())
        write_whole(files[2], markdown(found).encode())
    except OSError as error:
        raise LoomError(f"{folder}: cannot be written: {error.strerror}") from None
    save_figure(chart(found), files[3])
    return files


def _show(name: str, medium: Mapping[str, Any]) -> None:
    """One line per method: right answers in %, with their interval, at each budget."""
    settings: Sequence[Mapping[str, Any]] = medium["settings"]
    budgets = budgets_of(settings)
    cells: list[list[str]] = []
    for row in by_method(settings):
        first = next(iter(row.values()))
        cells.append([first["title"], first["where"], *(_cell(row, part) for part in (None, *budgets))])
    columns = ["method", "where", "as it is", *(percent(part) for part in budgets)]
    kept = [i for i in range(len(columns)) if any(line[i] for line in cells)]
    show_table(
        [columns[i] for i in kept],
        [[line[i] for i in kept] for line in cells],
        right=columns[2:],
        title=f"{medium['questions']} questions about {medium['scenes']} {name}: right, % [95 % interval]",
        spare=("where",),
    )
    for method in medium["left_out"]:
        typer.echo(f"left out: {method}, which does not fit this checkpoint")


def _cell(row: Mapping[float | None, Mapping[str, Any]], part: float | None) -> str:
    if part not in row:
        return ""
    one = row[part]["shares"][OVERALL]
    return f"{100 * one['accuracy']:.1f} [{100 * one['low']:.0f}, {100 * one['high']:.0f}]"


def _budgets(text: str) -> tuple[float, ...]:
    out: list[float] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            out.append(float(word))
        except ValueError:
            raise BenchError(f"--budgets: {word!r} is no number; wanted parts such as .5,.25,.1") from None
    return tuple(dict.fromkeys(out))


def _none() -> tuple[str, ...]:
    raise BenchError("--methods: none is given; wanted names such as visionzip,random, or all")
