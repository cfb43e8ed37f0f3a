"""prune_outliers: PruMerge against plain loops, whose patches go where, and what cannot be pruned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tokenloom.nodes.outliers import prune_outliers
from tokenloom.runtime.errors import BudgetError, NeedError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Kind, Patches, Tokens

from ..same import same
from ..towers import made_patches, square_source

SCORE = Need("cls_attention", -1, form="unsplit").key
KEYS = Need("keys", -1, form="unsplit").key


def scored(tiles: int, patches: int, *, seed: int = 0, cls_token: bool = False) -> Patches:
    """Tiles of one row of patches; a few stand out."""
    plain = made_patches(square_source(tiles, 1, patches), cls_token=cls_token, seed=seed)
    maker = torch.Generator().manual_seed(seed)
    score = torch.rand(len(plain), generator=maker) ** 8 + 0.01
    key = torch.randn(len(plain), 5, generator=maker)
    return plain.with_side(**{SCORE: score, KEYS: key})


def looped(
    tokens: Tokens, picks: list[int], samples: list[int], neighbours: int, duplicates: bool
) -> list[Tensor]:
    """One tile, token by token, as the released code goes about it."""
    feature, score, key = tokens.features, tokens.side[SCORE], tokens.side[KEYS]
    again = sum(p in picks for p in samples)
    chosen = picks + (samples if duplicates else [p for p in samples if p not in picks])
    left = [p for p in range(len(tokens)) if p not in chosen][again if duplicates else 0 :]
    out = []
    for i, p in enumerate(chosen):
        others = chosen[:i] + chosen[i + 1 :] + left
        near = cosine_similarity(key[p][None], key[others], dim=-1)
        best = [others[n] for n in near.argsort(descending=True, stable=True)[:neighbours]]
        out.append(feature[p] + sum(score[q] * feature[q] for q in best))
    out.append(sum((score[q] * feature[q] for q in left), torch.zeros(tokens.width)))
    return out


def tile_of(tokens: Tokens, tile: int) -> Tokens:
    return tokens.select(tokens.home == tile)


def ranked(tokens: Tokens) -> list[int]:
    order: list[int] = tokens.side[SCORE].argsort(descending=True, stable=True).tolist()
    return order


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 24), min_size=1, max_size=3),
    st.sampled_from([0.05, 0.125, 0.29, 0.5, 1.0]),
    st.sampled_from([(False, False), (True, False), (True, True)]),
    st.integers(0, 9),
)
def test_a_fixed_part_as_in_loops(
    sizes: list[int], ratio: float, mode: tuple[bool, bool], neighbours: int
) -> None:
    """Ragged tiles, with and without samples, also those that come twice."""
    whole = scored(len(sizes), 24)
    place = torch.arange(24).repeat(len(sizes))
    tokens = whole.select(place < torch.tensor(sizes)[whole.home])
    out = prune_outliers(tokens, ratio=ratio, plus=mode[0], neighbours=neighbours, duplicates=mode[1])
    step, want = int(1 / ratio), []
    for number, size in enumerate(sizes):
        tile = tile_of(tokens, number)
        samples = list(range(step // 2, size - 1, step)) if mode[0] else []
        want += looped(tile, ranked(tile)[: int(size * ratio)], samples, neighbours, mode[1])
    torch.testing.assert_close(out.features, torch.stack(want), atol=1e-5, rtol=1e-5)
    total = torch.zeros(len(out)).index_add_(0, out.owner, out.share)
    torch.testing.assert_close(total[out.count > 0], torch.ones(int((out.count > 0).sum())))
    assert out.member.div(24, rounding_mode="floor").equal(out.home[out.owner])


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("over", ["all", "tile"])
def test_the_adaptive_part_as_in_loops(plus: bool, over: Any) -> None:
    """Outliers counted over all tiles and split evenly, or of each tile; samples three times as dense."""
    tokens = scored(3, 50)
    out = prune_outliers(tokens, plus=plus, over=over, neighbours=6)
    score = tokens.side[SCORE].reshape(3, 50).numpy()
    want = []
    for number in range(3):
        values = score if over == "all" else score[number]
        low, high = np.percentile(values, 25), np.percentile(values, 75)
        part = (values > high + 1.5 * (high - low)).sum() / values.size
        assert 0 < part < 0.25
        tile = tile_of(tokens, number)
        samples = list(range(0, 49, int(int(1 / part) / 3))) if plus else []
        want += looped(tile, ranked(tile)[: int(50 * part)], samples, 6, False)
    torch.testing.assert_close(out.features, torch.stack(want), atol=1e-5, rtol=1e-5)
    if not plus:
        assert len(set(torch.bincount(out.home).tolist())) == (1 if over == "all" else 3)


def test_parts_are_rounded_as_floats_are() -> None:
    """int(100 * 0.29) is 28, in the released code and here."""
    assert len(prune_outliers(scored(1, 100), ratio=0.29)) == 28 + 1


def test_whose_patches_a_token_stands_for() -> None:
    """Itself with 1, its neighbours with their attention, and the rest with theirs; channels likewise."""
    tokens = scored(1, 12)
    out = prune_outliers(tokens, ratio=0.25, neighbours=2)
    score = tokens.side[SCORE]
    best = ranked(tokens)[:3]
    for i, p in enumerate(best):
        share = dict(
            zip(
                out.member[out.start[i] : out.start[i + 1]].tolist(),
                out.share[out.start[i] : out.start[i + 1]].tolist(),
                strict=True,
            )
        )
        assert len(share) == 3
        total = 1 + sum(float(score[q]) for q in share if q != p)
        assert share == pytest.approx({q: (1 if q == p else float(score[q])) / total for q in share})
        want = sum(part * tokens.side[KEYS][q] for q, part in share.items())
        torch.testing.assert_close(out.side[KEYS][i], want)
    last = out.member[out.start[3] :]
    assert last.tolist() == [p for p in range(12) if p not in best]
    torch.testing.assert_close(out.share[out.start[3] :], score[last] / score[last].sum())
    assert out.kind.eq(int(Kind.CONTEXTUAL)).all()


def test_cls_and_newlines_are_left_out() -> None:
    """With or without their rows the result is the same."""
    tokens = scored(2, 30, cls_token=True)
    bare = tokens.select(tokens.kind != int(Kind.CLS))
    line = Patches.special(tokens.source, torch.ones(1, 6), Kind.NEWLINE, torch.tensor([1]))
    blank = {key: value.new_ones(1, *value.shape[1:]) for key, value in tokens.side.items()}
    more = tokens.concat(line.with_side(**blank))
    assert same(prune_outliers(more), prune_outliers(bare))


@pytest.mark.parametrize("plus", [False, True])
def test_nothing_stands_out(plus: bool) -> None:
    """Equal attention everywhere: one token of each tile, the sum of it all."""
    tokens = scored(2, 9)
    tokens = tokens.with_side(**{SCORE: torch.full((18,), 0.125)})
    out = prune_outliers(tokens, plus=plus)
    torch.testing.assert_close(out.features, tokens.features.reshape(2, 9, -1).sum(1) * 0.125)
    assert out.count.tolist() == [9, 9]


def test_nothing_is_left() -> None:
    """All chosen: the last token of the tile is 0 and stands for nothing, as in the released code."""
    tokens = scored(2, 5)
    out = prune_outliers(tokens, ratio=1.0, neighbours=2)
    assert torch.bincount(out.home).tolist() == [6, 6]
    assert out.count.tolist() == [3] * 5 + [0] + [3] * 5 + [0]
    assert out.features[5].eq(0).all()
    assert out.side[KEYS][5].eq(0).all()


def test_attention_that_vanishes_takes_nothing_in() -> None:
    """A score of 0 is no share; where all are 0, the last token stands for nothing."""
    tokens = scored(1, 8).with_side(**{SCORE: torch.tensor([1.0] + [0] * 7)})
    out = prune_outliers(tokens, ratio=0.125)
    assert out.count.tolist() == [1, 0]
    assert out.features[0].equal(tokens.features[0])


def test_keys_that_are_zero_are_near_to_nothing() -> None:
    """Their tokens come last, and nothing becomes nan."""
    tokens = scored(1, 6)
    key = torch.tensor([[1.0, 0], [0, 0], [-1, 0], [0.5, 0], [2, 1], [1, 3]])
    tokens = tokens.with_side(**{SCORE: torch.tensor([0.9, 0.5, 0.1, 0.1, 0.1, 0.1]), KEYS: key})
    out = prune_outliers(tokens, ratio=0.34, neighbours=3)
    assert out.member[out.start[0] : out.start[1]].tolist() == [0, 3, 4, 5]
    assert out.member[out.start[1] : out.start[2]].tolist() == [0, 1, 2, 3]  # all equal: the first in order
    assert out.features.isfinite().all()


def test_half_precision_and_the_type_stay() -> None:
    """bfloat16 vectors come out as such."""
    tokens = scored(1, 20)
    out: Patches = prune_outliers(tokens.with_features(tokens.features.bfloat16()))
    assert (type(out), out.features.dtype) == (Patches, torch.bfloat16)
    torch.testing.assert_close(out.features.float(), prune_outliers(tokens).features, atol=0.05, rtol=0.05)


def test_no_tokens_at_all() -> None:
    """Nothing in, nothing out; a tile without tokens has no sum of the rest."""
    tokens = scored(2, 4)
    ways: tuple[dict[str, Any], ...] = ({"ratio": 0.5}, {}, {"over": "tile", "plus": True})
    for widgets in ways:
        assert len(prune_outliers(tokens.select(torch.arange(0)), **widgets)) == 0
    assert prune_outliers(tokens.select(torch.arange(4, 8)), ratio=0.5).home.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("what", "bad"), [("attention", SCORE), ("keys", KEYS), ("vectors", "")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(what: str, bad: str, value: float) -> None:
    """Said once, with what it is about."""
    tokens = scored(1, 6)
    x = (tokens.side[bad] if bad else tokens.features).clone()
    x[3] = value
    tokens = tokens.with_side(**{bad: x}) if bad else tokens.with_features(x)
    with pytest.raises(WiringError) as error:
        prune_outliers(tokens)
    assert str(error.value) == (
        f"prune_outliers.tokens: their {what} are not all finite (nan or inf); look for nan in the "
        "checkpoint and in the pictures, or set dtype: float32"
    )


@pytest.mark.parametrize(
    ("widgets", "kind", "said"),
    [
        (
            {"ratio": 0.0},
            BudgetError,
            "prune_outliers.ratio: 0 picks nothing; set it above 0, or to null for as many as are outliers",
        ),
        (
            {"plus": True, "duplicates": True},
            WiringError,
            "prune_outliers.duplicates: true, but only evenly spaced samples beside a fixed ratio can come "
            "twice; set plus: true and a ratio, or duplicates: false",
        ),
    ],
)
def test_settings_that_cannot_be(widgets: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Refused when run and when planned."""
    with pytest.raises(kind) as error:
        prune_outliers(scored(1, 9), **widgets)
    assert str(error.value) == said
    with pytest.raises(kind) as error:
        foresee(None, **widgets)
    assert str(error.value) == said


