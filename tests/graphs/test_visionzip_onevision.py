"""VisionZip on LLaVA-OneVision: pictures tile by tile, clips frame by frame, by received attention."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tokenloom.runtime.values import Kind, Tokens

from ..exact import run

MEDIA = Path(__file__).parents[2] / "examples" / "media"


def test_every_frame_keeps_its_budget() -> None:
    """27 tokens by attention, 5 contextual, for each frame, and one newline at the end."""
    found = run(
        "visionzip_onevision_video", video=MEDIA / "shapes.mp4", count=2, max_new_tokens=1, cache=False
    )
    tokens = cast("Tokens", found["tokens"])
    frame = [int(Kind.PATCH)] * 27 + [int(Kind.CONTEXTUAL)] * 5
    assert tokens.kind.tolist() == [*frame, *frame, int(Kind.NEWLINE)]
    assert tokens.coverage().min() > 0


def test_every_tile_of_a_picture_keeps_its_budget() -> None:
    """The base tile and those of the grid: `keep` and `targets` of each."""
    found = run(
        "visionzip_onevision", image=MEDIA / "shapes.png", keep=4, targets=2, max_new_tokens=1, cache=False
    )
    tokens = cast("Tokens", found["tokens"])
    assert set(tokens.home.bincount().tolist()) == {6}
