"""compress_kv as a node: what it shortens, what it leaves alone, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom import load
from tokenloom.nodes.kv import compress_kv
from tokenloom.nodes.prefill import KnownState
from tokenloom.runtime.errors import BudgetError, GraphError, LoomError, NeedError
from tokenloom.runtime.values import Hiding, KVCache, LayerCache, LLMInput, LLMState, Segment

TEXT, IMAGE = int(Segment.TEXT_BEFORE), int(Segment.VISUAL)
HEADS, WIDTH = 2, 4


def a_cache(row: torch.Tensor, seed: int, *, dtype: torch.dtype = torch.float32) -> LayerCache:
    """Random keys and values of these original rows, whose positions are 100 further."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, HEADS, len(row), WIDTH, generator=generator).to(dtype)
    return LayerCache(keys, values, row + 100, row, torch.rand(HEADS, len(row), generator=generator))


def a_state(
    segment: str = "tttiiiiiiiiiitttt", *rows: list[int], dtype: torch.dtype = torch.float32
) -> LLMState:
    """A state after one layer per list of rows (default two layers of all); t: text, i: a visual token."""
    count = len(segment)
    at = torch.arange(count)
    kinds = torch.tensor([IMAGE if c == "i" else TEXT for c in segment], dtype=torch.uint8)
    none, hidden = torch.full((count,), -1), torch.randn(count, 8)
    layers = tuple(
        a_cache(torch.tensor(row), i, dtype=dtype) for i, row in enumerate(rows or [[*range(count)]] * 2)
    )
    given = LLMInput(hidden, at + 100, kinds, none, none, none)
    return LLMState(hidden, at + 100, at, len(layers), KVCache(layers), given, count + 100)


def test_caches_get_shorter_per_head() -> None:
    """Of 17 keys 5 may stay by attention and 1 at the end; the 6 text keys before it stay all the same."""
    before = a_state()
    after = compress_kv(before, hh_ratio=0.3, recent_ratio=0.1)
    assert after.cache.lengths == (7, 7)
    for old, new in zip(before.cache.layers, after.cache.layers, strict=True):
        assert new.per_head
        assert new.received is None
        assert new.row.tolist() == [[0, 1, 2, 13, 14, 15, 16]] * HEADS
        assert new.position.equal(new.row + 100)
        assert new.values.shape == (HEADS, 7, WIDTH)
        assert old.length == 17
    assert (after.hidden is before.hidden, after.next_position) == (True, before.next_position)


def test_heads_choose_for_themselves() -> None:
    """Images that stay are those of the head's own scores."""
    state = a_state("tiiiit", [*range(6)])
    received = torch.tensor([[0.0, 9, 1, 1, 8, 0], [0, 1, 9, 8, 1, 0]])
    layer = replace(state.cache.layers[0], received=received)
    after = compress_kv(replace(state, cache=KVCache((layer,))), mode="h2o", hh_ratio=0.5, recent_ratio=0.2)
    new = after.cache.layers[0]
    assert new.row.tolist() == [[0, 1, 4, 5], [0, 2, 3, 5]]
    assert new.keys[1].equal(layer.keys[1, [0, 2, 3, 5]])
    assert new.values[0].equal(layer.values[0, [0, 1, 4, 5]])


@pytest.mark.parametrize(("mode", "kept"), [("h2o", [5, 6]), ("pivot", [0, 1, 2, 3])])
def test_without_text_priority(mode: Any, kept: list[int]) -> None:
    """All keys alike; the merging modes keep the first four in any case, h2o does not."""
    state = a_state("tttiiiiiiittt", [*range(13)])
    received = torch.zeros(HEADS, 13)
    received[:, 5], received[:, 6] = 2, 1
    state = replace(state, cache=KVCache((replace(state.cache.layers[0], received=received),)))
    ratio = 0.16 if mode == "h2o" else 0.31  # 2 and 4 of 13
    after = compress_kv(state, mode=mode, hh_ratio=ratio, recent_ratio=0.1, text_prior=False)
    assert after.cache.layers[0].row[0].tolist() == [*kept, 12]


