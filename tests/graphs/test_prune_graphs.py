"""graphs/fastv.yaml and graphs/mixes/pyramid_drop.yaml: how many tokens stay where, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tokenloom.runtime.errors import BudgetError, GraphError
from tokenloom.runtime.graph import Wire
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import LLMState, Tokens

from ..exact import load, run

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


def ran(graph: str, **params: Any) -> tuple[Tokens, LLMState]:
    """The tokens that stay, and the state that is answered from."""
    g = load(graph)
    g.outputs["state"] = Wire("state", "")
    result = run(g, image=PICTURE, cache=False, **params)
    return cast("Tokens", result["tokens"]), cast("LLMState", result["state"])


def test_fastv_drops_half_after_two_layers() -> None:
    """144 patches, 72 of them for layers 2 and 3; the first two keep all in their caches."""
    tokens, state = ran("fastv")
    full, short = len(state.input), len(state.input) - 72
    assert len(tokens) == 72
    assert state.cache.lengths == (full, full, short, short)
    assert tokens.member.diff().gt(0).all()


@pytest.mark.parametrize(("k", "r", "left"), [(1, 0.7, 43), (3, 0.9, 14), (4, 0.0, 144)])
def test_fastv_takes_its_k_and_r(k: int, r: float, left: int) -> None:
    """R is the part that goes, rounded half to even."""
    tokens, state = ran("fastv", k=k, r=r)
    assert len(tokens) == left
    assert [n - (len(state.input) - 144) for n in state.cache.lengths] == [144] * k + [left] * (4 - k)


def test_fastv_refuses_layers_and_budgets_that_are_not_there() -> None:
    """While planning: k beyond the model, and r that leaves nothing."""
    with pytest.raises(GraphError) as error:
        run("fastv", image=PICTURE, k=5, cache=False)
    assert str(error.value) == "prefill.until: 5 of a model with 4 layers; wanted 0..4"
    with pytest.raises(BudgetError) as budget:
        run("fastv", image=PICTURE, r=1.0, cache=False)
    assert str(budget.value) == (
        "prune_by_attention.drop 1.0: no visual token would stay; keep some, or set allow_none: true"
    )


def test_what_leaves_nothing_of_all_is_found_while_planning(tmp_path: Path) -> None:
    """The number of visual tokens is known before a weight is read, through tower, projector and layers."""
    with pytest.raises(BudgetError) as error:
        plan(load("fastv"), {"image": PICTURE, "r": 0.999})
    assert str(error.value) == (
        "prune_by_attention: drop 0.999 of visual tokens (144) keeps none of them; set drop to 0.996, "
        "rounding: at_least_one, or allow_none: true to go on without any"
    )
    file = tmp_path / "many.yaml"
    file.write_text(
        "tokenloom: 1\nextends: fastv\nparams: {keep: {type: int}}\n"
        "nodes: {pruned: {drop: null, keep: $keep}}\n"
    )
    with pytest.raises(BudgetError) as error:
        plan(load(file), {"image": PICTURE, "keep": 145})
    assert str(error.value) == "prune_by_attention: keep 145 of 144 visual tokens; set keep to 144 or less"
    assert len(plan(load(file), {"image": PICTURE, "keep": 144}).steps) == 12
    assert len(plan(load(file), {"image": [PICTURE, PICTURE], "keep": 288}).steps) == 12


def test_a_pyramid_narrows_three_times() -> None:
    """144, 72, 36, 18: every layer's cache holds what it saw."""
    tokens, state = ran("mixes/pyramid_drop")
    text = len(state.input) - 144
    assert len(tokens) == 18
    assert [n - text for n in state.cache.lengths] == [144, 72, 36, 18]


def test_a_pyramid_goes_up() -> None:
    """Layers out of order are refused while planning."""
    with pytest.raises(GraphError) as error:
        run("mixes/pyramid_drop", image=PICTURE, first=3, second=2, cache=False)
    assert str(error.value) == (
        "prefill.until: 2 of a model with 4 layers; wanted 3..4; 3 layers have run already"
    )


def test_pruning_changes_what_is_answered_from_but_not_the_question() -> None:
    """Text rows come through whole, and the answer's positions go on behind the whole prompt."""
    _, state = ran("fastv", r=0.9)
    text = state.input.segment != 1
    assert state.input.ids[state.row][~state.visual].equal(state.input.ids[text])
    assert state.next_position == len(state.input)
    assert torch.isfinite(state.hidden).all()
