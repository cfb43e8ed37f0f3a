"""PLLaVA and PruneVid as graphs, on the bundled checkpoint: what is left of a clip, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom import Graph, nodes
from tokenloom.runtime.errors import BudgetError, BudgetNotice, CheckpointError, GraphError, WiringError
from tokenloom.runtime.models.pool import pool
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Kind, LLMState, Tokens

from .. import checkpoints as write
from ..exact import load, run

MEDIA = Path(__file__).parents[2] / "examples" / "media"
CLIP, PICTURE = MEDIA / "shapes.mp4", MEDIA / "shapes.png"
SHORT: dict[str, Any] = {"video": CLIP, "count": 8, "grid": [6, 6], "max_new_tokens": 4, "cache": False}


def tokens(result: Any, name: str = "tokens") -> Tokens:
    return cast("Tokens", result[name])


def test_pllava_pools_every_frame() -> None:
    """16 frames of 24 x 24 patches become 16 of 12 x 12, each token the mean of four patches."""
    made = tokens(run("pllava", video=CLIP, max_new_tokens=1, cache=False))
    assert made.frame.bincount().tolist() == [144] * 16
    assert set(made.count.tolist()) == {4}
    assert set(made.kind.tolist()) == {int(Kind.POOLED)}


def test_prunevid_with_every_default() -> None:
    """At most half of the tokens are left before the language model, and at most 40 % of these in the end."""
    result = run("prunevid", video=CLIP, cache=False)
    merged, kept = tokens(result, "merged"), tokens(result)
    assert 0 < len(merged) <= 0.5 * 2304
    assert 0 < len(kept) <= 0.4 * len(merged)
    assert set(merged.kind.tolist()) <= {int(Kind.STATIC), int(Kind.DYNAMIC)}
    assert result["answer"]


def test_merged_tokens_stand_for_the_whole_clip() -> None:
    """Every patch of every frame is in one merged token; merging like ones loses none."""
    merged = tokens(run("prunevid", **SHORT), "merged")
    assert torch.equal(merged.member.sort().values, torch.arange(8 * 24 * 24))


def test_parameters_are_called_as_in_the_readme() -> None:
    """The hyper-parameters of PruneVid's README, with its values; null where they hang on the checkpoint."""
    params = load("prunevid").params
    readme = {
        "alpha": 0.4,
        "tau": 0.8,
        "temporal_segment_ratio": 0.25,
        "cluster_ratio": 0.5,
        "selected_layer": None,  # 10 of 32 layers
        "lora_alpha": None,  # 14 of a checkpoint with LoRA layers
    }
    assert {name: params[name].default for name in readme} == readme


@pytest.mark.parametrize("change", [{"alpha": 0.6}, {"tau": 0.99}, {"cluster_ratio": 1.0}])
def test_every_budget_counts(change: dict[str, Any]) -> None:
    """More of alpha, tau or cluster_ratio leaves more tokens in the end."""
    few, many = (len(tokens(run("prunevid", **SHORT, **more))) for more in ({}, change))
    assert few < many


def test_the_strength_of_lora_changes_what_is_kept() -> None:
    """lora_alpha reaches the weights: other attention chooses other tokens, from the same merged ones."""
    weak, strong = (run("prunevid", **SHORT, lora_alpha=alpha) for alpha in (0.0, 64.0))
    assert torch.equal(tokens(weak, "merged").features, tokens(strong, "merged").features)
    assert not torch.equal(tokens(weak).member, tokens(strong).member)


def test_the_last_layer_may_choose() -> None:
    """selected_layer 11 of 12: only the rows for the answer are left to prune."""
    assert len(tokens(run("prunevid", **SHORT, selected_layer=11))) > 0


@pytest.mark.parametrize("count", [2, 3, 7])
def test_short_clips(count: int) -> None:
    """Fewer frames than PruneVid's code can take: fewer neighbours, one segment at least."""
    result = run("prunevid", **{**SHORT, "count": count})
    assert len(tokens(result)) > 0
    assert result["answer"]


def test_a_layer_outside_the_model_is_refused_before_weights_are_read() -> None:
    """selected_layer of a deeper model: said while planning."""
    pool().release()
    with pytest.raises(GraphError) as error:
        run("prunevid", **SHORT, selected_layer=12)
    assert str(error.value) == "prefill.through: layer 12 of a model with 12 layers; wanted 0..11"
    assert pool().resident() == []


