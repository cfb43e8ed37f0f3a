"""Weights of an earlier run to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .journal import Journal, table
from .recipe import TrainingError


def take_weights(model: nn.Module, start: Path, journal: Journal) -> dict[str, Any]:
    """Copy what agrees in name and shape from an earlier run's weights; say what was taken and what was not.

    start: .safetensors, or a folder that `train` wrote: its last stage. Errors: TrainingError when nothing
    agrees.
    """
    path, found = start_weights(start)
    own = model.state_dict()
    taken = {name: t for name, t in found.items() if name in own and own[name].shape == t.shape}
    if not taken:
        raise TrainingError(f"start: nothing in {path} agrees in name and shape with a model of this recipe")
    model.load_state_dict(taken, strict=False)
    new = [name for name in own if name not in taken]
    told: dict[str, Any] = {"from": str(path), "taken": _grouped(list(taken)), "new": _grouped(new)}
    journal.say(f"start: {len(taken)} tensors from {path}: {table(told['taken'])}")
    if new:
        journal.say(f"start: {len(new)} tensors are new: {table(told['new'])}")
    return told


def _grouped(names: list[str]) -> dict[str, int]:
    """Numbers of tensors by the first word of their names."""
    counts: dict[str, int] = {}
    for name in names:
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return counts


def start_weights(start: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file of weights that `start` names, and what it holds. Errors: TrainingError when there is none."""
    path = _start_file(start)
    try:
        return path, load_file(path)
    except SafetensorError as error:
        raise TrainingError(f"start: {path} is no sound .safetensors file ({error}); name another") from None


def _start_file(start: Path) -> Path:
    if not start.exists():
        raise TrainingError(
            f"start: there is no {start}; wanted the folder of an earlier run, or a .safetensors file: "
            "train that first, or name another"
        )
    if not start.is_dir():
        return start
    try:
        record = json.loads((start / "training.json").read_text(encoding="utf-8"))
        return start / "stages" / f"{record['stages'][-1]['name']}.safetensors"
    except (OSError, ValueError, LookupError):
        raise TrainingError(
            f"start: {start} is no folder of `tokenloom train` with a finished stage"
        ) from None
