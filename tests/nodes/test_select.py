"""select_dominant and select_top: who stays, in which order, and budgets that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.select import select_dominant, select_top
from tokenloom.runtime.budget import check_one
from tokenloom.runtime.errors import BudgetError, LoomError, NeedError
from tokenloom.runtime.foreseen import KnownPair, KnownTokens
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Kind, Tokens

from ..towers import made_patches, square_source


def scored(*scores: list[float], cls_token: bool = True) -> Tokens:
    """Tiles of one row of patches with these scores, [CLS] first."""
    patches = made_patches(square_source(len(scores), 1, len(scores[0]) - cls_token), cls_token=cls_token)
    return patches.with_side(cls_attention=torch.tensor(scores).flatten())


def places(tokens: Tokens) -> list[int]:
    """Patch numbers, -1 for [CLS]."""
    out = torch.full((len(tokens),), -1)
    out[tokens.count == 1] = tokens.member
    return out.tolist()


def test_the_highest_scores_stay_in_source_order() -> None:
    """Per tile: [CLS] and the best patches, ascending; the rest likewise."""
    picked = select_dominant(scored([0, 0.1, 0.9, 0.3, 0.8], [0, 0.5, 0.6, 0.7, 0.2]), keep=3)
    assert places(picked.kept) == [-1, 1, 3, -1, 5, 6]
    assert places(picked.rest) == [0, 2, 4, 7]


def test_ties_go_to_the_lower_position() -> None:
    """Equal scores: the earlier patch stays."""
    picked = select_dominant(scored([0, 0.5, 0.5, 0.5, 0.5]), keep=3)
    assert places(picked.kept) == [-1, 0, 1]


def test_nan_scores_are_the_lowest() -> None:
    """A score that is no number never wins."""
    picked = select_dominant(scored([0, float("nan"), 0.1, 0.2]), keep=3)
    assert places(picked.kept) == [-1, 1, 2]


@pytest.mark.parametrize(
    ("cls_token", "kept", "rest"),
    [
        ("count", [-1, 1], [0, 2]),
        ("extra", [-1, 1, 2], [0]),
        ("drop", [1, 2], [0]),
    ],
)
def test_where_cls_goes(cls_token: Any, kept: list[int], rest: list[int]) -> None:
    """It counts, comes on top, or goes altogether."""
    picked = select_dominant(scored([0, 0.1, 0.9, 0.3]), keep=2, cls_token=cls_token)
    assert (places(picked.kept), places(picked.rest)) == (kept, rest)


def test_without_cls_tokens_keep_counts_patches() -> None:
    """Features without [CLS] rows still carry its scores."""
    picked = select_dominant(scored([0.1, 0.9, 0.3], cls_token=False), keep=2)
    assert places(picked.kept) == [1, 2]


def test_received_attention_as_score() -> None:
    """The score of towers without [CLS]."""
    patches = made_patches(square_source(1, 1, 3), cls_token=False)
    picked = select_dominant(
        patches.with_side(received_attention=torch.tensor([3.0, 1, 2])), keep=1, score="received"
    )
    assert places(picked.kept) == [0]


def test_ragged_tiles() -> None:
    """Tiles with different numbers of tokens are ranked on their own."""
    patches = scored([0, 0.1, 0.9, 0.3, 0.8], [0, 0.5, 0.6, 0.7, 0.2])
    ragged = patches.select(torch.tensor([0, 2, 4, 5, 6, 7, 8, 9]))
    picked = select_dominant(ragged, keep=2)
    assert places(picked.kept) == [-1, 1, -1, 6]
    assert places(picked.rest) == [3, 4, 5, 7]


def test_a_total_is_split_over_tiles() -> None:
    """The first tiles get what does not divide."""
    picked = select_dominant(made_patches(square_source(3)), total=11)
    assert torch.bincount(picked.kept.home).tolist() == [4, 4, 3]


@pytest.mark.parametrize(("ratio", "keep"), [(0.0, 0), (0.29, 5), (0.7, 13), (1.0, 19)])
def test_a_ratio_is_rounded_down(ratio: float, keep: int) -> None:
    """int(ratio * n) of every tile's tokens; a plan knows the same."""
    patches = made_patches(square_source(2, 1, 19), cls_token=False)
    picked = select_dominant(patches, ratio=ratio)
    assert torch.bincount(picked.kept.home, minlength=2).tolist() == [keep, keep]
    assert select_dominant.foresee is not None
    known = select_dominant.foresee(
        KnownTokens(per_tile=19, cls_token=False), **FORESEE | {"keep": 4, "ratio": ratio}
    )
    assert isinstance(known, KnownPair)
    assert known.kept.per_tile == keep


