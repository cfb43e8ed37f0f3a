"""select_random and select_uniform: who stays, budgets of every tile, [CLS], and what a plan knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenloom.nodes.control import select_random, select_uniform
from tokenloom.runtime.errors import BudgetError, LoomError
from tokenloom.runtime.foreseen import KnownPair, KnownTokens
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Tokens

from ..towers import made_patches, square_source
from .test_select import places

CONTROLS = (select_random, select_uniform)


def patches(tiles: int = 1, rows: int = 4, cols: int = 4, *, cls_token: bool = False) -> Tokens:
    """Tiles of patches without any scores."""
    return made_patches(square_source(tiles, rows, cols), cls_token=cls_token)


@pytest.mark.parametrize("node", CONTROLS)
def test_kept_and_rest_share_nothing_and_lose_nothing(node: Any) -> None:
    """Both in source order."""
    picked = node(patches(2), keep=5)
    kept, rest = places(picked.kept), places(picked.rest)
    assert (kept, rest) == (sorted(kept), sorted(rest))
    assert sorted(kept + rest) == list(range(32))
    assert sum(place < 16 for place in kept) == 5 == sum(place >= 16 for place in kept)


def test_equal_seeds_draw_the_same() -> None:
    """Other seeds and other tiles draw others."""
    first, again, other = (places(select_random(patches(2), keep=6, seed=s).kept) for s in (1, 1, 2))
    assert first == again != other
    assert [place for place in first if place < 16] != [place - 16 for place in first if place >= 16]


def test_every_patch_is_drawn_as_often() -> None:
    """Over many seeds, [CLS] or not."""
    drawn = [places(select_random(patches(cls_token=True), keep=4, seed=s).kept) for s in range(400)]
    often = torch.bincount(torch.tensor(drawn).flatten(), minlength=16)
    assert len(often) == 16
    assert (often - 100).abs().max() < 40


def test_uniform_over_the_plane_meets_every_block() -> None:
    """A quarter of the patches: one of each 2 x 2; half of them: never two neighbours of a row or column."""
    place = torch.tensor(places(select_uniform(patches(), keep=4).kept))
    assert sorted((place // 8 * 2 + place % 4 // 2).tolist()) == [0, 1, 2, 3]
    half = torch.tensor(places(select_uniform(patches(), keep=8).kept))
    assert len(set(((half // 4 + half % 4) % 2).tolist())) == 1


def test_uniform_over_the_raster() -> None:
    """Every fourth patch, which is one column."""
    assert places(select_uniform(patches(), keep=4, over="raster").kept) == [2, 6, 10, 14]


@pytest.mark.parametrize("node", CONTROLS)
@pytest.mark.parametrize(("cls_token", "kept"), [("count", 3), ("extra", 4), ("drop", 3)])
def test_where_cls_goes(node: Any, cls_token: Any, kept: int) -> None:
    """It counts, comes on top, or goes altogether."""
    picked = node(patches(cls_token=True), keep=3, cls_token=cls_token)
    assert len(picked.kept) == kept
    assert (-1 in places(picked.kept)) == (cls_token != "drop")
    assert -1 not in places(picked.rest)


@pytest.mark.parametrize("node", CONTROLS)
def test_a_part_or_a_total(node: Any) -> None:
    """Rounded down in each tile, or split over the tiles."""
    assert len(node(patches(2), ratio=0.3).kept) == 8
    assert torch.bincount(node(patches(2), total=5).kept.home).tolist() == [3, 2]


@pytest.mark.parametrize("node", CONTROLS)
def test_tiles_with_fewer(node: Any) -> None:
    """All they have, or an error that says how many there are."""
    few = patches(1, 1, 3)
    assert places(node(few, keep=5, short="fewer").kept) == [0, 1, 2]
    with pytest.raises(BudgetError) as refused:
        node(few, keep=5)
    assert str(refused.value) == f"{node.name}: keep 5 of 3 tokens per tile; set keep to 3 or less"


@pytest.mark.parametrize("node", CONTROLS)
def test_two_budgets(node: Any) -> None:
    """One says how many."""
    with pytest.raises(LoomError) as refused:
        node(patches(), total=3, ratio=0.5)
    assert (
        str(refused.value)
        == f"{node.name}: total 3 and ratio 0.5 are given; one of them says how many, keep that"
    )


def foreseen(name: str, known: KnownTokens, **widgets: Any) -> Any:
    """What a plan knows."""
    node = all_nodes()[name]
    assert node.foresee is not None
    given = {"keep": 64, "total": None, "ratio": None, "cls_token": "drop", "short": "error", **widgets}
    return node.foresee(known, **given)


@pytest.mark.parametrize("node", CONTROLS)
def test_what_a_plan_knows(node: Any) -> None:
    """How many of each tile, also where nobody knows any scores."""
    known = KnownTokens(per_tile=17, cls_token=True, cls_scores=False)
    pair = foreseen(node.name, known, keep=5)
    assert isinstance(pair, KnownPair)
    assert (pair.kept.per_tile, pair.rest.per_tile, pair.kept.cls_token) == (5, 11, False)
    with pytest.raises(BudgetError, match="keep 64 of 16 patches per tile"):
        foreseen(node.name, known)


@pytest.mark.parametrize("node", CONTROLS)
def test_tiles_of_unknown_size(node: Any) -> None:
    """A number that a tile may not have is refused, a part of it is not."""
    varying = KnownTokens(per_tile=None, cls_token=False, cls_scores=False, varies=True)
    assert foreseen(node.name, varying, ratio=0.5) is not None
    with pytest.raises(BudgetError) as refused:
        foreseen(node.name, varying, keep=5)
    assert str(refused.value) == (
        f"{node.name}.keep: how many tokens a tile has depends on what the pictures show here, and may be "
        "fewer; set short: fewer"
    )
