"""The bundled graphs of LLaVA-OneVision: how many tokens there are, where, and what PruneVid leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.result import Result
from tokenloom.runtime.values import Kind, Tokens

from ..exact import load, run

MEDIA = Path(__file__).parents[2] / "examples" / "media"
PICTURE, CLIP = MEDIA / "shapes.png", MEDIA / "shapes.mp4"
PATCH, STATIC, POOLED, NEWLINE = (int(k) for k in (Kind.PATCH, Kind.STATIC, Kind.POOLED, Kind.NEWLINE))


def ran(graph: str, **params: Any) -> Result:
    return run(graph, cache=False, max_new_tokens=1, **params)


def tokens_of(result: Result, name: str = "tokens") -> Tokens:
    return cast("Tokens", result[name])


def test_a_clip_is_196_tokens_a_frame_and_a_newline() -> None:
    """27 x 27 patches, pooled to 14 x 14, of every frame; the newline once."""
    tokens = tokens_of(ran("onevision", video=CLIP, count=4))
    assert tokens.kind.tolist() == [POOLED] * 4 * 196 + [NEWLINE]
    assert tokens.frame.bincount().tolist() == [196, 196, 196, 197]


def test_a_picture_is_a_base_tile_and_a_map_of_nine_tiles_at_most() -> None:
    """`shapes.png` on a canvas of 6 x 4 tiles of this small tower: scaled down, a newline after every row."""
    tokens = tokens_of(ran("onevision_image", image=PICTURE))
    pooled, lines = int((tokens.kind == POOLED).sum()), int((tokens.kind == NEWLINE).sum())
    assert tokens.kind[:729].eq(PATCH).all()
    assert 729 + pooled + lines == len(tokens)
    assert 0.95 * 9 * 729 < pooled <= 9 * 729
    assert pooled % lines == 0


def test_several_pictures_are_a_tile_each() -> None:
    """729 patches and a newline."""
    tokens = tokens_of(ran("onevision_image", image=[PICTURE, PICTURE]))
    assert tokens.kind.tolist() == 2 * ([PATCH] * 729 + [NEWLINE])


def test_prunevid_leaves_its_part_of_every_group_and_the_newline() -> None:
    """Of the static and of the other tokens of every frame the floor of alpha, and the newline besides."""
    result = ran("prunevid_onevision", video=CLIP, count=8, alpha=0.3)
    merged, kept = tokens_of(result, "merged"), tokens_of(result)
    assert merged.kind.tolist().count(NEWLINE) == kept.kind.tolist().count(NEWLINE) == 1
    assert merged.kind[-1] == kept.kind[-1] == NEWLINE

    def sizes(tokens: Tokens) -> torch.Tensor:
        group = 2 * tokens.frame + (tokens.kind == STATIC)
        return group[tokens.kind != NEWLINE].bincount(minlength=16)

    assert len(merged) < 8 * 196 / 2
    assert sizes(kept).equal((sizes(merged) * 0.3 + 1e-6).long())


def test_one_frame_is_refused_while_planning() -> None:
    """PruneVid's first stage has nothing to compare it with."""
    with pytest.raises(WiringError) as error:
        ran("prunevid_onevision", video=CLIP, count=1)
    assert str(error.value).startswith("cluster_temporal.tokens: one frame, wanted a clip;")


def test_parameters_are_those_of_prunevid() -> None:
    """The README's names and values, without LoRA's, which OneVision has none of."""
    ours, theirs = load("prunevid_onevision").params, load("prunevid").params
    names = ("alpha", "tau", "temporal_segment_ratio", "cluster_ratio", "selected_layer")
    assert [ours[name] for name in names] == [theirs[name] for name in names]
