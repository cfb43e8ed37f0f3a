"""Checkpoints of a run: each folder is there whole or not at all, and at most two are kept."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .recipe import TrainingError

KEPT = 2
_NAME = "checkpoint-"
_UNDONE = ".tmp"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a stage, earliest first."""
    found = [p for p in folder.glob(f"{_NAME}*") if p.name.removeprefix(_NAME).isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.removeprefix(_NAME))


def name_of(step: int) -> str:
    """What the checkpoint after that step is called."""
    return f"{_NAME}{step}"


def write_checkpoint(folder: Path, step: int, fill: Callable[[Path], None], *, where: str) -> Path:
    """A checkpoint that `fill` writes under its name, below a temporary folder; two are kept.

    Errors: TrainingError, and nothing has changed, when the disk is full or fails.
    """
    target = folder / name_of(step)
    if target.exists():
        return target
    temporary = folder / f"{secrets.token_hex(4)}{_UNDONE}"
    with writing(f"{where}: the checkpoint", _good(folder)):
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            _sync(temporary)
            os.replace(temporary / target.name, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def clear_undone(folder: Path) -> None:
    """Remove what killed runs have left half written."""
    for path in folder.glob(f"*{_UNDONE}"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def writing(what: str, good: str) -> Iterator[None]:
    """Failures to write become a TrainingError that names the last good state."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # the last is torch.save's on a full disk
        if isinstance(error, TrainingError):
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise TrainingError(
            f"{what} could not be written: {why}; {good}. Make room, then go on with --resume"
        ) from error


def _good(folder: Path) -> str:
    found = checkpoints(folder)
    return f"the last good one is {found[-1]}" if found else "there is no earlier one of this stage"


def _sync(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(root, name), "rb+") as file:
                os.fsync(file.fileno())
