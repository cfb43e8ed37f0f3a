"""The methods of the accuracy benchmark, as a table: a new one is one entry.

A method says how its branch of the graph is written for a budget, the part of the visual tokens that stays.
Controls compress at the same stage to the same budget without looking at the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .draft import MEDIA, Draft, Medium

Stage = Literal["none", "before", "inside", "cache"]
STAGES: Mapping[Stage, str] = {
    "none": "every token",
    "before": "before the language model",
    "inside": "inside the language model",
    "cache": "in the key-value cache, after the prompt",
}
FASTV_K = 2
"""Layers that see every visual token, as published."""
ALPHA = 0.4
PUBLISHED_GRID = 576  # patches of a tile in the papers of VisionZip and PruMerge
PRUNEVID_GRID = 144  # tokens of a frame in PruneVid's


@dataclass(frozen=True)
class Budget:
    """part: of the visual tokens that stays. knob: what was found on the validation split to meet it."""

    part: float
    knob: float | None = None

    def of(self, number: int) -> int:
        """That part of so many, rounded down, at least 1."""
        return max(1, int(self.part * number + 1e-9))


@dataclass(frozen=True, kw_only=True)
class Method:
    """write: its branch of a draft, up to a prompt or state that can be answered.

    stage: where its budget counts: tokens in the prompt, rows that the last layer sees, keys in the caches.
    budgets: it takes one. knob: bounds of a number that is tuned on the validation split to meet the budget;
    more of it keeps more. tuned_as: the method whose knob it takes. controls: methods that it is compared
    with. published: what its settings follow.
    """

    name: str
    title: str
    stage: Stage
    write: Callable[[Draft, Budget], Any]
    published: str = ""
    media: tuple[Medium, ...] = MEDIA
    budgets: bool = True
    knob: tuple[float, float] | None = None
    tuned_as: str = ""
    controls: tuple[str, ...] = ()
    control: bool = False


# -- before the language model ------------------------------------------------------------------------------


def _full(draft: Draft, budget: Budget) -> Any:
    return draft.late()


def _chosen(draft: Draft, node: str, budget: Budget, tokens: Any = None, **widgets: Any) -> Any:
    tokens = draft.patches() if tokens is None else tokens
    kept = draft.add(node, tokens, keep=budget.of(draft.parts.places), **widgets).kept
    return draft.placed(draft.projected(kept))


def _random(draft: Draft, budget: Budget) -> Any:
    return _chosen(draft, "select_random", budget, seed=draft.seed)


def _uniform(draft: Draft, budget: Budget) -> Any:
    return _chosen(draft, "select_uniform", budget)


def _random_seated(draft: Draft, budget: Budget) -> Any:
    return _chosen(draft, "select_random", budget, draft.numbered(), seed=draft.seed, cls_token="drop")


def _uniform_seated(draft: Draft, budget: Budget) -> Any:
    return _chosen(draft, "select_uniform", budget, draft.numbered(), cls_token="drop")


def _fewer_frames(draft: Draft, budget: Budget) -> Any:
    number = max(1, round(budget.part * draft.frames))
    return draft.placed(draft.projected(draft.patches(number)))


def _visionzip(draft: Draft, budget: Budget) -> Any:
    return _zipped(draft, draft.seen(), budget, cls_token="count", order="after")


def _visionzip_seated(draft: Draft, budget: Budget) -> Any:
    return _zipped(draft, draft.numbered(), budget, cls_token="drop", order="in_place")


def _zipped(draft: Draft, tokens: Any, budget: Budget, *, cls_token: str, order: str) -> Any:
    number = budget.of(draft.parts.places)
    targets = round(number * 10 / 64)
    kept, rest = draft.add("select_dominant", tokens, keep=number - targets, cls_token=cls_token)
    merged = draft.add("merge_contextual", kept, rest, targets=targets, order=order)
    return draft.placed(draft.projected(merged))


def _outliers(draft: Draft, **widgets: Any) -> Any:
    neighbours = round(32 * draft.parts.places / PUBLISHED_GRID)
    return draft.placed(
        draft.projected(draft.add("prune_outliers", draft.seen(), neighbours=neighbours, **widgets))
    )


def _prumerge(draft: Draft, budget: Budget) -> Any:
    places = draft.parts.places
    return _outliers(draft, ratio=(budget.of(places) - 0.5) / places)  # one more stands for the rest


def _prumerge_free(draft: Draft, budget: Budget) -> Any:
    return _outliers(draft)


# -- PruneVid -----------------------------------------------------------------------------------------------


def _merged_clip(draft: Draft, budget: Budget, *, gamma: float = 0.25, **way: Any) -> Any:
    """PruneVid's stage 1.

    Knob 0 to 1: part of the tokens of a frame that is left, published 0.5; from there to 2 fewer places count
    as static (tau from 0.8 to 0.98), where merging those takes too many already.
    """
    assert budget.knob is not None
    ratio, tau = min(budget.knob, 1.0), 0.8 + 0.18 * max(budget.knob - 1, 0.0)
    # groups that stay as they are: 14 of 144 tokens, and in proportion to what shall be left
    least = round(14 * draft.parts.places / PRUNEVID_GRID * min(ratio / 0.5, 1.0))
    visual = draft.visual()
    segments = draft.add("cluster_temporal", visual, ratio=gamma)
    still = draft.add("merge_static", visual, segments, tau=tau, **{k: way[k] for k in way if k != "order"})
    return draft.placed(draft.add("cluster_spatial", still, ratio=ratio, least=least, **way))


def _merged_seated(draft: Draft, budget: Budget) -> Any:
    return _merged_clip(draft, budget, gamma=0.75, order="raster", positions="mean")


def _late_prune(draft: Draft, inputs: Any, node: str, **widgets: Any) -> Any:
    """PruneVid's stage 2, or another pruning in its place."""
    return draft.add(node, draft.run(inputs, draft.parts.layer(10) + 1), ratio=ALPHA, **widgets)


