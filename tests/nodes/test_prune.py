"""prune_by_attention, prune_random, prune_uniform on states made by hand: who stays, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.nodes.prune import prune_by_attention, prune_random, prune_uniform
from tokenloom.runtime.errors import BudgetError, BudgetNotice, GraphError, NeedError, WiringError
from tokenloom.runtime.foreseen import KnownState
from tokenloom.runtime.needs import Need
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Kind, KVCache, LLMState, VisualTokens

from ..states import Run, made_state, placed, visual_tokens

PRUNEVID = "attention:text/pre_rope_full,max,max"
FASTV = "attention:last/post_rope_causal,mean,mean"
AS_FASTV: dict[str, Any] = {
    "rows": "last",
    "attention": "post_rope_causal",
    "heads": "mean",
    "over": "mean",
    "select": "global",
    "rounding": "round",
    "rewrite_cache": False,
}
PRUNES = (prune_by_attention, prune_random, prune_uniform)


def scored(*score: float, key: str = PRUNEVID, wires: tuple[VisualTokens, ...] = ()) -> LLMState:
    """Two rows of text, visual rows with these scores, three rows of text; text scores highest."""
    tokens = placed(*(wires or (visual_tokens(Run(len(score))),)))
    side = torch.full((len(tokens),), 9.0)
    side[tokens.wire >= 0] = torch.tensor(score)
    return made_state(tokens, {key: side})


def visual_rows(state: LLMState) -> list[int]:
    """Original rows of the visual tokens that are left."""
    return state.row[state.visual].tolist()


def test_the_highest_scores_stay_in_order() -> None:
    """PruneVid's alpha of 0.4 by default, ties to the lower position, text untouched."""
    out = prune_by_attention(scored(0.1, 0.5, 0.3, 0.5, 0.5))
    assert out.row.tolist() == [0, 1, 3, 5, 7, 8, 9]


def test_every_frame_and_segment_keeps_its_part() -> None:
    """Groups of 5 static, 3 and 5 dynamic tokens give 2, 1 and 2, whatever the others score."""
    still, moving = Kind.STATIC, Kind.DYNAMIC
    wire = visual_tokens(Run(5, 0, still), Run(3, 0, moving), Run(5, 1, moving))
    state = scored(*[0.9, 0.8, 0.7, 0.6, 0.5], *[0.1, 0.3, 0.2], *[0.0, 0.1, 0.2, 0.3, 0.4], wires=(wire,))
    assert visual_rows(prune_by_attention(state)) == [2, 3, 8, 13, 14]
    assert visual_rows(prune_by_attention(state, select="global")) == [2, 3, 4, 5, 6]


def test_groups_of_one_or_two_keep_nothing() -> None:
    """As released; at_least_one keeps one of each."""
    wire = visual_tokens(Run(2, 0), Run(1, 1), Run(5, 2))
    state = scored(*[0.9, 0.8], 0.7, *[0.1, 0.2, 0.3, 0.4, 0.5], wires=(wire,))
    assert visual_rows(prune_by_attention(state)) == [8, 9]
    assert visual_rows(prune_by_attention(state, rounding="at_least_one")) == [2, 4, 8, 9]


def test_several_wires() -> None:
    """Locally each wire by itself, globally all of them together."""
    wires = (visual_tokens(Run(2)), visual_tokens(Run(4)))
    state = scored(0.9, 0.8, 0.1, 0.2, 0.3, 0.4, wires=wires)
    assert visual_rows(prune_by_attention(state, ratio=0.5)) == [2, 7, 8]
    assert visual_rows(prune_by_attention(state, ratio=0.5, select="global")) == [2, 3, 8]
    assert visual_rows(prune_by_attention(state, keep=1)) == [2, 8]
    assert visual_rows(prune_by_attention(state, keep=1, select="global")) == [2]


def test_fastv_rounds_what_it_drops() -> None:
    """drop 0.3 of 25 keeps round(17.5) = 18."""
    state = scored(*torch.arange(25.0).tolist(), key=FASTV)
    assert visual_rows(prune_by_attention(state, drop=0.3, **AS_FASTV)) == list(range(9, 27))


