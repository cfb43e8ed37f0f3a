"""Scenes and questions of the benchmark as files, made when they are not there yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BenchError
from ..shapes.items import Settings, items
from ..shapes.make import make
from ..shapes.scene import Split
from ..shapes.score import Row, read_questions
from .draft import NAMES, Medium

VALIDATION_SEED = 0


@dataclass(frozen=True)
class Scene:
    """A picture or clip, and the questions about it, as `questions.jsonl` has them."""

    number: int
    file: Path
    questions: tuple[Row, ...]


def scenes(folder: Path, medium: Medium, *, split: Split, seed: int, frames: int, least: int) -> list[Scene]:
    """Whole scenes from number 0 on, until they have at least so many questions.

    They lie in a folder of their own in `folder`, written as `tokenloom shapes make` does, and are written
    again only when there are too few. Errors: ShapesError for what cannot be written.
    """
    settings = Settings(split=split, seed=seed, number=1, frames=None if medium == "image" else frames)
    number, questions = _enough(settings, least)
    place = folder / f"{NAMES[medium]}-{split}-{seed}{f'-{frames}' if medium == 'video' else ''}"
    found = _there(place, medium, number)
    if found is None:
        make(place, replace(settings, number=number), force=place.is_dir())
        found = _there(place, medium, number)
    if found is None or sum(len(scene.questions) for scene in found) != questions:
        raise BenchError(
            f"{place}: does not hold the scenes that this tokenloom draws; choose another folder (-o)"
        )
    return found


def _enough(settings: Settings, least: int) -> tuple[int, int]:
    """How many scenes have that many questions, and how many they have."""
    asked = 0
    for number, item in enumerate(items(replace(settings, number=max(1, least))), start=1):
        asked += len(item.questions)
        if asked >= least:
            return number, asked
    raise AssertionError("every scene has a question")


def _there(place: Path, medium: Medium, number: int) -> list[Scene] | None:
    """The first scenes of a folder; None when there are fewer."""
    if not (place / "questions.jsonl").is_file():
        return None
    by_file: dict[str, list[Row]] = {}
    for row in read_questions(place):
        by_file.setdefault(str(row[medium]), []).append(row)
    if len(by_file) < number:
        return None
    some = list(by_file.items())[:number]
    return [Scene(_number(rows), place / name, tuple(rows)) for name, rows in some]


def _number(rows: Sequence[Mapping[str, Any]]) -> int:
    return int(rows[0]["scene"]["index"])
