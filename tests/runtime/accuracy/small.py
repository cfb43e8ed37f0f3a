"""A small accuracy benchmark for the tests: random weights, few questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom.runtime.accuracy.job import ROWS, Asking, Job, fill
from tokenloom.runtime.accuracy.summary import summary
from tokenloom.runtime.rows import Row, RowFile

from ...checkpoints import RANDOM

CHECKPOINT = str(RANDOM / "tiny-random")
QUESTIONS = 20


def asking(**given: Any) -> Asking:
    """Pictures unless told otherwise."""
    return Asking(**{"checkpoint": CHECKPOINT, "number": QUESTIONS, "media": ("image",), **given})


def run(folder: Path, asked: Asking) -> tuple[Job, list[Row], int]:
    """The job, the rows of its file, and how many of them were made now."""
    job = Job.of(asked, folder / "data")
    made: list[Row] = []
    with RowFile(folder / ROWS) as file:
        job.check_rows(file.rows, folder / ROWS)
        rows = fill(job, file, 1, made.append)
    return job, rows, len(made)


def summed(folder: Path, asked: Asking) -> dict[str, Any]:
    """The summary of a run."""
    job, rows, _ = run(folder, asked)
    return summary(job, rows, "exact")