def test_presets_by_their_token_count() -> None:
    """A published setting instead of `keep`."""
    picked = select_dominant(made_patches(square_source(2, 6, 6)), preset=160)
    assert len(picked.kept) == 2 * 27


@given(tiles=st.integers(1, 4), keep=st.integers(0, 9), cls_token=st.sampled_from(["extra", "drop"]))
def test_kept_and_rest_share_no_patch_and_lose_none(tiles: int, keep: int, cls_token: Any) -> None:
    """Together they cover every patch once."""
    picked = select_dominant(made_patches(square_source(tiles)), keep=keep, cls_token=cls_token)
    assert torch.cat([picked.kept.member, picked.rest.member]).sort().values.equal(torch.arange(9 * tiles))
    assert torch.bincount(picked.kept.member // 9, minlength=tiles).eq(keep).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 11}, "select_dominant: keep 11 of 10 tokens per tile; set keep to 10 or less"),
        (
            {"keep": 10, "cls_token": "drop"},
            "select_dominant: keep 10 of 9 patches per tile; set keep to 9 or less",
        ),
        (
            {"keep": 0},
            "select_dominant: keep 0 of 10 tokens per tile leaves no place for [CLS], which counts; "
            "set keep to 1 or more, or cls_token: drop",
        ),
        (
            {"total": 21},
            "select_dominant: keep 11 (tile 0's part of total 21) of 10 tokens per tile; "
            "set keep to 10 or less",
        ),
    ],
)
def test_budgets_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    """One error that names the tokens, the budget and the way out; the same one from the plan."""
    with pytest.raises(BudgetError) as error:
        select_dominant(made_patches(square_source(2)), **settings)
    assert str(error.value) == message


FORESEE: dict[str, Any] = {"total": None, "ratio": None, "score": "cls", "cls_token": "count", "preset": None}


def test_foresight_of_counts_and_budgets() -> None:
    """A plan knows both outputs' counts, and refuses the same budgets."""
    assert select_dominant.foresee is not None
    known = KnownTokens(per_tile=10, cls_token=True, cls_scores=True)
    for cls_token, kept, rest in (("count", 4, 6), ("extra", 5, 5), ("drop", 4, 5)):
        pair = select_dominant.foresee(known, **FORESEE | {"keep": 4, "cls_token": cls_token})
        assert isinstance(pair, KnownPair)
        assert (pair.kept.per_tile, pair.rest.per_tile) == (kept, rest)
        assert pair.kept.cls_token is (cls_token != "drop")
        patches = made_patches(square_source(1))
        picked = select_dominant(patches, keep=4, cls_token=cls_token)  # type: ignore[arg-type]
        assert (len(picked.kept), len(picked.rest)) == (kept, rest)
    with pytest.raises(BudgetError) as error:
        select_dominant.foresee(known, **FORESEE | {"keep": 11})
    assert str(error.value) == "select_dominant: keep 11 of 10 tokens per tile; set keep to 10 or less"
    assert select_dominant.foresee(None, **FORESEE | {"keep": 4}) is None