def foresee(known: KnownTokens | None, **widgets: Any) -> Any:
    assert prune_outliers.foresee is not None
    usual = {"plus": False, "ratio": None, "over": "all", "neighbours": 32, "duplicates": False, "layer": -1}
    return prune_outliers.foresee(known, **usual | widgets)


def test_what_a_plan_knows() -> None:
    """The count of a fixed part; that [CLS] goes; that some towers have none."""
    known = KnownTokens(tiles=2, per_tile=10, cls_token=True, cls_scores=True)
    assert foresee(known, ratio=0.5) == replace(known, per_tile=5, cls_token=False, grid=False)
    assert len(prune_outliers(scored(2, 9, cls_token=True), ratio=0.5)) == 10
    assert foresee(known) == replace(known, per_tile=None, cls_token=False, grid=False, varies=True)
    assert foresee(known, plus=True, ratio=0.5).per_tile is None
    assert foresee(None) is None
    with pytest.raises(NeedError) as error:
        foresee(KnownTokens(cls_scores=False))
    assert str(error.value) == (
        "prune_outliers: the tower has no [CLS] token, whose attention says what stands out; use a CLIP tower"
    )


def test_missing_channels_say_how_to_get_them() -> None:
    """An eager call names the layer and the form."""
    with pytest.raises(NeedError) as error:
        prune_outliers(made_patches(square_source(1)), layer=4)
    assert str(error.value) == (
        "prune_outliers: the tokens carry no cls_attention@4/unsplit (side channels: cls_attention, keys); a "
        "graph asks for it by itself, in an eager call encode inside "
        "`with demand(Need(\"cls_attention\", layer=4, form='unsplit'))`"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("plus", [False, True])
def test_on_a_gpu_as_on_the_cpu(plus: bool) -> None:
    """The same choice and provenance, vectors but for rounding."""
    tokens = scored(3, 50)
    cpu, gpu = prune_outliers(tokens, plus=plus), prune_outliers(tokens.to("cuda"), plus=plus).to("cpu")
    torch.testing.assert_close(gpu.features, cpu.features, atol=1e-4, rtol=1e-4)
    assert gpu.member.equal(cpu.member)
    assert gpu.start.equal(cpu.start)
