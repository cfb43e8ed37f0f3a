"""Pruning inside real (tiny) models: branches of one state, chains, batches, and what the planner demands."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenloom.nodes.generate import generate
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prune import prune_by_attention, prune_random, prune_uniform
from tokenloom.nodes.read import read_tokens
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import BudgetError, GraphError, NeedError, WiringError
from tokenloom.runtime.foreseen import KnownState
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.needs import Need
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run
from tokenloom.runtime.values import LLMInput, LLMState, Prompt, Slot

from ..runtime.models.tiny import FAMILIES, Held, language_handle, tiny_language
from ..states import Run, visual_tokens

PRUNEVID = Need("attention", rows="text", form="pre_rope_full,max,max")
FASTV = Need("attention", rows="last", form="post_rope_causal,mean,mean")
AS_FASTV: dict[str, Any] = {
    "rows": "last",
    "attention": "post_rope_causal",
    "heads": "mean",
    "over": "mean",
    "select": "global",
    "rounding": "round",
    "rewrite_cache": False,
}


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def prompt(llm: Held, *counts: int, after: tuple[int, ...] = (6, 7, 8), seed: int = 0) -> LLMInput:
    """Text, and a picture of so many tokens for each count, and a question."""
    wires = [visual_tokens(Run(count), width=32, seed=seed + i) for i, count in enumerate(counts)]
    pieces = ((1, 5), *(Slot("image") for _ in counts), after)
    return place_tokens(llm, Prompt(pieces=pieces), *wires)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prune", [prune_by_attention, prune_random, prune_uniform])
def test_dropping_nothing_changes_nothing(family: str, prune: Any) -> None:
    """With ratio 1 the logits are the stock model's to the bit, and so is the answer."""
    llm = language_handle(tiny_language(family))
    given = prompt(llm, 9)
    state = prefill(llm, prune(prefill(llm, given, through=1), ratio=1.0))
    assert read_logits(llm, state, rows="all").values.equal(
        read_logits(llm, prefill(llm, given), rows="all").values
    )
    ids = generate(llm, state, max_new_tokens=5).answer.ids
    assert ids == generate(llm, given, max_new_tokens=5).answer.ids


@pytest.mark.parametrize("family", FAMILIES)
def test_dropped_is_as_good_as_unseen(family: str) -> None:
    """The text's rows come out alike whether tokens are dropped or hidden: positions stay."""
    llm = language_handle(tiny_language(family))
    scored = prefill(llm, prompt(llm, 12), until=2)
    dropped, hidden = (
        prefill(llm, prune_by_attention(scored, drop=0.5, mode=mode, **AS_FASTV)) for mode in ("drop", "mask")
    )
    assert (len(dropped), len(hidden)) == (11, 17)
    torch.testing.assert_close(dropped.hidden, hidden.hidden[dropped.row], atol=1e-5, rtol=1e-5)


def test_several_pictures_in_one_prompt(llm: Held) -> None:
    """Each picture keeps its part; read_tokens gives those of either."""
    scored = prefill(llm, prompt(llm, 10, 5), through=1)
    pruned = prune_by_attention(scored)
    kept = [read_tokens(pruned, wire=wire) for wire in (0, 1)]
    assert [len(tokens) for tokens in kept] == [4, 2]
    rows = torch.cat([tokens.features for tokens in kept])
    assert rows.equal(pruned.input.embeds[pruned.row[pruned.visual]])
    with pytest.raises(WiringError) as error:
        read_tokens(pruned, wire=2)
    assert str(error.value) == (
        "read_tokens.wire: 2, but 2 wires of visual tokens were placed; they count from 0"
    )
    assert read_tokens.foresee is not None
    with pytest.raises(WiringError) as error:
        read_tokens.foresee(KnownState(layer=2, wires=1), wire=1)
    assert str(error.value) == (
        "read_tokens.wire: 1, but 1 wire of visual tokens was placed; they count from 0"
    )


def test_batches_with_different_keeps(llm: Held) -> None:
    """States pruned to different lengths answer together as they do alone."""
    scored = [prefill(llm, prompt(llm, n, seed=n), until=2) for n in (12, 5, 8)]
    ways: list[dict[str, Any]] = [{"ratio": 0.25}, {"keep": 4}, {"drop": 0.5, **AS_FASTV}]
    states = [prune_by_attention(state, **way) for state, way in zip(scored, ways, strict=True)]
    assert len({len(state) for state in states}) > 1
    for joint, state in zip(prefill.many([(llm, s) for s in states]), states, strict=True):
        torch.testing.assert_close(joint.hidden, prefill(llm, state).hidden, atol=1e-5, rtol=1e-5)
    together = generate.many([(llm, s) for s in states], max_new_tokens=6)
    alone = [generate(llm, s, max_new_tokens=6) for s in states]
    assert [made.answer.ids for made in together] == [made.answer.ids for made in alone]


