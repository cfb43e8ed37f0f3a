"""Which keys stay and what the others become: against loops that say the same thing one key at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tokenloom.runtime import kv_merge
from tokenloom.runtime.kv_merge import (
    Mode,
    Pairing,
    budget,
    first_in_two_classes,
    kept_keys,
    merged,
    nearest,
    others,
    rows,
    shares,
)


@dataclass(frozen=True)
class Layer:
    """Scores [H, C], which keys are text [C], keys [H, C, d], ratios."""

    score: Tensor
    text: Tensor
    keys: Tensor
    hh: float
    recent: float
    text_prior: bool


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Small layers whose scores often tie, and whose ratios drop something or nothing."""
    heads, count = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    score = torch.randint(0, draw(st.sampled_from([3, 1000])), (heads, count), generator=generator)
    text = torch.rand(count, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    keys = torch.randn(heads, count, 5, generator=generator)
    ratio = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7])
    return Layer(score.float(), text, keys, draw(ratio), draw(ratio), draw(st.booleans()))


def chosen(layer: Layer, sinks: int) -> Tensor:
    """The kept keys as the node chooses them; all of them when the ratios allow as many."""
    allowed = budget(layer.text, layer.hh, layer.recent, text_prior=layer.text_prior, sinks=sinks)
    heads, count = layer.score.shape
    if allowed.keys >= count:
        return torch.arange(count).expand(heads, -1)
    return kept_keys(layer.score, allowed)


def slowly(layer: Layer, sinks: int) -> list[list[int]]:
    """The same, written down from the paper: sets and sorted lists."""
    count = layer.score.shape[1]
    hh, recent = int(count * layer.hh), int(count * layer.recent)
    if count <= hh + recent:
        return [list(range(count))] * len(layer.score)
    early, out = range(count - recent), []
    for score in layer.score.tolist():
        by_score = sorted(early, key=lambda i: (-score[i], i))
        first = [i for i in by_score if (layer.text[i] if layer.text_prior else i < sinks)]
        rest = [i for i in by_score if i not in first]
        heavy = (first + rest)[: max(hh, len(first)) if layer.text_prior else hh]
        out.append(sorted([*heavy, *range(count - recent, count)]))
    return out


@settings(max_examples=80, deadline=None)
@given(layers(), st.sampled_from([0, 4]))
def test_kept_keys_are_those_of_a_loop(layer: Layer, sinks: int) -> None:
    """Latest keys, all text or the sinks, then the best scores; ties to the lower position."""
    assert chosen(layer, sinks).tolist() == slowly(layer, sinks)


@settings(max_examples=40, deadline=None)
@given(layers())
def test_kept_and_others_are_everything(layer: Layer) -> None:
    """Each head's keys are kept or go, none is both, and both lists ascend."""
    kept = chosen(layer, 4)
    gone = others(kept, layer.score.shape[1])
    assert bool((kept.diff() > 0).all() and (gone.diff() > 0).all())
    together = torch.cat([kept, gone], 1).sort(1).values
    assert together.equal(torch.arange(layer.score.shape[1]).expand_as(together))


def one_head(
    x: Tensor, kept: list[int], gone: list[int], target: list[int], factor: list[float], mode: Mode
) -> Tensor:
    """[R, d]: the means of one head, term by term."""
    out = []
    for r, row in enumerate(kept):
        terms = [x[row]]
        for p, t, f in zip(gone, target, factor, strict=True):
            if t == r and f:
                terms.append((x[p] + x[row]) / 2 if mode == "pivot" else x[p] * f)
        out.append(torch.stack(terms).mean(0))
    return torch.stack(out)