def test_foresight_of_towers_without_cls() -> None:
    """Scores that the tower cannot give are refused while planning."""
    assert select_dominant.foresee is not None
    with pytest.raises(NeedError) as error:
        select_dominant.foresee(KnownTokens(per_tile=9, cls_scores=False), **FORESEE | {"keep": 4})
    assert str(error.value) == "select_dominant.score: the tower has no [CLS] token; set score: received"


def test_missing_scores_say_how_to_get_them() -> None:
    """An eager call without the side channel names it and the way to ask for it."""
    with pytest.raises(NeedError) as error:
        select_dominant(made_patches(square_source(1)), keep=2, score="received")
    assert str(error.value) == (
        "select_dominant.score 'received': the tokens carry no received_attention (side channels: "
        "cls_attention, keys); a graph asks for it by itself, in an eager call encode inside "
        '`with demand(Need("received_attention"))`'
    )


def test_the_top_are_patches_alone() -> None:
    """[CLS] is not one of them; it goes, and is not in the rest, or comes besides."""
    picked = select_top(scored([9, 0.1, 0.9, 0.3, 0.8]), keep=2)
    assert (places(picked.kept), places(picked.rest)) == ([1, 3], [0, 2])
    picked = select_top(scored([9, 0.1, 0.9, 0.3, 0.8]), keep=2, include_cls=True)
    assert (places(picked.kept), places(picked.rest)) == ([-1, 1, 3], [0, 2])


def test_the_top_of_every_tile() -> None:
    """Each on its own; by what is received where there is no [CLS]."""
    patches = made_patches(square_source(2, 1, 3), cls_token=False)
    patches = patches.with_side(received_attention=torch.tensor([3.0, 1, 2, 1, 3, 2]))
    assert places(select_top(patches, keep=2, score="received").kept) == [0, 2, 4, 5]


@pytest.mark.parametrize(
    ("known", "settings", "message"),
    [
        (
            KnownTokens(per_tile=10, cls_token=True, cls_scores=True),
            {"keep": 10},
            "select_top: keep 10 of 9 patches per tile; set keep to 9 or less",
        ),
        (
            KnownTokens(per_tile=9, cls_token=False, cls_scores=True),
            {"include_cls": True},
            "select_top.include_cls: the tokens hold no [CLS]; set features: cls_patch at encode_vision, or "
            "include_cls: false",
        ),
        (
            KnownTokens(per_tile=9, cls_token=False, cls_scores=False),
            {"include_cls": True},
            "select_top.include_cls: the tower has no [CLS] token; set include_cls: false",
        ),
        (
            KnownTokens(per_tile=9, cls_token=False, cls_scores=False),
            {},
            "select_top.score: the tower has no [CLS] token; set score: received",
        ),
    ],
)
def test_a_plan_refuses_a_top_that_is_not_there(
    known: KnownTokens, settings: dict[str, Any], message: str
) -> None:
    """Budgets, [CLS] and scores, before the tower runs."""
    assert select_top.foresee is not None
    with pytest.raises(LoomError) as error:
        select_top.foresee(known, **{"keep": 4, "score": "cls", "include_cls": False} | settings)
    assert str(error.value) == message


def test_a_plan_knows_how_many_the_top_are() -> None:
    """As many as there will be."""
    assert select_top.foresee is not None
    known = KnownTokens(per_tile=10, cls_token=True, cls_scores=True)
    for include_cls in (False, True):
        pair = select_top.foresee(known, keep=4, score="cls", include_cls=include_cls)
        picked = select_top(made_patches(square_source(1)), keep=4, include_cls=include_cls)
        assert isinstance(pair, KnownPair)
        assert (pair.kept.per_tile, pair.rest.per_tile) == (len(picked.kept), len(picked.rest))
        assert pair.kept.cls_token is include_cls
    assert select_top.foresee(None, keep=4, score="cls", include_cls=True) is None


def test_kinds_are_kept() -> None:
    """Selection leaves [CLS] a [CLS]."""
    picked = select_dominant(made_patches(square_source(1)), keep=3)
    assert picked.kept.kind.tolist() == [int(Kind.CLS), int(Kind.PATCH), int(Kind.PATCH)]


