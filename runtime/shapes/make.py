"""The benchmark as a folder: pictures or clips, `questions.jsonl`, a card and a sheet of samples."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import ShapesError
from ..folders import whole_folder
from .card import card
from .files import write_mp4, write_png
from .items import Item, Settings, items
from .sheet import sheet

QUESTIONS, CARD, PREVIEW = "questions.jsonl", "README.md", "preview.png"
OURS = frozenset({QUESTIONS, CARD, PREVIEW, "images", "clips"})
BYTES_PER_PICTURE, BYTES_PER_FRAME, BYTES_PER_LINES = 20_000, 1_500, 3_500
"""What scenes take, roughly, to refuse what the disk surely cannot hold."""
_LITTLE = 100_000_000


def make(
    folder: Path, settings: Settings, *, force: bool = False, done: Callable[[Item], None] | None = None
) -> list[dict[str, Any]]:
    """Write the folder whole or not at all, and return its questions.

    force: replace a folder that an earlier call wrote. done: told every scene that is written.

    Raises:
        ShapesError: a folder that holds something, that cannot be written, or a disk that is too small.
    """
    check_folder(folder, settings, force=force)
    try:
        with whole_folder(folder, replace=force) as work:
            return _fill(work, settings, done)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ShapesError(f"{folder}: cannot be written: {why}; nothing of it was kept") from error


def _fill(work: Path, settings: Settings, done: Callable[[Item], None] | None) -> list[dict[str, Any]]:
    (work / ("images" if settings.frames is None else "clips")).mkdir()
    questions: list[dict[str, Any]] = []
    with open(work / QUESTIONS, "w", encoding="utf-8", newline="\n") as file:
        for item in items(settings):
            pixels = item.pixels()
            if settings.frames is None:
                write_png(work / item.file, pixels[0])
            else:
                write_mp4(work / item.file, pixels, settings.fps)
            for row in item.rows():
                file.write(json.dumps(row) + "\n")
                questions.append({name: row[name] for name in ("id", settings.medium, "kind", "answer")})
            if done is not None:
                done(item)
        file.flush()
        os.fsync(file.fileno())
    (work / CARD).write_text(card(settings, questions), "utf-8")
    write_png(work / PREVIEW, sheet(list(islice(items(settings), 12 if settings.frames is None else 6))))
    return questions


def check_folder(folder: Path, settings: Settings, *, force: bool = False) -> None:
    """Refuse a folder that `make` would refuse. Errors: ShapesError."""
    if folder.is_dir():
        _check_content(folder, force)
    _check_room(folder, settings)


def _check_content(folder: Path, force: bool) -> None:
    there = {entry.name for entry in folder.iterdir()}
    if there and not force:
        raise ShapesError(
            f"{folder}: holds something already; choose another folder, or say --force to replace"
        )
    if there and (foreign := sorted(there - OURS)):
        raise ShapesError(
            f"{folder}: holds {foreign[0]!r}, which `shapes make` did not write; choose another folder"
        )
    if there and QUESTIONS not in there:
        raise ShapesError(
            f"{folder}: has no {QUESTIONS}, so `shapes make` did not write it; choose another folder"
        )


def _check_room(folder: Path, settings: Settings) -> None:
    """Refuse what the disk surely cannot hold."""
    each = BYTES_PER_PICTURE if settings.frames is None else BYTES_PER_FRAME * settings.frames
    wanted = settings.number * (each + BYTES_PER_LINES)
    if wanted < _LITTLE:
        return
    place = folder.resolve()
    free = next(shutil.disk_usage(one).free for one in (place, *place.parents) if one.exists())
    if wanted > free:
        raise ShapesError(
            f"{folder}: {settings.number} scenes need about {wanted / 1e9:,.1f} GB, "
            f"and the disk has {free / 1e9:.1f} GB left; make fewer (--n)"
        )
