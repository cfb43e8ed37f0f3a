"""graphs/mixes: each runs on its base and keeps the budget of every method that is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.graph import Wire
from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Kind, LLMState, Tokens

from ..exact import load, run

MEDIA = Path(__file__).parents[2] / "examples" / "media"
PICTURE, CLIP = MEDIA / "shapes.png", MEDIA / "shapes.mp4"
MIXES = sorted(name for name in builtin_graphs() if name.startswith("mixes/"))


def ran(name: str, *steps: str, **params: Any) -> list[Any]:
    """The values of these steps, and a full answer."""
    graph = load(f"mixes/{name}")
    graph.outputs |= {step: Wire(step, "") for step in steps}
    result = run(graph, cache=False, max_new_tokens=2, **params)
    assert result["answer"]
    return [result[step] for step in steps]


def lengths(state: LLMState) -> list[int]:
    """Visual rows in the cache of every layer."""
    visual = state.input.visual
    return [int(visual[layer.row].sum()) for layer in state.cache.layers]


@pytest.mark.parametrize("name", MIXES)
def test_every_mix_says_why(name: str) -> None:
    """A comment first, and a title of its own."""
    text = builtin_graphs()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert load(name).title not in {load(other).title for other in MIXES if other != name}


def test_visionzip_then_fastv() -> None:
    """VisionZip's 14 + 3 of 144 patches for two layers, half of them from there on."""
    merged, kept, state = ran(
        "visionzip_fastv", "merged", "kept", "state", image=PICTURE, checkpoint="tiny-random"
    )
    assert (len(merged), len(kept)) == (17, 8)
    assert lengths(state) == [17, 17, 8, 8]


def test_visionzip_then_prunevid_over_time() -> None:
    """As many of every frame; over time fewer, and one that stands still speaks for its segment's frames."""
    zipped, still = ran(
        "visionzip_prunevid", "zipped", "still", video=CLIP, count=8, checkpoint="tiny-random-pllava"
    )
    assert zipped.frame.bincount().tolist() == [64] * 8
    assert len(still) < len(zipped)
    assert {*still.kind.tolist()} == {int(Kind.STATIC), int(Kind.DYNAMIC)}
    assert bool(((still.coverage() > 0) == (zipped.coverage() > 0)).all())


def test_tokenpacker_then_pruning() -> None:
    """144 tokens of 576 patches, then 72."""
    visual, kept = ran(
        "tokenpacker_prune", "visual", "kept", image=PICTURE, checkpoint="tiny-random-tokenpacker"
    )
    assert (len(visual), len(kept)) == (144, 72)
    assert bool((kept.count == 4).all())


@pytest.mark.parametrize(
    ("media", "each"), [(PICTURE, [26] * 4), (CLIP, [25] * 4)], ids=["a picture", "a clip"]
)
def test_pvc_then_prunevids_second_stage(media: Path, each: list[int]) -> None:
    """40 % of every frame's 64; of a picture, of its four copies together."""
    settings: dict[str, Any] = {"media": media, "count": 4, "max_num": 1, "checkpoint": "tiny-random-pvc"}
    visual, kept = cast("list[Tokens]", ran("pvc_prunevid", "visual", "kept", **settings))
    assert visual.home.bincount().tolist() == [64] * 4
    assert len(kept) == (sum(each) - 2 if media == PICTURE else sum(each))
    if media == CLIP:
        assert kept.frame.bincount().tolist() == each


def test_prunevids_first_stage_then_lookm() -> None:
    """Fewer rows are placed, and of their keys all text and up to a fifth are left."""
    merged, state = ran(
        "prunevid_lookm", "merged", "compressed", video=CLIP, count=8, checkpoint="tiny-random-pllava"
    )
    rows = len(state.input)
    assert len(merged) < 8 * 144 / 2
    assert int(state.input.visual.sum()) == len(merged)
    assert len(state) == rows
    text = (~state.input.visual).nonzero()[:, 0]
    for layer in state.cache.layers:
        assert len(text) <= layer.length <= len(text) + 2 * int(rows * 0.1) < rows
        assert all(bool(torch.isin(text, row).all()) for row in layer.row)


def test_prumerge_of_tiles_then_a_pyramid() -> None:
    """So many of each tile, then halved three times."""
    settings: dict[str, Any] = {"image": PICTURE, "part": 0.25, "checkpoint": "tiny-random-next"}
    merged, kept, state = ran("prumerge_pyramid", "outliers", "kept", "state", **settings)
    tiles = len(merged.source.tiles)
    assert merged.home.bincount().tolist() == [37] * tiles
    total = 37 * tiles
    assert lengths(state) == [total, total // 2, total // 4, total // 8]
    assert len(kept) == total // 8


def test_a_budget_that_follows_the_picture() -> None:
    """What is kept holds 95 % of the attention, and one token less does not; mass and bounds are obeyed."""
    settings: dict[str, Any] = {"image": PICTURE, "checkpoint": "tiny-random"}
    patches, merged = ran("visionzip_adaptive", "patches", "merged", **settings)
    patch = patches.kind != int(Kind.CLS)
    score = patches.side["cls_attention"].double()
    kept = merged.member[merged.start[:-1][merged.kind == int(Kind.PATCH)]]
    held = score[patch][kept]
    assert float(held.sum()) >= 0.95 * float(score[patch].sum()) - 1e-6
    assert float(held.sum() - held.min()) < 0.95 * float(score[patch].sum())
    assert int((merged.kind == int(Kind.CONTEXTUAL)).sum()) == min(3, int(patch.sum()) - len(kept))
    [fewer] = ran("visionzip_adaptive", "merged", mass=0.5, **settings)
    assert len(fewer) < len(merged)
    [bounded] = ran("visionzip_adaptive", "merged", most=3, targets=2, **settings)
    assert len(bounded) == 1 + 3 + 2
    assert torch.isfinite(bounded.features).all()


def test_layers_that_are_not_there_are_refused_while_planning() -> None:
    """Before a weight is read."""
    with pytest.raises(GraphError) as error:
        plan(load("mixes/tokenpacker_prune"), {
            "image": PICTURE, "through": 40, "checkpoint": "tiny-random-tokenpacker"
        })  # fmt: skip
    assert str(error.value) == "prefill.through: layer 40 of a model with 8 layers; wanted 0..7"
