"""The weights that are shipped: asked through the built-in graphs, on scenes of the test split."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tokenloom import run
from tokenloom.runtime.shapes.items import Settings, make_item
from tokenloom.runtime.shapes.make import make

GRAPHS = {
    "tiny-llava": ("llava15", "pllava"),
    "tiny-tokenpacker": ("tokenpacker", None),
    "tiny-pvc": ("pvc", "pvc"),
}
LEAST = 100
"""Questions that are asked."""


@pytest.mark.parametrize("checkpoint", GRAPHS)
def test_pictures_are_answered(checkpoint: str, tmp_path: Path) -> None:
    """Nine of ten colours, shapes and digits, and of all hundred questions."""
    graph, _ = GRAPHS[checkpoint]
    name = "media" if graph == "pvc" else "image"
    shares = _ask(graph, name, checkpoint, tmp_path, Settings(number=15))
    assert {kind: share for kind, share in shares.items() if share < 0.9} == {}


@pytest.mark.parametrize("checkpoint", [name for name, (_, clips) in GRAPHS.items() if clips])
def test_clips_are_answered(checkpoint: str, tmp_path: Path) -> None:
    """Four of five questions about what moves, comes and goes in eight frames, and nine of ten of all."""
    _, graph = GRAPHS[checkpoint]
    assert graph is not None
    name = "media" if graph == "pvc" else "video"
    shares = _ask(graph, name, checkpoint, tmp_path, Settings(number=24, frames=8), count=8)
    assert min(shares["event"], shares["motion"]) >= 0.8
    assert shares["all"] >= 0.9


def _ask(
    graph: str, name: str, checkpoint: str, folder: Path, made: Settings, **values: int
) -> dict[str, float]:
    """Shares of right answers by kind, and of all."""
    make(folder / "shapes", made)
    right: dict[str, list[bool]] = defaultdict(list)
    for index in range(made.number):
        for row in make_item(made, index).rows():
            media = folder / "shapes" / row[made.medium]
            asked: dict[str, Any] = {name: media, "question": row["question"], **values}
            told = run(graph, **asked, checkpoint=checkpoint, max_new_tokens=6)["answer"]
            right[row["kind"]].append(told.strip() == row["answer"])
            right["all"].append(right[row["kind"]][-1])
    assert len(right["all"]) >= LEAST
    return {kind: sum(found) / len(found) for kind, found in right.items()}