@settings(max_examples=60, deadline=None)
@given(
    layers(), st.sampled_from([("pivot", "own"), ("weighted", "own"), ("avg", "own"), ("avg", "released")])
)
def test_merged_rows_are_those_of_a_loop(layer: Layer, how: tuple[Mode, Pairing]) -> None:
    """Every mode, keys and values alike: similarities of the keys decide for both."""
    mode, pairing = how
    assert mode != "h2o"
    kept = chosen(layer, 4)
    gone = others(kept, layer.score.shape[1])
    if not kept.shape[1] or not gone.shape[1]:
        return
    near = nearest(layer.keys, kept, gone)
    similar = torch.stack(
        [
            cosine_similarity(k[g][:, None], k[s], dim=-1)
            for k, g, s in zip(layer.keys, gone, kept, strict=True)
        ]
    )
    torch.testing.assert_close(near.similarity, similar.amax(-1))
    assert near.target.equal(similar.argmax(-1))
    passed = near.similarity.mean(0) >= near.similarity.mean()
    share = shares(near, mode, pairing)
    values = layer.keys.flip(-1) + 1
    for head in range(len(kept)):
        source, target = gone[head].tolist(), near.target[head].tolist()
        factor = [1.0] * len(source)
        if mode == "weighted":
            factor = (near.similarity[head] * passed).tolist()
        if pairing == "released":
            target = near.target[head][passed].tolist()
            source, factor = source[: len(target)], factor[: len(target)]
        for x in (layer.keys, values):
            want = one_head(x[head], kept[head].tolist(), source, target, factor, mode)
            torch.testing.assert_close(merged(x, kept, gone, share)[head], want)


@settings(max_examples=40, deadline=None)
@given(layers())
def test_the_plain_mean_loses_nothing(layer: Layer) -> None:
    """avg: kept rows, counted as often as rows went into them, sum up to all rows."""
    kept = chosen(layer, 4)
    gone = others(kept, layer.score.shape[1])
    if not kept.shape[1]:
        return
    share = shares(nearest(layer.keys, kept, gone), "avg")
    size = torch.ones(kept.shape).scatter_add_(1, share.target, share.joins)
    total = (merged(layer.keys, kept, gone, share) * size[..., None]).sum(1)
    torch.testing.assert_close(total, layer.keys.sum(1), atol=1e-4, rtol=1e-4)


def test_pivot_with_one_key_that_goes() -> None:
    """The kept key moves a quarter of the way to it: the mean of itself and the halfway point."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 5.0]]])
    kept, gone = torch.tensor([[0, 1]]), torch.tensor([[2]])
    share = shares(nearest(keys, kept, gone), "pivot")
    assert merged(keys, kept, gone, share).tolist() == [[[1.0, 0.0], [0.0, 2.0]]]


def test_weighted_drops_what_is_less_similar_than_average() -> None:
    """The second key that goes is at right angles to every kept one; it joins nothing."""
    keys = torch.tensor([[[1.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])
    kept, gone = torch.tensor([[0]]), torch.tensor([[1, 2]])
    share = shares(nearest(keys, kept, gone), "weighted")
    assert share.joins.tolist() == [[1.0, 0.0]]
    assert merged(keys, kept, gone, share).tolist() == [[[2.5, 0.0, 0.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_two_classes_are_ranked_exactly(dtype: torch.dtype) -> None:
    """No score is so large that it leaves its class, and small ones keep their order in every format."""
    score = torch.tensor([[60000.0, 0.001, 0.0, 0.002, 3.0]]).to(dtype)
    first = torch.tensor([False, True, True, False, False])
    assert first_in_two_classes(score, first).tolist() == [[1, 2, 0, 4, 3]]


def test_a_score_that_is_not_a_number_comes_last() -> None:
    """nan wins over nothing of its class."""
    score = torch.tensor([[float("nan"), 0.1, 0.2]])
    assert first_in_two_classes(score, torch.zeros(3, dtype=torch.bool)).tolist() == [[2, 1, 0]]


def test_comparing_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that go are compared a few at a time."""
    torch.manual_seed(0)
    keys = torch.randn(2, 30, 8)
    kept = torch.arange(0, 30, 3).expand(2, -1)
    gone = others(kept, 30)
    whole = nearest(keys, kept, gone)
    monkeypatch.setattr(kv_merge, "BLOCK", 7)
    parts = nearest(keys, kept, gone)
    assert parts.target.equal(whole.target)
    torch.testing.assert_close(parts.similarity, whole.similarity)


def test_a_key_of_zeros_is_similar_to_nothing() -> None:
    """Its cosine is 0, and it goes into the first kept key; no nan."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    near = nearest(keys, torch.tensor([[0, 1]]), torch.tensor([[2]]))
    assert (near.target.tolist(), near.similarity.tolist()) == ([[0]], [[0.0]])


def test_rows_of_each_head() -> None:
    """Each head takes its own rows."""
    x = torch.arange(4.0).reshape(2, 2, 1)
    assert rows(x, torch.tensor([[1], [0]])).tolist() == [[[1.0]], [[2.0]]]