@pytest.mark.parametrize("rewrite", [True, False])
def test_caches_lose_the_rows_or_keep_them(rewrite: bool) -> None:
    """PruneVid rewrites the caches of the layers that have run, FastV leaves them."""
    state = scored(0.1, 0.5, 0.3, 0.5, 0.5)
    out = prune_by_attention(state, rewrite_cache=rewrite)
    assert out.cache.lengths == ((7, 7) if rewrite else (10, 10))
    assert (out.layer, out.next_position) == (2, 10)
    for cache in out.cache.layers:
        assert cache.keys[0, :, 0].long().equal(cache.row)
        assert cache.position.equal(cache.row)
    assert out.hidden.equal(state.hidden[out.row])
    assert out.side[PRUNEVID].equal(state.side[PRUNEVID][out.row])


def test_positions_stay_or_are_counted_anew() -> None:
    """keep leaves gaps, repack counts from 0, and the answer goes on from there."""
    state = scored(0.1, 0.5, 0.3, 0.5, 0.5)
    kept, packed = (prune_by_attention(state, positions=p) for p in ("keep", "repack"))
    assert kept.position.tolist() == [0, 1, 3, 5, 7, 8, 9]
    assert packed.position.tolist() == list(range(7))
    assert (kept.next_position, packed.next_position) == (10, 7)


def test_mask_mode_hides_and_drops_nothing() -> None:
    """Later layers see the chosen tokens and all text; the answer's tokens choose as many again."""
    state = scored(0.1, 0.5, 0.3, 0.4, key=FASTV)
    out = prune_by_attention(state, keep=2, mode="mask", **AS_FASTV)
    assert out.hiding is not None
    assert (out.hiding.layer, out.hiding.keep) == (2, 2)
    assert (~out.hiding.visible).nonzero()[:, 0].tolist() == [2, 4]
    assert out.row.equal(state.row)
    assert state.hiding is None


@pytest.mark.parametrize("special", ["stay", "count"])
def test_newlines_stay_like_text_or_count(special: Any) -> None:
    """By default a newline is no visual token to choose."""
    wire = visual_tokens(Run(2), Run(1, 0, Kind.NEWLINE), Run(2))
    state = scored(0.9, 0.8, 0.1, 0.2, 0.3, wires=(wire,))
    rows = visual_rows(prune_by_attention(state, ratio=0.5, special=special))
    assert rows == ([2, 3, 4] if special == "stay" else [2, 3])


def test_the_state_that_came_in_is_left_alone() -> None:
    """Two branches from one state are two states."""
    state = scored(0.1, 0.5, 0.3, 0.5, 0.5)
    a, b = prune_by_attention(state, keep=1), prune_by_attention(state, keep=3)
    assert (len(a), len(b), len(state)) == (6, 8, 10)
    assert state.cache.lengths == (10, 10)


