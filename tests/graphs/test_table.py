"""The baselines of PruneVid's table run on PLLaVA, beside PruneVid itself."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tokenloom.runtime.values import Kind, VisualTokens

from ..exact import run

CLIP = Path(__file__).parents[2] / "examples" / "media" / "shapes.mp4"


def tokens_of(graph: str) -> VisualTokens:
    return cast("VisualTokens", run(graph, video=CLIP, count=4, max_new_tokens=1, cache=False)["tokens"])


def test_fastv_keeps_its_part_of_the_clip() -> None:
    """R = 0.7 of all frames' tokens together goes."""
    tokens = tokens_of("fastv_pllava")
    assert len(tokens) == round(4 * 144 * (1 - 0.7))
    assert set(tokens.kind.tolist()) == {int(Kind.POOLED)}


def test_lookm_leaves_the_tokens_alone() -> None:
    """It compresses keys and values, not the prompt."""
    assert len(tokens_of("lookm_pllava")) == 4 * 144


def test_prumerge_works_frame_by_frame() -> None:
    """No token takes in patches of two frames; every frame has some and at most one more than it had."""
    tokens = tokens_of("prumerge_pllava")
    assert tokens.source.frame_of_tile[tokens.member // tokens.source.per_tile].equal(
        tokens.frame[tokens.owner]
    )
    count = tokens.frame.bincount()
    assert len(count) == 4
    assert bool(((count > 0) & (count <= 145)).all())
    assert set(tokens.kind.tolist()) == {int(Kind.CONTEXTUAL)}