def test_an_alpha_of_nothing_is_refused() -> None:
    """alpha 0 while planning; of one so small that no group keeps a token one stays, and that is said."""
    with pytest.raises(BudgetError) as error:
        plan(load("prunevid"), {"video": CLIP, "alpha": 0.0})
    assert str(error.value) == (
        "prune_by_attention.ratio 0.0: no visual token would stay; keep some, or set allow_none: true"
    )
    with pytest.warns(BudgetNotice) as notices:
        result = run("prunevid", **SHORT, alpha=0.001)
    assert len(cast("Tokens", result["tokens"])) == 1
    assert str(notices[0].message) == (
        "prune_by_attention: ratio 0.001 of 2 groups of visual tokens (18, 18) keeps none of them; set ratio "
        "to 0.056, rounding: at_least_one or select: global, or allow_none: true to go on without any; one "
        "is kept"
    )


ONE_FRAME = (
    "cluster_temporal.tokens: one frame, wanted a clip; for a picture leave out cluster_temporal and "
    "merge_static (cluster_spatial works alone), for a clip of one frame set single: one_segment"
)


def test_one_frame_is_no_clip() -> None:
    """A single frame has no time to prune along: refused while planning."""
    with pytest.raises(WiringError) as error:
        plan(load("prunevid"), {"video": CLIP, "count": 1})
    assert str(error.value) == ONE_FRAME


def test_a_picture_is_no_clip(tmp_path: Path) -> None:
    """A picture in the clip's place is refused by PruneVid; PLLaVA itself takes it."""
    change = (
        "params:\n  video: null\n  count: null\n  image: {type: path, help: picture}\n"
        "nodes:\n  clip: null\n"
        "  frames: {node: load_image, path: $image, video: null, rule: null, frames: null}\n"
    )
    for method in ("pllava", "prunevid"):
        (tmp_path / f"{method}.yaml").write_text(f"tokenloom: 1\nextends: {method}\n{change}")
    params: dict[str, Any] = {"image": PICTURE, "max_new_tokens": 1, "cache": False}
    assert len(tokens(run(tmp_path / "pllava.yaml", **params))) == 144
    with pytest.raises(WiringError) as error:
        run(tmp_path / "prunevid.yaml", **params)
    assert str(error.value) == ONE_FRAME


def two_clips(*, alpha: float = 0.5) -> Graph:
    """PruneVid with two clips in one prompt: each through its own stages, one language model over both."""
    with Graph("PruneVid on two clips") as g:
        model = nodes.load_model(checkpoint="tiny-random-pllava", lora_alpha=14)
        clips, merged = [], []
        for count in (8, 4):
            clip = nodes.sample_frames(nodes.load_video(path=CLIP), rule="pllava", frames=count)
            patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, clip))
            visual = nodes.pool_tokens(nodes.project_mlp(model.projector, patches), grid=(6, 6))
            still = nodes.merge_static(visual, nodes.cluster_temporal(visual), tau=0.8)
            clips.append(clip)
            merged.append(nodes.cluster_spatial(still, ratio=0.5))
        prompt = nodes.render_chat(model.chat, *clips, question="What changed from <video> to <video>?")
        placed = nodes.place_tokens(model.llm, prompt, *merged)
        pruned = nodes.prune_by_attention(nodes.prefill(model.llm, placed, through=10), ratio=alpha)
        answer = nodes.generate(model.llm, nodes.prefill(model.llm, pruned), model.chat, max_new_tokens=4)
        g.output(answer=answer.text, pruned=pruned, first=merged[0], second=merged[1])
    return g


def groups_of(wire: Tokens) -> torch.Tensor:
    """[N] long: a number for each frame and whether the token stands still."""
    return 2 * wire.frame + (wire.kind == int(Kind.STATIC))


def test_two_clips_in_one_prompt() -> None:
    """Every frame of either clip keeps its own half: which tokens go is decided group by group, per wire."""
    result = run(two_clips(), cache=False)
    state = cast("LLMState", result["pruned"])
    assert result["answer"]
    rows = state.row[state.visual]
    wire, token = state.input.wire[rows], state.input.token[rows]
    for number, name in enumerate(("first", "second")):
        whole = groups_of(tokens(result, name))
        sizes = whole.bincount()
        left = whole[token[wire == number]].bincount(minlength=len(sizes))
        assert torch.equal(left, sizes // 2), name


def test_lora_alpha_of_a_plain_checkpoint(tmp_path: Path) -> None:
    """A strength means nothing for a checkpoint without LoRA layers, and a plan says so; null does."""
    write.write_pllava(tmp_path, targets=())
    params = {"video": CLIP, "checkpoint": str(tmp_path), "count": 2, "grid": [2, 2], "selected_layer": 1}
    with pytest.raises(CheckpointError) as error:
        plan(load("prunevid"), {**params, "lora_alpha": 14})
    assert str(error.value) == (
        f"load_model.lora_alpha: 14, but {tmp_path} has no LoRA layers whose strength it could be; "
        f"set it to null"
    )
    plan(load("prunevid"), params)