RUNS = st.lists(
    st.builds(Run, st.integers(0, 8), st.integers(0, 3), st.sampled_from([Kind.STATIC, Kind.DYNAMIC])),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("prune", PRUNES)
@given(
    wires=st.lists(RUNS, min_size=1, max_size=2),
    part=st.floats(0, 1),
    rounding=st.sampled_from(["floor", "round", "at_least_one"]),
    select=st.sampled_from(["local", "global"]),
    seed=st.integers(0, 9),
)
def test_counts_order_and_text(
    prune: Callable[..., LLMState],
    wires: list[list[Run]],
    part: float,
    rounding: str,
    select: str,
    seed: int,
) -> None:
    """Every group keeps what its size and the rule say; rows stay in order; no text row goes."""
    tokens = [visual_tokens(*runs) for runs in wires]
    total = sum(map(len, tokens))
    score = torch.rand(total, generator=torch.Generator().manual_seed(seed)).tolist()
    state = scored(*score, wires=tuple(tokens))
    out = prune(state, ratio=part, rounding=rounding, select=select, allow_none=True)

    def sizes(of: LLMState) -> dict[Any, int]:
        count: dict[Any, int] = {}
        for row in visual_rows(of):
            wire, token = int(of.input.wire[row]), int(of.input.token[row])
            kind = int(tokens[wire].kind[token]) == int(Kind.STATIC)
            key = (wire, int(tokens[wire].frame[token]), kind) if select == "local" else ()
            count[key] = count.get(key, 0) + 1
        return count

    rule = {"floor": int, "round": round, "at_least_one": lambda x: max(1, int(x))}[rounding]
    wanted = {key: rule(n * part) for key, n in sizes(state).items()}
    assert sizes(out) == {key: n for key, n in wanted.items() if n}
    assert out.row.diff().gt(0).all()
    assert out.row[~out.visual].tolist() == state.row[~state.visual].tolist()


def test_random_is_decided_by_its_seed() -> None:
    """Equal seeds draw alike, others differ, and the global generator is left alone."""
    state = scored(*[0.0] * 40)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (visual_rows(prune_random(state, seed=s)) for s in (3, 3, 4))
    assert one == again != other
    assert torch.get_rng_state().equal(before)


def test_random_is_fair() -> None:
    """Over many seeds every token stays about as often as any other."""
    state = scored(*[0.0] * 10)
    count = torch.zeros(10)
    for seed in range(300):
        count[torch.tensor(visual_rows(prune_random(state, keep=4, seed=seed))) - 2] += 1
    assert count.sum() == 1200
    assert 85 < count.min() <= count.max() < 155


def test_uniform_takes_the_middles() -> None:
    """2 of 8: one from the middle of each half."""
    assert visual_rows(prune_uniform(scored(*[0.0] * 8), keep=2)) == [4, 8]
    assert visual_rows(prune_uniform(scored(*[0.0] * 5), keep=1)) == [4]


@pytest.mark.parametrize("prune", PRUNES)
def test_nothing_at_all_may_stay_if_wanted(prune: Callable[..., LLMState]) -> None:
    """allow_none drops every visual token, and lets prompts without any through."""
    out = prune(scored(0.1, 0.2), allow_none=True)
    assert out.row.tolist() == [0, 1, 4, 5, 6]
    text = made_state(placed(), {PRUNEVID: torch.zeros(5)})
    assert len(prune(text, allow_none=True)) == 5


@pytest.mark.parametrize("prune", PRUNES)
def test_each_names_itself(prune: Callable[..., LLMState]) -> None:
    """The errors of the budget begin with the node, in a call and while planning."""
    name = prune.__name__
    said = (
        f"{name}: ratio 0.4 of visual tokens (2) keeps none of them; set ratio to 0.5, rounding: "
        "at_least_one, or allow_none: true to go on without any"
    )
    node = all_nodes()[name]
    assert node.foresee is not None
    widgets = {key: widget.default for key, widget in node.widgets.items()}
    with pytest.raises(BudgetError) as error:
        node.foresee(KnownState(layer=2, visual=2, groups=(2,)), **widgets)
    assert str(error.value) == said
    with pytest.warns(BudgetNotice) as notices:
        assert len(visual_rows(prune(scored(0.1, 0.2)))) == 1
    assert str(notices[0].message) == f"{said}; one is kept"
    with pytest.raises(BudgetError, match=f"^{name}.state: it has no visual tokens to prune"):
        prune(made_state(placed()))
    widgets |= {"keep": 3, "drop": 0.5}
    with pytest.raises(BudgetError) as error:
        node.foresee(None, **widgets)
    assert str(error.value) == f"{name}: keep 3 and drop 0.5 are given; one of them says how many, keep that"
    known = KnownState(layer=2)
    assert node.foresee(known, **widgets | {"drop": None}) == known


def test_without_scores() -> None:
    """An eager call learns how to ask for them."""
    with pytest.raises(NeedError) as error:
        prune_by_attention(scored(0.1, key="attention:other"), keep=1)
    assert str(error.value) == (
        f"prune_by_attention: the state carries no {PRUNEVID} (side channels: attention:other); a graph asks "
        "for it by itself, in an eager call prefill inside `with demand(Need(\"attention\", rows='text', "
        "form='pre_rope_full,max,max'))`"
    )
    assert prune_by_attention.needs({"rows": "last", "attention": "post_rope_causal", "heads": "mean",
                                     "over": "max"})["state"] == (
        Need("attention", None, "last", "post_rope_causal,mean,max"),
    )  # fmt: skip


def test_scores_that_are_no_numbers() -> None:
    """nan is refused, with how many there are."""
    with pytest.raises(GraphError) as error:
        prune_by_attention(scored(0.1, float("nan"), 0.2, float("nan")), keep=1)
    assert str(error.value) == (
        "prune_by_attention: 2 of 4 attention scores are not numbers (nan); look for nan in the checkpoint "
        "and in the tokens that are placed, or set dtype: float32"
    )


def test_mask_mode_takes_fastvs_settings_alone() -> None:
    """Every setting that does not fit is named, while planning too."""
    said = (
        "prune_by_attention.mode: mask is there only as FastV has it; set rows: last, attention: "
        "post_rope_causal, heads: mean, select: global, rewrite_cache: false, or mode: drop"
    )
    with pytest.raises(WiringError) as error:
        prune_by_attention(scored(0.1, 0.2), mode="mask")
    assert str(error.value) == said
    foresee: Any = prune_by_attention.foresee
    widgets = {"keep": 1, "ratio": None, "drop": None, "allow_none": False, "positions": "keep", **AS_FASTV}
    widgets["special"] = "stay"
    assert foresee(None, mode="mask", **widgets) is None
    with pytest.raises(WiringError) as error:
        foresee(None, mode="mask", **{**widgets, "positions": "repack"})
    assert str(error.value) == (
        "prune_by_attention.mode: mask is there only as FastV has it; set positions: keep, or mode: drop"
    )


def test_masks_do_not_nest() -> None:
    """Rows are hidden once; newlines cannot be chosen among and stay besides."""
    settings: dict[str, Any] = {"keep": 1, "mode": "mask", **AS_FASTV}
    once = prune_by_attention(scored(0.1, 0.2, key=FASTV), **settings)
    with pytest.raises(GraphError) as error:
        prune_by_attention(once, **settings)
    assert str(error.value) == (
        "prune_by_attention.mode: mask, but rows are hidden already from layer 2 on; mask once, or set mode: "
        "drop"
    )
    lines = scored(0.1, 0.2, key=FASTV, wires=(visual_tokens(Run(1), Run(1, 0, Kind.NEWLINE)),))
    with pytest.raises(GraphError) as error:
        prune_by_attention(lines, **settings)
    assert str(error.value) == (
        "prune_by_attention.special: with mode: mask, the answer's tokens choose among newlines and "
        "separators too; set special: count, or mode: drop"
    )
    assert prune_by_attention(lines, special="count", **settings).hiding is not None


def test_positions_of_three_axes_cannot_be_repacked() -> None:
    """M-RoPE keeps its places."""
    state = scored(0.1, 0.2, 0.3)
    rope: Tensor = torch.arange(8)[:, None].expand(-1, 3)
    state = replace(state, input=replace(state.input, rope=rope))
    assert len(prune_by_attention(state, keep=1)) == 6
    with pytest.raises(GraphError) as error:
        prune_by_attention(state, keep=1, positions="repack")
    assert str(error.value) == (
        "prune_by_attention.positions: repack, but this model has M-RoPE positions (time, row, column), "
        "which cannot be numbered 0, 1, 2, ...; set positions: keep"
    )


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes(seed: int) -> None:
    """They are refused like any setting out of its range."""
    with pytest.raises(WiringError) as error:
        prune_random(scored(0.1, 0.2), keep=1, seed=seed)
    assert str(error.value) == f"prune_random.seed: {seed} is outside 0..9223372036854775807"


@pytest.mark.parametrize("prune", PRUNES)
def test_rows_cannot_leave_compressed_caches(prune: Any) -> None:
    """Each head holds other rows; without rewrite_cache they stay as they are."""
    state = scored(0.1, 0.2, 0.3)
    layers = [replace(c, row=c.row[None], position=c.position[None]) for c in state.cache.layers]
    state = replace(state, cache=KVCache(tuple(layers)))
    with pytest.raises(GraphError) as error:
        prune(state, keep=1)
    assert str(error.value) == (
        f"{prune.name}.rewrite_cache: compress_kv left different rows in the heads of 2 of the 2 layers that "
        "have run, so rows cannot be dropped from all; compress after the last prune, or set rewrite_cache: "
        "false"
    )
    assert prune(state, keep=1, rewrite_cache=False).cache is state.cache


@pytest.mark.parametrize("prune", PRUNES)
def test_what_a_plan_knows_of_a_state_is_refused_early(prune: Any) -> None:
    """Compressed caches and M-RoPE's positions, before a layer has run."""
    known = KnownState(layer=3, compressed=1)
    with pytest.raises(GraphError, match="in the heads of 1 of the 3 layers that have run"):
        prune.foresee(known, **prune.check_widgets({"keep": 1}))
    loose = prune.check_widgets({"keep": 1, "rewrite_cache": False})
    assert prune.foresee(known, **loose) == known
    with pytest.raises(GraphError, match=f"{prune.name}.positions: repack, but this model has M-RoPE"):
        prune.foresee(
            KnownState(layer=3, rope_grid=True), **prune.check_widgets({"keep": 1, "positions": "repack"})
        )


def test_a_plan_knows_of_hidden_rows() -> None:
    """A second mask is refused before a layer has run."""
    foresee: Any = prune_by_attention.foresee
    widgets = prune_by_attention.check_widgets({"keep": 1, "mode": "mask", **AS_FASTV})
    once = foresee(KnownState(layer=2), **widgets)
    assert once == KnownState(layer=2, hiding=2)
    with pytest.raises(GraphError, match="rows are hidden already from layer 2 on"):
        foresee(once, **widgets)


@pytest.mark.gpu
def test_the_same_on_a_gpu() -> None:
    """All three keep there what they keep on the CPU, the random one too."""
    runs = [Run(7, frame, kind) for frame in range(5) for kind in (Kind.STATIC, Kind.DYNAMIC)]
    score = torch.rand(70, generator=torch.Generator().manual_seed(0)).mul(9).round().tolist()
    state = scored(*score, wires=(visual_tokens(*runs),))
    moved = _moved(state, "cuda")
    for prune in PRUNES:
        for select in ("local", "global"):
            here, there = (prune(s, ratio=0.3, select=select) for s in (state, moved))
            assert there.hidden.device.type == "cuda"
            assert there.row.tolist() == here.row.tolist()
            assert there.cache.layers[0].keys.cpu().equal(here.cache.layers[0].keys)


def _moved(value: Any, device: str) -> Any:
    """The same value with every tensor in it on a device."""
    if isinstance(value, Tensor | VisualTokens):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value


def foreseen(known: KnownState, **widgets: Any) -> Any:
    node = all_nodes()["prune_by_attention"]
    assert node.foresee is not None
    return node.foresee(known, **{name: widget.default for name, widget in node.widgets.items()} | widgets)


def test_a_plan_counts_what_is_left() -> None:
    """Of each picture where the groups are known; so that the next pruning is checked against it."""
    known = KnownState(layer=2, visual=15, groups=(5, 10))
    assert foreseen(known) == replace(known, visual=6, groups=(2, 4))
    assert foreseen(known, select="global") == replace(known, visual=6, groups=None)
    assert foreseen(known, special="count") == replace(known, groups=None)
    assert foreseen(replace(known, groups=None)) == replace(known, groups=None)


def test_a_plan_refuses_a_number_of_what_varies() -> None:
    """Of a clip that was merged by what it shows; a part of it goes."""
    known = KnownState(layer=2, varies=True)
    with pytest.raises(BudgetError) as error:
        foreseen(known, keep=3)
    assert str(error.value) == (
        "prune_by_attention.keep: how many tokens a tile has depends on what the pictures show here, and may "
        "be fewer; set ratio or drop"
    )
    assert foreseen(known, ratio=0.5) == known