def test_fewer_heavy_keys_than_sinks() -> None:
    """The first keys are among the heavy ones, not besides: two of the four stay."""
    state = a_state("tttiiiiiiittt", [*range(13)])
    state = replace(
        state,
        cache=KVCache((replace(state.cache.layers[0], received=torch.arange(26.0).reshape(2, 13)),)),
    )
    after = compress_kv(state, mode="avg", hh_ratio=0.16, recent_ratio=0.1, text_prior=False)
    assert after.cache.layers[0].row.tolist() == [[2, 3, 12]] * HEADS


def test_layers_of_different_lengths() -> None:
    """After a prune between layers each cache has its own text and budget, found through its rows."""
    short = [0, 1, 2, 5, 7, 9, 13, 14, 15, 16]
    state = a_state("tttiiiiiiiiiitttt", [*range(17)], short)
    after = compress_kv(state, hh_ratio=0.5, recent_ratio=0.1)
    assert after.cache.lengths == (9, 7)  # 8 + 1; 5 by the ratio, 6 text before the last
    assert set(after.cache.layers[1].row.flatten().tolist()) == {0, 1, 2, 13, 14, 15, 16}
    alone = compress_kv(a_state("tttiiiiiiiiiitttt", [*range(17)]), hh_ratio=0.5, recent_ratio=0.1)
    assert after.cache.layers[0].keys.equal(alone.cache.layers[0].keys)


def test_several_images() -> None:
    """Text between two images is text."""
    state = a_state("ttiiiiittiiiiitt", [*range(16)])
    after = compress_kv(state, hh_ratio=0.1, recent_ratio=0.1)
    assert after.cache.layers[0].row.tolist() == [[0, 1, 7, 8, 14, 15]] * HEADS


@pytest.mark.parametrize("ratios", [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.8, 0.9)])
def test_keeping_everything_changes_nothing(ratios: tuple[float, float]) -> None:
    """A layer from which nothing would go is the same object, received attention and all."""
    state = a_state("ttiiiiiitt")
    after = compress_kv(state, hh_ratio=ratios[0], recent_ratio=ratios[1])
    assert all(a is b for a, b in zip(after.cache.layers, state.cache.layers, strict=True))


def test_text_alone_is_not_compressed() -> None:
    """A prompt without visual tokens goes through as it is (as released)."""
    state = a_state("t" * 12)
    assert compress_kv(state, mode="h2o", text_prior=False) is state


def test_all_text_is_more_than_the_ratio() -> None:
    """The text prior keeps all text, whatever the ratios say, and no visual key but recent ones."""
    after = compress_kv(a_state("tttttttttiiit", [*range(13)]), hh_ratio=0.0, recent_ratio=0.2)
    assert after.cache.layers[0].row.tolist() == [[*range(9), 11, 12]] * HEADS


def test_half_precision_stays_half() -> None:
    """Sums are taken in float32 and come back in the cache's own format."""
    state = a_state("ttiiiiiiiitt", [*range(12)], dtype=torch.bfloat16)
    new = compress_kv(state, hh_ratio=0.5).cache.layers[0]
    assert (new.keys.dtype, new.values.dtype) == (torch.bfloat16, torch.bfloat16)
    wide = replace(
        state.cache.layers[0],
        keys=state.cache.layers[0].keys.float(),
        values=state.cache.layers[0].values.float(),
    )
    full = compress_kv(replace(state, cache=KVCache((wide,))), hh_ratio=0.5).cache.layers[0]
    assert new.keys.equal(full.keys.bfloat16())
    assert new.row.equal(full.row)


def test_layers_done_so_far_may_be_compressed_early() -> None:
    """Half-way states are taken, and what was compressed before stays when the others follow."""
    early = compress_kv(a_state("ttiiiiiiiitt", [*range(12)]), hh_ratio=0.5)
    later = replace(early, layer=2, cache=KVCache((*early.cache.layers, a_cache(torch.arange(12), 9))))
    after = compress_kv(later, mode="h2o", hh_ratio=0.6)
    assert after.cache.layers[0] is early.cache.layers[0]
    assert after.cache.lengths == (7, 8)