def _prunevid(draft: Draft, budget: Budget) -> Any:
    return _late_prune(draft, _merged_clip(draft, budget), "prune_by_attention")


def _prunevid_random(draft: Draft, budget: Budget) -> Any:
    return _late_prune(draft, _merged_clip(draft, budget), "prune_random", seed=draft.seed)


# -- inside the language model ------------------------------------------------------------------------------


def _pruned(draft: Draft, node: str, budget: Budget, **widgets: Any) -> Any:
    until = min(FASTV_K, draft.parts.language.depth - 1)
    early = draft.early(draft.everything(), until)
    drop = 1 - budget.part
    return draft.add(
        node, early, drop=drop, select="global", rounding="round", rewrite_cache=False, **widgets
    )


def _fastv(draft: Draft, budget: Budget) -> Any:
    return _pruned(
        draft,
        "prune_by_attention",
        budget,
        rows="last",
        attention="post_rope_causal",
        heads="mean",
        over="mean",
    )


def _fastv_random(draft: Draft, budget: Budget) -> Any:
    return _pruned(draft, "prune_random", budget, seed=draft.seed)


def _fastv_uniform(draft: Draft, budget: Budget) -> Any:
    return _pruned(draft, "prune_uniform", budget)


# -- in the cache -------------------------------------------------------------------------------------------


def _lookm(draft: Draft, budget: Budget) -> Any:
    assert budget.knob is not None
    half = budget.knob / 2
    return draft.add("compress_kv", draft.late("compress_kv"), mode="pivot", hh_ratio=half, recent_ratio=half)


def _kv_recent(draft: Draft, budget: Budget) -> Any:
    assert budget.knob is not None
    return draft.add(
        "compress_kv", draft.late("compress_kv"), mode="h2o", hh_ratio=0.0, recent_ratio=budget.knob
    )


def _kv_random(draft: Draft, budget: Budget) -> Any:
    return draft.add("prune_random", draft.late(), ratio=budget.part, select="global", seed=draft.seed)


def _kv_uniform(draft: Draft, budget: Budget) -> Any:
    return draft.add("prune_uniform", draft.late(), ratio=budget.part, select="global")