def test_a_later_layer_scores_anew(llm: Held) -> None:
    """Scores of an earlier layer do not outlive the next prefill."""
    early = prefill(llm, prompt(llm, 8), until=1)
    half = prune_by_attention(early, ratio=0.5)
    with demand():
        silent = prefill(llm, half, until=3)
    with pytest.raises(NeedError, match="carries no attention:text/pre_rope_full,max,max"):
        prune_by_attention(silent, ratio=0.5)
    late = prefill(llm, half, until=3)
    assert not late.side[PRUNEVID.key].equal(half.side[PRUNEVID.key])


@pytest.mark.parametrize("ratio", [0.4, 0.5])
def test_pruning_again_at_a_later_layer(llm: Held, ratio: float) -> None:
    """Chained: lengths of the caches fall from layer to layer, and generate goes on from the last."""
    state = prefill(llm, prompt(llm, 20), until=1)
    lengths = []
    for layer in (2, 3, None):
        lengths.append(len(state))
        state = prefill(llm, prune_by_attention(state, ratio=ratio, rewrite_cache=False), until=layer)
    assert list(state.cache.lengths) == [*lengths, len(state)]
    assert lengths == sorted(set(lengths), reverse=True)
    assert len(generate(llm, state, max_new_tokens=3).answer.ids) == 3


def branched(*ratios: float) -> Graph:
    """One prefill, a pruning for every ratio, and an answer and the logits of each."""
    with Graph() as g:
        handle, placed = g.param("llm", Model[LanguageModel]), g.param("placed", LLMInput)
        early = prefill(handle, placed, through=1)
        for number, ratio in enumerate(ratios):
            state = prefill(handle, prune_by_attention(early, ratio=ratio))
            answer = generate(handle, state, max_new_tokens=6)
            g.output(**{f"ids{number}": answer.answer, f"logits{number}": read_logits(handle, state)})
    return g


def test_two_branches_of_one_state_are_two_runs(llm: Held) -> None:
    """One graph with one prefill and two prunings gives what two graphs give, in either order of decoding."""
    given = {"llm": llm, "placed": prompt(llm, 20)}
    both = run(branched(0.2, 0.6), cache=False, **given)
    for number, ratio in enumerate((0.2, 0.6)):
        alone = run(branched(ratio), cache=False, **given)
        assert both[f"logits{number}"].values.equal(alone["logits0"].values)
        assert both[f"ids{number}"].ids == alone["ids0"].ids
    assert both["logits0"].row.equal(both["logits1"].row)
    assert not both["logits0"].values.equal(both["logits1"].values)


def test_each_prefill_is_asked_for_the_scores_of_its_own_pruning(llm: Held) -> None:
    """In a chain, and through prunings that need none; what nobody asked for is not computed."""
    with Graph() as g:
        handle, placed = g.param("llm", Model[LanguageModel]), g.param("placed", LLMInput)
        one = prefill(handle, placed, until=1)
        two = prefill(handle, prune_by_attention(one), until=2)
        spaced = prune_uniform(prune_random(two, ratio=0.5), ratio=0.5)
        three = prefill(handle, prune_by_attention(spaced, drop=0.5, **AS_FASTV))
        g.output(state=three, early=one)
    made = plan(g, {"llm": llm, "placed": prompt(llm, 20)})
    wanted = {step.id: step.wanted for step in made.steps if step.id.startswith("prefill")}
    assert wanted == {"prefill": {PRUNEVID}, "prefill_2": {FASTV}, "prefill_3": frozenset()}
    result = run(g, cache=False, llm=llm, placed=prompt(llm, 20))
    assert result["early"].side.keys() == {PRUNEVID.key}
    state: LLMState = result["state"]
    assert state.side == {}
    assert int(state.visual.sum()) == 1  # 20 -> 8 -> 4 -> 2 -> 1


def test_a_pruning_that_nobody_can_score(llm: Held) -> None:
    """No layer runs before it: refused while planning."""
    with Graph() as g:
        handle, placed = g.param("llm", Model[LanguageModel]), g.param("placed", LLMInput)
        g.output(state=prune_by_attention(prefill(handle, placed, until=0)))
    with pytest.raises(NeedError, match="is asked for, but no layer runs"):
        plan(g, {"llm": llm, "placed": prompt(llm, 4)})


def test_budgets_and_layers_are_checked_while_planning(llm: Held) -> None:
    """Before a weight is read: two budgets at once, a ratio of 0, a layer that is not there."""

    def planned(through: int, **widgets: Any) -> None:
        with Graph() as g:
            handle, placed = g.param("llm", Model[LanguageModel]), g.param("placed", LLMInput)
            g.output(state=prune_by_attention(prefill(handle, placed, through=through), **widgets))
        plan(g, {"llm": llm, "placed": prompt(llm, 4)})

    planned(3, ratio=0.5)
    with pytest.raises(BudgetError, match=r"ratio 0\.5 and drop 0\.5 are given"):
        planned(1, ratio=0.5, drop=0.5)
    with pytest.raises(BudgetError, match=r"ratio 0\.0: no visual token would stay"):
        planned(1, ratio=0.0)
    with pytest.raises(WiringError, match="mask is there only as FastV has it"):
        planned(1, mode="mask")
    with pytest.raises(GraphError, match="4 of a model with 4 layers"):
        planned(4)
