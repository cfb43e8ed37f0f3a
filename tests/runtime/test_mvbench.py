"""MVBench's tasks and records; the table itself is compared in the golden case eval_protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.mvbench import TASKS, Question, questions


def write(folder: Path, task: str, *records: Any) -> Path:
    file = folder / "json" / TASKS[task].file
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(records), encoding="utf-8")
    return file


RECORD = {"video": "a.mp4", "question": "Why?", "candidates": ["x", "y"], "answer": "y"}


def test_questions_of_a_task(tmp_path: Path) -> None:
    """The clip's path, the options, the right one's words."""
    write(tmp_path, "Moving Count", RECORD)
    folder = tmp_path / "video" / "clevrer" / "video_validation"
    assert questions(tmp_path, "Moving Count") == [
        Question(video=folder / "a.mp4", question="Why?", options=("x", "y"), gold="y")
    ]


def test_questions_about_a_part_of_a_clip(tmp_path: Path) -> None:
    """Bounds in seconds, for the tasks that have them."""
    bounds = {"start": 1, "end": 2.5}
    write(tmp_path, "Action Sequence", RECORD | bounds)
    write(tmp_path, "Moving Count", RECORD | bounds)
    (one,) = questions(tmp_path, "Action Sequence")
    assert (one.start, one.end) == (1.0, 2.5)
    (one,) = questions(tmp_path, "Moving Count")
    assert (one.start, one.end) == (None, None)


def test_an_unknown_task(tmp_path: Path) -> None:
    """The nearest name is shown."""
    with pytest.raises(MediaError) as error:
        questions(tmp_path, "Moving Counts")
    assert str(error.value) == "MVBench has no task 'Moving Counts'; did you mean 'Moving Count'?"


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    """What is wanted is said."""
    with pytest.raises(MediaError) as error:
        questions(tmp_path, "Moving Count")
    file = tmp_path / "json" / "moving_count.json"
    assert str(error.value) == (
        f"{file}: cannot be read (No such file or directory); give the folder that holds json/ and video/"
    )


def test_records_without_bounds(tmp_path: Path) -> None:
    """A task with bounds needs them."""
    file = write(tmp_path, "Action Sequence", RECORD)
    with pytest.raises(MediaError) as error:
        questions(tmp_path, "Action Sequence")
    assert str(error.value) == (
        f"{file}: not a list of MVBench's records (KeyError: 'start'); wanted video, question, candidates "
        "and answer, start and end"
    )
