"""`tokenloom shapes`: write, describe and score the benchmark of coloured shapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from ..errors import ShapesError, did_you_mean
from ..shapes.card import table
from ..shapes.items import Settings, items
from ..shapes.make import check_folder
from ..shapes.make import make as write
from ..shapes.scene import known_split
from ..shapes.score import RESAMPLES, Row, read_answers, read_questions, score
from ..shapes.words import RULES, Rule
from .guard import Phase
from .progress import Progress
from .show import show_table

SCENES = 1000
"""Scenes of which `describe` counts the answers."""
DESCRIBED = ("kind", "for example", "answers", "questions", "commonest", "its share, %")
SCORED = ("kind", "right, %", "95 % interval", "questions", "commonest answer", "its share, %")


def make(folder: Path, settings: Settings, phase: Phase, *, force: bool, quiet: bool) -> None:
    """Write the folder, with progress on stderr, and say what is in it."""
    check_folder(folder, settings, force=force)
    progress = Progress(total=settings.number, done=0, silent=quiet, what="scenes")
    phase.running = True
    try:
        questions = write(folder, settings, force=force, done=progress.take)
    finally:
        progress.close()
    if not quiet:
        what = "pictures" if settings.frames is None else f"clips of {settings.frames} frames"
        typer.echo(f"{folder}: {settings.number} {what}, {len(questions)} questions")


def describe(folder: Path | None, split: str, frames: int, *, as_json: bool) -> None:
    """Show the kinds of question, their options and baselines: of a folder, or of a split."""
    if folder is not None:
        shown = {str(folder): read_questions(folder)}
    else:
        made = Settings(split=known_split(split), number=SCENES)
        clips = replace(made, frames=frames)
        shown = {
            f"{SCENES} pictures, split {split}": counted(made),
            f"{SCENES} clips of {frames} frames, split {split}": counted(clips),
        }
    if as_json:
        typer.echo(json.dumps({title: _plain(rows) for title, rows in shown.items()}))
        return
    for title, rows in shown.items():
        cells = [
            (kind, example.replace("`", ""), options, str(asked), answer, f"{100 * share:.1f}")
            for kind, example, options, asked, answer, share in table(rows)
        ]
        show_table(DESCRIBED, cells, right=("questions", "its share, %"), title=title, spare=("for example",))


def counted(settings: Settings) -> list[Row]:
    """Kind and answer of the questions, without drawing a pixel."""
    return [{"kind": q.kind, "answer": q.answer} for item in items(settings) for q in item.questions]


def show_score(questions: Path, answers: Path, *, rule: str, partial: bool, as_json: bool) -> None:
    """Show how many answers are right."""
    if rule not in RULES:
        raise ShapesError(f"--rule: no rule is called {rule!r}{did_you_mean(rule, RULES)}")
    known: Rule = "option" if rule == "option" else "exact"
    truth = read_questions(questions)
    report = score(truth, read_answers(answers), rule=known, partial=partial)
    if as_json:
        typer.echo(json.dumps({"rule": rule, "resamples": RESAMPLES, "shares": report.plain()}))
        return
    cells = [
        (
            kind,
            f"{100 * one.accuracy:.1f}",
            f"{100 * one.low:.1f} to {100 * one.high:.1f}",
            str(one.asked),
            one.commonest,
            f"{100 * one.majority:.1f}",
        )
        for kind, one in report.shares.items()
    ]
    show_table(SCORED, cells, right=(*SCORED[1:4], SCORED[5]), title=f"{answers}, rule {rule}")


def _plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = ("kind", "example", "options", "questions", "commonest", "share")
    return [dict(zip(names, row, strict=True)) for row in table(rows)]