@pytest.mark.gpu
def test_the_gpu_picks_the_same() -> None:
    """Ties and all."""
    patches = scored([0, 0.5, 0.5, 0.5, 0.5], [0, 0.1, 0.1, 0.2, 0.2])
    cpu, gpu = select_dominant(patches, keep=3), select_dominant(patches.to("cuda"), keep=3)
    assert places(gpu.kept.to("cpu")) == places(cpu.kept)


def test_a_budget_is_given_in_one_way() -> None:
    """Two ways at once are refused, not ranked in silence."""
    with pytest.raises(BudgetError) as error:
        check_one("select_dominant", total=None, ratio=0.5, preset=64)
    assert str(error.value) == (
        "select_dominant: ratio 0.5 and preset 64 are given; one of them says how many, keep that"
    )
    with pytest.raises(BudgetError, match="total 9 and ratio"):
        select_dominant(made_patches(square_source(1, 3, 3)), total=9, ratio=0.5)
    with pytest.raises(BudgetError, match="merge_contextual: total 9 and preset 64"):
        merge_contextual(None, made_patches(square_source(1, 3, 3)), total=9, preset=64)


VARIES = KnownTokens(tiles=2, cls_token=True, cls_scores=True, varies=True)


def foreseen(name: str, known: KnownTokens, **widgets: Any) -> Any:
    node = all_nodes()[name]
    assert node.foresee is not None
    return node.foresee(known, **{key: widget.default for key, widget in node.widgets.items()} | widgets)


@pytest.mark.parametrize(
    ("node", "widgets", "where", "way_out"),
    [
        ("select_dominant", {}, "select_dominant.keep", "set short: fewer"),
        ("select_dominant", {"total": 9}, "select_dominant.total", "set short: fewer"),
        ("select_dominant", {"ratio": 0.5}, "select_dominant.ratio", "set short: fewer"),
        ("select_top", {}, "select_top.keep", "use select_dominant with short: fewer"),
    ],
)
def test_a_number_of_tiles_that_nobody_has_counted(
    node: str, widgets: dict[str, Any], where: str, way_out: str
) -> None:
    """Refused while planning, because a tile may have fewer; a part of them goes, if [CLS] does not count."""
    with pytest.raises(BudgetError) as error:
        foreseen(node, VARIES, **widgets)
    assert str(error.value) == (
        f"{where}: how many tokens a tile has depends on what the pictures show here, and may be fewer; "
        f"{way_out}"
    )
    assert foreseen("select_dominant", VARIES, ratio=0.5, cls_token="extra").kept.varies
    assert foreseen("select_dominant", VARIES, short="fewer").kept.varies


def test_a_tile_with_fewer_may_keep_them_all() -> None:
    """short: fewer, as run and as planned; [CLS] keeps its place."""
    tokens = scored([0, 0.1, 0.9, 0.3], [0, 0.5, 0.6, 0.7]).select(torch.tensor([0, 1, 2, 3, 4, 6]))
    assert places(select_dominant(tokens, keep=3, short="fewer").kept) == [-1, 1, 2, -1, 4]
    assert places(select_dominant(tokens, keep=3, short="fewer", cls_token="drop").kept) == [0, 1, 2, 4]
    assert places(select_dominant(tokens, keep=0, short="fewer").kept) == [-1, -1]
    known = KnownTokens(per_tile=4, cls_token=True, cls_scores=True)
    pair = foreseen("select_dominant", known, keep=9, short="fewer")
    assert (pair.kept.per_tile, pair.rest.per_tile) == (4, 0)


def test_what_is_left_is_no_grid() -> None:
    """Neither output has every patch any more."""
    known = KnownTokens(per_tile=10, cls_token=True, cls_scores=True, grid=True, complete=True)
    pair = foreseen("select_dominant", known, keep=4)
    assert [(side.grid, side.complete) for side in (pair.kept, pair.rest)] == [(False, False)] * 2
