"""Recipes of seconds, for the tests of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenloom.runtime.tiny.recipe import Losses, Recipe, Sizes, Stage

SIZES = Sizes(
    vision_width=32, vision_layers=4, vision_heads=2, width=32, layers=2, heads=2, mlp=64, motion_layer=1
)
ALL = ("vision", "projector", "llm", "heads")
SEE = Stage(
    name="see",
    steps=6,
    batch=4,
    questions=2,
    train=("vision", "heads"),
    losses=Losses(patch=1, cls=0.3),
    cls_warmup=0.5,
    muon=0.02,
    adamw=0.002,
    warmup=2,
    evaluate={1: 4},
)
TELL = Stage(
    name="tell",
    steps=12,
    batch=4,
    frames={1: 0.5, 2: 0.5},
    questions=2,
    train=ALL,
    losses=Losses(lm=1, patch=0.3, cls=0.3, change=0.5),
    muon=0.02,
    adamw=0.002,
    warmup=2,
    evaluate={1: 4, 2: 4},
)


def small(*stages: Stage, **other: Any) -> Recipe:
    """A recipe of these stages, by default both; checkpoints every 5 steps, a line of the log every 4."""
    return Recipe(
        **{"sizes": SIZES, "save_every": 5, "log_every": 4, "stages": stages or (SEE, TELL), **other}
    )


def but(stage: Stage, **other: Any) -> Stage:
    """The stage with other settings."""
    return replace(stage, **other)


EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "tiny"