def test_compressing_twice() -> None:
    """Nothing is left to compress: refused, while planning too."""
    once = compress_kv(a_state())
    with pytest.raises(GraphError) as e:
        compress_kv(once)
    assert str(e.value) == (
        "compress_kv.state: all 2 layers that have run are compressed already; compress once, or after a "
        "prefill that runs more layers"
    )
    assert compress_kv.foresee is not None
    widgets: dict[str, Any] = {"mode": "h2o", "hh_ratio": 0.1, "recent_ratio": 0.1}
    widgets |= {"text_prior": True, "avg_pairing": "own"}
    known = compress_kv.foresee(KnownState(layer=2), **widgets)
    assert known == KnownState(layer=2, compressed=2)
    with pytest.raises(GraphError, match="all 2 layers that have run are compressed already"):
        compress_kv.foresee(known, **widgets)
    assert compress_kv.foresee(None, **widgets) is None
    assert compress_kv.foresee(replace(known, layer=3), **widgets) == KnownState(layer=3, compressed=3)
    text = KnownState(layer=2, visual=0)
    assert compress_kv.foresee(text, **widgets) == text


def test_hidden_rows_are_found_while_planning() -> None:
    """A state whose rows are hidden needs all of its keys, and a plan knows."""
    assert compress_kv.foresee is not None
    with pytest.raises(GraphError, match="rows are hidden instead of dropped"):
        compress_kv.foresee(KnownState(layer=2, hiding=2), **compress_kv.check_widgets({}))


def test_a_cache_that_nobody_watched() -> None:
    """Without the attention that keys received there is nothing to choose by."""
    state = a_state()
    bare = tuple(replace(layer, received=None) for layer in state.cache.layers)
    with pytest.raises(NeedError) as e:
        compress_kv(replace(state, cache=KVCache(bare)))
    assert str(e.value) == (
        "compress_kv: the state carries no cache_attention (side channels: none); a graph asks for it by "
        'itself, in an eager call prefill inside `with demand(Need("cache_attention"))`'
    )


def test_ratios_that_keep_nothing() -> None:
    """Zeros are found while planning, fractions of a key when the layer is there."""
    with pytest.raises(BudgetError) as e:
        compress_kv(a_state(), hh_ratio=0.01, recent_ratio=0.02, text_prior=False)
    assert str(e.value) == (
        "compress_kv: hh_ratio 0.01 and recent_ratio 0.02 keep none of layer 0's 17 keys; raise one of them"
    )
    assert compress_kv.foresee is not None
    with pytest.raises(BudgetError) as e:
        compress_kv.foresee(
            None, mode="avg", hh_ratio=0.0, recent_ratio=0.0, text_prior=False, avg_pairing="own"
        )
    assert str(e.value) == (
        "compress_kv: hh_ratio 0 and recent_ratio 0 keep none of a layer's keys; raise one of them"
    )


def test_rows_that_are_only_hidden() -> None:
    """FastV's mask mode looks at all keys again in every step."""
    state = a_state()
    hidden = replace(state, hiding=Hiding(1, torch.ones(len(state), dtype=torch.bool), 3))
    with pytest.raises(GraphError) as e:
        compress_kv(hidden)
    assert str(e.value) == (
        "compress_kv.state: rows are hidden instead of dropped, and chosen anew at every step, for which all "
        "keys are needed; drop the rows when pruning"
    )


def test_after_decode_has_begun(tmp_path: Path) -> None:
    """An answer is no state: the wire is refused with its place in the file."""
    file = tmp_path / "late.yaml"
    file.write_text(
        "tokenloom: 1\nextends: base/llava15\nnodes:\n"
        "  late: {node: compress_kv, state: $answer.answer}\noutputs: {late: $late}\n"
    )
    with pytest.raises(LoomError) as e:
        load(file).check()
    assert str(e.value).splitlines()[0] == (
        f"{file}:4:36: late.state wants LLMState, but answer.answer gives Answer"
    )
