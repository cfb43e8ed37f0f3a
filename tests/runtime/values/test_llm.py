"""The sequence, its state and its cache: rows must agree, lengths per layer may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokenloom.runtime.errors import BudgetError, GraphError
from tokenloom.runtime.values import Hiding, Kind, KVCache, LayerCache, LLMInput, LLMState, Segment

from ...states import Run, placed, visual_tokens


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


def test_every_layer_done_ran_on_some_rows() -> None:
    """A state tells of all of its layers or, made by hand, of none."""
    rows = torch.tensor([0, 2, 3])
    assert len(replace(state(2), ran=(rows, rows)).ran) == 2
    with pytest.raises(ValueError) as caught:
        replace(state(2), ran=(rows,))
    assert str(caught.value) == "LLMState: 2 layers have run, but ran tells of 1"


def test_cache_lengths_may_differ_by_layer() -> None:
    """Pruning between layers leaves longer caches behind."""
    assert KVCache((layer(4), layer(2))).lengths == (4, 2)


def rich() -> LLMState:
    """A state of four rows after two layers: side channel, hidden rows, attention received."""
    start, row = sequence(), torch.arange(4)
    tensors = torch.arange(8.0).reshape(1, 4, 2)
    one = LayerCache(tensors, -tensors, row, row, torch.arange(4.0)[None])
    side = {"attention:last": torch.arange(4.0)}
    hiding = Hiding(2, torch.tensor([True, False, True, True]), 1)
    return LLMState(start.embeds, row, row, 2, KVCache((one, one)), start, 4, side, hiding)


@pytest.mark.parametrize("rows", [torch.tensor([0, 2, 3]), torch.tensor([True, False, True, True])])
def test_keep_gathers_every_fact_of_a_row(rows: torch.Tensor) -> None:
    """Hidden, position, row, side channels and hidden rows; the next position and the caches stay."""
    before = rich()
    after = before.keep(rows)
    assert after.hidden.equal(before.hidden[[0, 2, 3]])
    assert after.position.tolist() == after.row.tolist() == [0, 2, 3]
    assert after.side["attention:last"].tolist() == [0, 2, 3]
    assert after.hiding is not None
    assert (after.hiding.visible.tolist(), after.hiding.layer, after.hiding.keep) == ([True] * 3, 2, 1)
    assert after.next_position == 4
    assert after.cache is before.cache


def test_keep_can_rewrite_the_caches_of_the_layers_done() -> None:
    """Keys, values, positions and attention received of the dropped rows go; the first state is as it was."""
    before = rich()
    after = before.keep(torch.tensor([0, 2, 3]), rewrite_cache=True)
    assert after.cache.lengths == (3, 3)
    assert before.cache.lengths == (4, 4)
    for one, old in zip(after.cache.layers, before.cache.layers, strict=True):
        assert one.keys.equal(old.keys[:, [0, 2, 3]])
        assert one.values.equal(old.values[:, [0, 2, 3]])
        assert one.row.tolist() == one.position.tolist() == [0, 2, 3]
        assert one.received is not None
        assert one.received.tolist() == [[0, 2, 3]]


def test_rewriting_goes_by_original_rows() -> None:
    """A cache longer than the state keeps the state's rows, not the first ones."""
    short = rich().keep(torch.tensor([0, 2, 3]))
    assert short.keep(torch.tensor([1, 2]), rewrite_cache=True).cache.layers[0].row.tolist() == [2, 3]


def test_rewriting_caches_chosen_per_head_is_refused() -> None:
    """Each head holds other rows: which to drop is not a question about rows any more."""
    before = rich()
    per_head = replace(before.cache.layers[0], row=torch.arange(4)[None], position=torch.arange(4)[None])
    before = replace(before, cache=KVCache((per_head, per_head)))
    with pytest.raises(GraphError) as caught:
        before.keep(torch.tensor([0]), rewrite_cache=True)
    assert str(caught.value) == (
        "keep(rewrite_cache=True): the heads of this cache hold different rows, so rows cannot be dropped "
        "from all of them; compress the cache after the last prune"
    )
    assert before.keep(torch.tensor([0])).cache is before.cache


@pytest.mark.parametrize("rows", [[1, 0], [0, 0], [-1, 2], [3, 4]])
def test_rows_to_keep_are_the_states_and_ascend(rows: list[int]) -> None:
    """Order is the sequence's: a state never permutes its rows."""
    with pytest.raises(BudgetError) as caught:
        rich().keep(torch.tensor(rows))
    assert str(caught.value) == (
        "keep.rows: wanted row numbers of 0..3, each once and ascending; sort them, or give a mask [4] bool"
    )


def test_rows_to_keep_are_an_index_or_a_mask() -> None:
    """Scores by mistake, or a mask of another length, are told apart from an index."""
    with pytest.raises(BudgetError) as caught:
        rich().keep(torch.zeros(2))
    assert str(caught.value) == (
        "keep.rows: [2, float32, cpu] is no index; give [n] long row numbers, ascending, or [4] bool"
    )
    with pytest.raises(BudgetError) as caught:
        rich().keep(torch.zeros(3, dtype=torch.bool))
    assert str(caught.value) == "keep.rows: a mask (3,) for a state of 4 rows"


def test_repacked_closes_the_gaps_for_the_layers_to_come() -> None:
    """Positions and the next one are numbered anew; the rows and the caches are the same."""
    short = rich().keep(torch.tensor([0, 3]))
    packed = short.repacked()
    assert (packed.position.tolist(), packed.next_position) == ([0, 1], 2)
    assert packed.row.tolist() == [0, 3]
    assert packed.cache.layers[0].position.tolist() == [0, 1, 2, 3]


def test_repacked_refuses_m_rope() -> None:
    """Three axes have no consecutive numbering."""
    start = replace(sequence(), rope=torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(GraphError) as caught:
        replace(rich(), input=start).repacked()
    assert str(caught.value) == (
        "repacked: this model has M-RoPE positions (time, row, column), which cannot be numbered "
        "0, 1, 2, ...; keep the original positions"
    )


def test_every_row_is_hidden_or_visible() -> None:
    """The mask is as long as the state."""
    with pytest.raises(ValueError) as caught:
        replace(rich(), hiding=Hiding(2, torch.ones(3, dtype=torch.bool), 1))
    assert str(caught.value) == "LLMState.hiding: 4 rows, but visible (3,)"


def test_a_newline_that_ends_the_visual_tokens_is_text() -> None:
    """One between two pictures, and one within a picture, are not; without text after it none is."""
    line = Run(1, kind=Kind.NEWLINE)
    first, last = visual_tokens(Run(2), line), visual_tokens(Run(1), line, Run(2), line, line)
    given = placed(first, last, before=1, between=1, after=2)
    assert given.text_after.tolist() == [False] * 9 + [True] * 4
    assert not placed(first, before=1, after=0).text_after.any()
    bare = placed(visual_tokens(line), before=1, after=2)
    assert bare.text_after.tolist() == [False, False, True, True]
