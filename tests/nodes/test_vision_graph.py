"""The vision stages as a graph: eager == graph == YAML; needs and budgets are settled while planning."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenloom.nodes import (
    attention_map,
    encode_vision,
    heatmap_overlay,
    mask_to_indices,
    merge_contextual,
    pack_visionzip_next,
    project_mlp,
    select_dominant,
    select_manual,
    token_mask_preview,
)
from tokenloom.runtime.errors import BudgetError, LoomError, NeedError, WiringError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.models.tower import VisionTower
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run
from tokenloom.runtime.values import Frames, Kind, Tiles
from tokenloom.runtime.yamlfile import load

from ..towers import WIDTH, image_facts, random_tiles, tiny_projector, tiny_tower, vision_handle

CLIP, SIGLIP = vision_handle(tiny_tower()), vision_handle(tiny_tower("siglip"))
PROJECTOR = tiny_projector(image=image_facts("spatial_unpad"))
TILES = random_tiles(3)
GIVEN: dict[str, Any] = {"vision": CLIP, "projector": PROJECTOR, "tiles": TILES}


def visionzip(*, keep: int = 6, targets: int = 3, score: Any = "cls", features: Any = "cls_patch") -> Graph:
    """Encode, select, merge, project, pack."""
    with Graph() as g:
        vision, tiles = g.param("vision", Model[VisionTower]), g.param("tiles", Tiles)
        projector = g.param("projector", Model[Projector])
        patches = encode_vision(vision, tiles, features=features)
        picked = select_dominant(patches, keep=keep, score=score)
        merged = merge_contextual(picked.kept, picked.rest, targets=targets)
        visual = pack_visionzip_next(project_mlp(projector, merged), projector)
        g.output(patches=patches, merged=merged, visual=visual)
    return g


def test_eager_equals_graph_equals_yaml() -> None:
    """The same tokens, whichever way the stages were put together."""
    picked = select_dominant(encode_vision(CLIP, TILES, features="cls_patch"), keep=6)
    merged = merge_contextual(picked.kept, picked.rest, targets=3)
    want = pack_visionzip_next(project_mlp(PROJECTOR, merged), PROJECTOR)
    graph = visionzip()
    again = load("again.yaml", text=graph.to_yaml())
    assert again == graph
    for one in (graph, again):
        visual = run(one, cache=False, **GIVEN)["visual"]
        assert visual.features.equal(want.features)
        assert visual.member.equal(want.member)
        assert visual.kind.equal(want.kind)
    assert int((want.kind == int(Kind.NEWLINE)).sum()) == 3


def test_a_plan_asks_the_tower_for_just_what_is_needed() -> None:
    """Scores for selection and keys for merging, through the selection that lies between."""
    result = run(visionzip(), cache=False, **GIVEN)
    assert set(result["patches"].side) == {"cls_attention", "keys"}
    without: dict[str, Any] = GIVEN | {"vision": SIGLIP}
    result = run(visionzip(score="received", features="patch"), cache=False, **without)
    assert set(result["patches"].side) == {"received_attention", "keys"}


@pytest.mark.parametrize(
    ("settings", "given", "kind", "message"),
    [
        (
            {"keep": 18},
            {},
            BudgetError,
            "select_dominant: keep 18 of 17 tokens per tile; set keep to 17 or less",
        ),
        (
            {"keep": 10, "targets": 8},
            {},
            BudgetError,
            "merge_contextual: keep 10 + targets 8 of 17 tokens per tile, 7 of them left over; "
            "lower keep or targets so that both together are 17 or less",
        ),
        (
            {"features": "patch"},
            {"vision": SIGLIP},
            NeedError,
            "encode_vision: SigLIP has no [CLS] token; set score: received",
        ),
        (
            {},
            {"projector": tiny_projector(newline=False, image=image_facts("spatial_unpad"))},
            LoomError,
            "pack_visionzip_next: tiny has no image_newline vector; set merge: spatial or flat",
        ),
        (
            {},
            {"projector": tiny_projector(inputs=WIDTH + 1)},
            WiringError,
            "project_mlp.tokens: vectors of width 24, the projector takes 25; wire the tower and the "
            "projector of the same checkpoint",
        ),
    ],
)
def test_a_plan_refuses_what_cannot_work(
    settings: dict[str, Any], given: dict[str, Any], kind: type[LoomError], message: str
) -> None:
    """Before a weight is read: here the handles of the run could not even load."""
    with pytest.raises(kind) as error:
        plan(visionzip(**settings), GIVEN | given)
    assert message in str(error.value)


def test_drawing_on_a_picture_as_a_graph() -> None:
    """The two demos: a drawing picks patches, an attention map lies over the picture."""
    with Graph() as g:
        vision, tiles = g.param("vision", Model[VisionTower]), g.param("tiles", Tiles)
        picture, mask = g.param("picture", Frames), g.param("mask", Frames)
        patches = encode_vision(vision, tiles, features="cls_patch")
        picked = select_manual(patches, mask_to_indices(mask, patches), include_cls=True)
        heat = attention_map(patches, layer=-1, index=5)
        g.output(
            kept=picked.kept,
            preview=token_mask_preview(picture, picked.kept),
            overlay=heatmap_overlay(picture, heat, tiles),
        )
    drawn = torch.zeros(16, 16, 3, dtype=torch.uint8)
    drawn[:8] = 1
    time = torch.zeros(1).double()
    result = run(
        load("again.yaml", text=g.to_yaml()),
        cache=False,
        vision=CLIP,
        tiles=random_tiles(1),
        picture=Frames((torch.zeros(16, 16, 3, dtype=torch.uint8),), time),
        mask=Frames((drawn,), time),
    )
    assert result["kept"].member.tolist() == list(range(8))
    assert result["kept"].kind[0] == int(Kind.CLS)
    assert result["preview"].caption == "8 of 16 patches"
    assert result["overlay"].pixels.shape == (16, 16, 3)


def test_presets_can_be_a_parameter() -> None:
    """One parameter sets both budgets."""
    text = """
tokenloom: 1
params:
  vision: {type: "Model[VisionTower]"}
  tiles: {type: Tiles}
  budget: {type: int, default: 64}
nodes:
  patches: {node: encode_vision, vision: $vision, tiles: $tiles, features: cls_patch, interpolate: true}
  dominant: {node: select_dominant, tokens: $patches, preset: $budget}
  merged: {node: merge_contextual, kept: $dominant.kept, rest: $dominant.rest, preset: $budget}
outputs: {merged: $merged}
"""
    graph, tiles = load("preset.yaml", text=text), random_tiles(1, height=40, width=40)
    assert len(run(graph, cache=False, vision=CLIP, tiles=tiles)["merged"]) == 64
    assert len(run(graph, cache=False, vision=CLIP, tiles=tiles, budget=160)["merged"]) == 32
    with pytest.raises(WiringError, match="65 is not one of 192, 128, 64, 640, 320, 160"):
        run(graph, cache=False, vision=CLIP, tiles=tiles, budget=65)
