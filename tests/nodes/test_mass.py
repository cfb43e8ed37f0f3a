"""select_by_mass: how many stay follows the scores; bounds, [CLS], what a plan knows, bad settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tokenloom.nodes.mass import select_by_mass
from tokenloom.nodes.merge import merge_contextual
from tokenloom.runtime.errors import BudgetError, NeedError
from tokenloom.runtime.foreseen import KnownPair, KnownTokens
from tokenloom.runtime.registry import all_nodes

from .test_select import places, scored

STEEP, FLAT = [0.0, 0.75, 0.125, 0.125, 0.0], [0.0, 0.25, 0.25, 0.25, 0.25]


def test_a_tile_with_one_thing_in_it_keeps_fewer() -> None:
    """The best patches of each tile that hold three quarters, and [CLS]; the rest is all others."""
    picked = select_by_mass(scored(STEEP, FLAT), mass=0.75)
    assert places(picked.kept) == [-1, 0, -1, 4, 5, 6]
    assert places(picked.rest) == [1, 2, 3, 7]


def test_the_attention_of_cls_to_itself_does_not_count() -> None:
    """However much it is."""
    picked = select_by_mass(scored([9.0, 0.5, 0.25, 0.25]), mass=0.5)
    assert places(picked.kept) == [-1, 0]


def test_cls_may_go() -> None:
    """Then it is in neither output."""
    picked = select_by_mass(scored(STEEP), mass=0.75, cls_token="drop")
    assert (places(picked.kept), places(picked.rest)) == ([0], [1, 2, 3])


def test_least_and_most_of_every_tile() -> None:
    """They bound what the mass asks for; a tile with fewer gives all."""
    assert places(select_by_mass(scored(STEEP, FLAT), mass=0.75, least=2, most=2).kept) == [
        -1, 0, 1, -1, 4, 5
    ]  # fmt: skip
    assert len(select_by_mass(scored(STEEP), mass=0.0, least=9).kept) == 5
    assert places(select_by_mass(scored(STEEP), mass=0.0, least=0).kept) == [-1]


def test_all_tiles_together() -> None:
    """The tile that is looked at more keeps more."""
    loud, quiet = [0.0, 0.5, 0.5, 0.5], [0.0, 0.25, 0.0, 0.0]
    assert places(select_by_mass(scored(loud, quiet), mass=0.85, over="all", least=0).kept) == [
        -1, 0, 1, 2, -1
    ]  # fmt: skip


def test_scores_without_a_cls_token() -> None:
    """received attention, of a tower that has none."""
    tokens = scored(FLAT, cls_token=False)
    tokens = tokens.with_side(received_attention=torch.tensor([0.0, 0.0, 0.5, 0.25, 0.25]))
    assert places(select_by_mass(tokens, mass=0.75, score="received").kept) == [2, 3]


def test_the_rest_can_be_merged() -> None:
    """VisionZip's second half on an adaptive first one; where nothing is left over, `short: fewer`."""
    kept, rest = select_by_mass(scored(STEEP, FLAT), mass=1.0)
    merged = merge_contextual(kept, rest, targets=1, short="fewer")
    assert merged.home.bincount().tolist() == [5, 5]
    with pytest.raises(BudgetError) as error:
        merge_contextual(kept, rest, targets=1)
    assert str(error.value) == (
        "merge_contextual: keep 5 + targets 1 of 5 tokens per tile, 0 of them left over; lower keep or "
        "targets so that both together are 5 or less"
    )


def foresee(known: KnownTokens | None, **widgets: Any) -> Any:
    node = all_nodes()["select_by_mass"]
    assert node.foresee is not None
    return node.foresee(known, **{name: widget.default for name, widget in node.widgets.items()} | widgets)


def test_what_a_plan_knows() -> None:
    """That the number varies, and who has a [CLS]; nothing of the count."""
    known = KnownTokens(tiles=2, per_tile=10, cls_token=True, cls_scores=True, grid=True, complete=True)
    some = KnownTokens(tiles=2, cls_scores=True, grid=False, complete=False, varies=True)
    kept, rest = replace(some, cls_token=True), replace(some, cls_token=False)
    assert foresee(known) == KnownPair(kept=kept, rest=rest)
    assert foresee(known, cls_token="drop") == KnownPair(kept=rest, rest=rest)
    assert foresee(None) is None
    with pytest.raises(NeedError) as error:
        foresee(KnownTokens(cls_scores=False))
    assert str(error.value) == "select_by_mass.score: the tower has no [CLS] token; set score: received"


def test_bounds_that_cross() -> None:
    """Refused in a call and while planning."""
    said = "select_by_mass: least 5 is above most 2; lower one or raise the other"
    with pytest.raises(BudgetError) as error:
        select_by_mass(scored(STEEP), least=5, most=2)
    assert str(error.value) == said
    with pytest.raises(BudgetError) as error:
        foresee(None, least=5, most=2)
    assert str(error.value) == said