BLIND = ("random", "uniform")
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(name="full", title="every token", stage="none", write=_full, budgets=False),
        Method(name="random", title="random tokens", stage="before", write=_random, control=True),
        Method(
            name="uniform",
            title="evenly spaced tokens",
            stage="before",
            write=_uniform,
            published="over the plane, the same places in every frame",
            control=True,
        ),
        Method(
            name="frames",
            title="fewer frames",
            stage="before",
            write=_fewer_frames,
            media=("video",),
            control=True,
        ),
        Method(
            name="visionzip",
            title="VisionZip",
            stage="before",
            write=_visionzip,
            controls=BLIND,
            published="dominant and contextual tokens 54:10, [CLS] one of them",
        ),
        Method(
            name="visionzip_seated",
            title="VisionZip, at the original places",
            stage="before",
            write=_visionzip_seated,
            controls=("visionzip", "random_seated", "uniform_seated"),
            published="not published: raster order, original position ids, no [CLS]",
        ),
        Method(
            name="random_seated",
            title="random tokens at their places",
            stage="before",
            write=_random_seated,
            control=True,
        ),
        Method(
            name="uniform_seated",
            title="evenly spaced tokens at their places",
            stage="before",
            write=_uniform_seated,
            control=True,
        ),
        Method(
            name="prumerge",
            title="PruMerge, fixed ratio",
            stage="before",
            write=_prumerge,
            controls=BLIND,
            published="32 neighbours of 576 patches, in proportion",
        ),
        Method(
            name="prumerge_free",
            title="PruMerge, as many as are outliers",
            stage="before",
            write=_prumerge_free,
            budgets=False,
            published="32 neighbours of 576 patches, in proportion",
        ),
        Method(
            name="prunevid_merge",
            title="PruneVid, stage 1",
            stage="before",
            write=_merged_clip,
            media=("video",),
            knob=(0.02, 2.0),
            controls=("random", "uniform", "frames"),
            published="gamma 0.25, tau 0.8; beta tuned to the budget, and where beta 1 keeps less than that, "
            "tau, up to 0.98",
        ),
        Method(
            name="prunevid_seated",
            title="PruneVid, stage 1, short segments, in place",
            stage="before",
            write=_merged_seated,
            media=("video",),
            knob=(0.02, 2.0),
            controls=("random", "uniform", "frames", "prunevid_merge"),
            published="not published: gamma 0.75 (chosen on validation clips), raster order, mean positions",
        ),
        Method(
            name="prunevid",
            title="PruneVid",
            stage="before",
            write=_prunevid,
            media=("video",),
            knob=(0.02, 2.0),
            tuned_as="prunevid_merge",
            controls=("random", "uniform", "frames", "prunevid_random"),
            published="stage 1 meets the budget, then 40 % of that stays after a third of the layers",
        ),
        Method(
            name="prunevid_random",
            title="PruneVid's stage 1, then random",
            stage="before",
            write=_prunevid_random,
            media=("video",),
            knob=(0.02, 2.0),
            tuned_as="prunevid_merge",
            control=True,
        ),
        Method(
            name="fastv",
            title="FastV",
            stage="inside",
            write=_fastv,
            controls=("fastv_random", "fastv_uniform"),
            published="K = 2; it scores by the last token's attention",
        ),
        Method(
            name="fastv_random",
            title="random at FastV's layer",
            stage="inside",
            write=_fastv_random,
            control=True,
        ),
        Method(
            name="fastv_uniform",
            title="evenly spaced at FastV's layer",
            stage="inside",
            write=_fastv_uniform,
            control=True,
        ),
        Method(
            name="lookm",
            title="LOOK-M",
            stage="cache",
            write=_lookm,
            knob=(0.02, 1.0),
            controls=("kv_random", "kv_uniform", "kv_recent"),
            published="pivot merging, as many recent keys as heavy ones; the caches are cut when the first "
            "token of the answer is known already, and most answers here have no other",
        ),
        Method(name="kv_random", title="random keys", stage="cache", write=_kv_random, control=True),
        Method(name="kv_uniform", title="evenly spaced keys", stage="cache", write=_kv_uniform, control=True),
        Method(
            name="kv_recent",
            title="the latest keys",
            stage="cache",
            write=_kv_recent,
            knob=(0.02, 1.0),
            control=True,
        ),
    )
}
