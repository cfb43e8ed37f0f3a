"""Stages of several methods in any order: pooling, pruning, selecting, merging, projecting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.outliers import prune_outliers
from tokenloom.nodes.pool import pool_tokens
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Patches, Tokens, VisualTokens

from ..same import same
from ..towers import WIDTH, made_patches, square_source, tiny_projector

PROJECTOR = tiny_projector()
Stage = Callable[[Any], Tokens]
STAGES: dict[str, Stage] = {
    "dominant": lambda t: select_dominant(t, ratio=0.75, cls_token="drop").kept,
    "merge": lambda t: merge_contextual(*select_dominant(t, ratio=0.5), ratio=0.25),
    "merge_only": lambda t: merge_contextual(None, t, ratio=0.5),
    "outliers": lambda t: prune_outliers(t, ratio=0.5, neighbours=3),
    "adaptive": lambda t: prune_outliers(t, over="tile"),
    "plus": lambda t: prune_outliers(t, plus=True, ratio=0.25, neighbours=2),
    "twice": lambda t: prune_outliers(t, plus=True, ratio=0.4, duplicates=True),
    "project": lambda t: t if isinstance(t, VisualTokens) else project_mlp(PROJECTOR, t),
}


def patches(tiles: int) -> Patches:
    """Whole grids of 4 x 6 with every channel that the stages ask for."""
    plain = made_patches(square_source(tiles, 4, 6), cls_token=False, width=WIDTH)
    maker = torch.Generator().manual_seed(3)
    unsplit = {
        Need("cls_attention", -1, form="unsplit").key: torch.rand(len(plain), generator=maker) ** 4,
        Need("keys", -1, form="unsplit").key: torch.randn(len(plain), 7, generator=maker),
    }
    return plain.with_side(**unsplit)


def check(tokens: Tokens, before: Tokens) -> None:
    """What holds of tokens after every stage that works tile by tile."""
    source = tokens.source
    assert source is before.source
    assert tokens.side.keys() == before.side.keys()
    total = torch.zeros(len(tokens)).index_add_(0, tokens.owner, tokens.share)
    torch.testing.assert_close(total, (tokens.count > 0).float())
    assert tokens.share.gt(0).all()
    tile = tokens.member.div(source.per_tile, rounding_mode="floor")
    assert tile.equal(tokens.home[tokens.owner])
    assert tokens.home.diff().ge(0).all()
    pair = tokens.owner * len(source) + tokens.member
    assert len(pair.unique()) == len(pair)  # no patch twice in a token
    assert set(tokens.member.tolist()) <= set(before.member.tolist())
    assert tokens.features.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.sampled_from([None, (4, 6), (2, 3), (3, 4)]),
    st.sampled_from(["average", "bilinear"]),
    st.booleans(),
    st.lists(st.sampled_from(sorted(STAGES)), max_size=4),
)
def test_any_order(tiles: int, grid: Any, method: Any, projected: bool, stages: list[str]) -> None:
    """Every token still stands for patches of its own tile, each once, with shares that sum to 1."""
    tokens: Tokens = patches(tiles)
    if projected:
        tokens = STAGES["project"](tokens)
    if grid is not None:
        before, tokens = tokens, pool_tokens(tokens, grid=grid, method=method)
        assert len(tokens) == tiles * grid[0] * grid[1]
        check(tokens, before)
    for stage in stages:
        if "merge" in stage and int(torch.bincount(tokens.home, minlength=tiles).min()) == 0:
            continue  # a tile without tokens has nothing to merge into: a BudgetError of its own
        before, tokens = tokens, STAGES[stage](tokens)
        check(tokens, before)
    assert type(tokens) is (VisualTokens if projected or "project" in stages else Patches)


@pytest.mark.parametrize("stage", sorted(STAGES))
@pytest.mark.parametrize("pooled", [False, True])
def test_before_or_after_a_projector_that_changes_nothing(stage: str, pooled: bool) -> None:
    """The same tokens either way: a stage sees what came with the patches, not who made the vectors."""
    identity, tokens = tiny_projector("identity"), patches(2)

    def reduce(given: Any) -> Tokens:
        return STAGES[stage](pool_tokens(given, grid=(3, 5)) if pooled else given)

    if stage != "project":
        assert same(project_mlp(identity, reduce(tokens)), reduce(project_mlp(identity, tokens)))


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"project"}))
def test_who_stands_for_what_does_not_depend_on_the_vectors(stage: str) -> None:
    """After a true projector the provenance is that of before."""
    early = project_mlp(PROJECTOR, STAGES[stage](patches(2)))
    late = STAGES[stage](project_mlp(PROJECTOR, patches(2)))
    assert same(early, late.with_features(early.features))
