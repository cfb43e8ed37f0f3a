"""What a training recipe says: one model, and the stages that train it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import LoomError

Kind = Literal["llava", "tokenpacker", "pvc"]
Precision = Literal["bf16", "fp32"]

KINDS_OF_MODEL = ("llava", "tokenpacker", "pvc")
PRECISIONS = ("bf16", "fp32")
PARTS: dict[str, tuple[str, ...]] = {
    "llava": ("vision", "projector", "llm", "heads"),
    "tokenpacker": ("vision", "projector", "llm", "heads"),
    "pvc": ("vision", "temporal", "projector", "llm", "heads"),
}
"""What of a model can be trained or stay as it is, by kind."""
LEAST_LAYERS = {"llava": 1, "tokenpacker": 4, "pvc": 3}
"""Layers that the tower of each kind needs."""
MOST_SAMPLES = 100_000_000
"""Scenes set aside for each stage, so that no two stages see the same one."""
HARMLESS = ("title", "threads", "workers", "save_every", "log_every")
"""Settings that do not change what is learnt."""


class TrainingError(LoomError):
    """A training that cannot begin or go on as asked, or cannot keep what it has learnt."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths and depths of a tiny model."""

    vision_width: int = 128
    vision_layers: int = 6
    vision_heads: int = 4
    width: int = 128
    layers: int = 6
    heads: int = 4
    mlp: int = 352
    patch: int = 14
    side: int = 112
    motion_layer: int = 4
    """The layer of the language model whose visual rows say what has changed."""

    @property
    def grid(self) -> int:
        """Patches along one side of a picture."""
        return self.side // self.patch


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights of the losses; 0 leaves one out."""

    lm: float = 0.0
    """Next token of the answers."""
    patch: float = 0.0
    """What every patch shows."""
    cls: float = 0.0
    """What the whole picture shows, from [CLS]."""
    change: float = 0.0
    """What happened to each object since the first frame, from the language model."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pass of training with its own data, rates and losses."""

    name: str
    steps: int
    batch: int
    frames: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    """Share of batches by number of frames; 1 is a picture."""
    questions: int = 8
    train: tuple[str, ...] = ()
    """Parts that learn; none named: all."""
    losses: Losses
    cls_warmup: float = 0.0
    """Share of the steps over which the weight of the cls loss rises from 0."""
    muon: float
    """Learning rate of hidden matrices."""
    adamw: float
    """Learning rate of everything else."""
    warmup: int = 30
    floor: float = 0.05
    """Share of the learning rates that is left at the end of the cosine."""
    weight_decay: float = 0.01
    """Of hidden matrices."""
    clip: float = 1.0
    evaluate: Mapping[int, int] = field(default_factory=dict[int, int])
    """Pictures or clips of the validation split at the end, by number of frames."""

    def size(self, frames: int) -> int:
        """Samples in a batch of that many frames: of clips fewer, for about the same work."""
        return self.batch if frames == 1 else max(4, int(self.batch / (0.8 * frames)))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model and its stages.

    start: weights of an earlier run, taken where name and shape agree. threads: of the CPU, 0 as torch likes.
    workers: processes that draw samples ahead. save_every, log_every: in steps.
    """

    title: str = ""
    kind: Kind = "llava"
    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    start: Path | None = None
    precision: Precision = "bf16"
    threads: int = 1
    workers: int = 0
    save_every: int = 200
    log_every: int = 50
    stages: tuple[Stage, ...]
    path: Path | None = field(default=None, compare=False)
    text: str = field(default="", compare=False, repr=False)

    def values(self) -> dict[str, Any]:
        """What it says, as plain JSON data."""
        told = asdict(self)
        del told["path"], told["text"]
        if self.start is not None:
            told["start"] = os.path.relpath(self.start, self.path.parent if self.path else ".")
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain

    def hash(self) -> str:
        """Of all that changes what is learnt."""
        told = {name: value for name, value in self.values().items() if name not in HARMLESS}
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, stages: int) -> list[str]:
    """Keys whose values differ between `values()` of two recipes, up to the first `stages` stages.

    What later stages say, and what does not change what is learnt, is left out.
    """
    before, after = (dict(_flat(_part(told, stages))) for told in (old, new))
    return [
        f"{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def _part(told: Mapping[str, Any], stages: int) -> dict[str, Any]:
    kept = {name: value for name, value in told.items() if name not in (*HARMLESS, "stages")}
    named = {f"stage {n + 1}": stage for n, stage in enumerate(told["stages"][:stages])}
    return kept | named


def _flat(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in told.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def names(kind: type[Any]) -> tuple[str, ...]:
    """The keys that a mapping of this kind may have."""
    return tuple(f.name for f in fields(kind) if f.name not in ("path", "text"))
