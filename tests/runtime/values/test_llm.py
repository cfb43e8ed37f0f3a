"""The sequence, its state and its cache: rows must agree, lengths per layer may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokenloom.runtime.values import KVCache, LayerCache, LLMInput, LLMState, Segment


def sequence(rows: int = 4) -> LLMInput:
    n = torch.arange(rows)
    segment = torch.tensor([Segment.TEXT_BEFORE, Segment.VISUAL, Segment.VISUAL, Segment.TEXT_AFTER])
    return LLMInput(torch.zeros(rows, 2), n, segment[:rows].to(torch.uint8), n, n, n)


def layer(rows: int) -> LayerCache:
    n = torch.arange(rows)
    return LayerCache(torch.zeros(1, rows, 2), torch.zeros(1, rows, 2), n, n)


def state(layers: int = 1) -> LLMState:
    start = sequence()
    row = torch.tensor([0, 2, 3])
    cache = KVCache(tuple(layer(4) for _ in range(layers)))
    return LLMState(start.embeds[row], start.position[row], row, layers, cache, start, 4)


def test_every_row_has_all_its_facts() -> None:
    """Wrong lengths are listed together."""
    with pytest.raises(ValueError) as caught:
        replace(sequence(), position=torch.zeros(3), ids=torch.zeros(4, 1))
    assert str(caught.value) == "LLMInput: 4 rows, but position (3,), ids (4, 1)"


def test_a_state_knows_the_segments_of_the_rows_that_are_left() -> None:
    """Segments are looked up in the input through the original row."""
    assert state().segment.tolist() == [Segment.TEXT_BEFORE, Segment.VISUAL, Segment.TEXT_AFTER]
    assert state().visual.tolist() == [False, True, False]
    assert len(state()) == 3


def test_a_state_looks_its_places_up() -> None:
    """Plain positions, or three axes through the original row."""
    plain, rope = state(), torch.arange(12).reshape(4, 3)
    assert plain.place.equal(plain.position)
    assert replace(plain, input=replace(plain.input, rope=rope)).place.equal(rope[[0, 2, 3]])
    with pytest.raises(ValueError, match=r"LLMInput: 4 rows, but rope \(3, 3\)"):
        replace(plain.input, rope=rope[1:])


def test_rows_of_a_state_must_agree() -> None:
    """A pruned hidden needs pruned positions."""
    with pytest.raises(ValueError) as caught:
        replace(state(), hidden=torch.zeros(2, 2))
    assert str(caught.value) == "LLMState: 2 rows, but position (3,), row (3,)"


def test_a_state_has_a_cache_for_every_layer_that_has_run() -> None:
    """layer and cache cannot drift apart."""
    with pytest.raises(ValueError) as caught:
        replace(state(2), layer=3)
    assert str(caught.value) == "LLMState: 3 layers have run, but 2 are cached"


def test_cache_lengths_may_differ_by_layer() -> None:
    """Pruning between layers leaves longer caches behind."""
    assert KVCache((layer(4), layer(2))).lengths == (4, 2)
