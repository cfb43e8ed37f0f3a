"""How many of each group stay, to the last bit of the product, and budgets that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.errors import BudgetError, BudgetNotice
from tokenloom.runtime.share import Rounding, Share

SIZES = st.lists(st.integers(0, 3000), min_size=1, max_size=6).filter(any)


def of(*sizes: int, **share: Any) -> list[int]:
    return Share(**share).of("prune", torch.tensor(sizes)).tolist()


def test_prunevids_alpha_by_default() -> None:
    """40 % of every group, rounded down."""
    assert of(5, 2, 0, 30) == [2, 0, 0, 12]


@given(SIZES, st.floats(0, 1))
def test_python_counts_alike(sizes: list[int], part: float) -> None:
    """int(n * ratio) and round(n * (1 - R)), as the released codes write them."""
    assert of(*sizes, ratio=part, allow_none=True) == [int(n * part) for n in sizes]
    assert of(*sizes, drop=part, rounding="round", allow_none=True) == [round(n * (1 - part)) for n in sizes]


def test_halves_round_to_even() -> None:
    """FastV's 25 * 0.7 is 18, its 25 * (1 - 0.9) is 2."""
    assert of(25, drop=0.3, rounding="round") == [18]
    assert of(25, drop=0.9, rounding="round") == [2]
    assert of(5, ratio=0.5, rounding="round") == [2]
    assert of(100, ratio=0.29) == [28]


def test_at_least_one_of_every_group_that_has_some() -> None:
    """Empty groups stay empty."""
    assert of(1, 0, 2, 10, ratio=0.25, rounding="at_least_one") == [1, 0, 1, 2]


def test_a_number_of_each_group() -> None:
    """keep, whatever the sizes; empty groups give nothing."""
    assert of(9, 0, 4, keep=3) == [3, 0, 3]


@pytest.mark.parametrize(
    ("sizes", "share", "message"),
    [
        (
            (9,),
            {"keep": 3, "drop": 0.5},
            "prune: keep 3 and drop 0.5 are given; one of them says how many, keep that",
        ),
        (
            (9,),
            {"ratio": 0.0},
            "prune.ratio 0.0: no visual token would stay; keep some, or set allow_none: true",
        ),
        ((9,), {"keep": 0}, "prune.keep 0: no visual token would stay; keep some, or set allow_none: true"),
        (
            (0, 0),
            {},
            "prune.state: it has no visual tokens to prune; give the prompt an image or a video, take this "
            "node out, or set allow_none: true",
        ),
        ((9,), {"keep": 10}, "prune: keep 10 of 9 visual tokens; set keep to 9 or less"),
        (
            (9, 0, 3),
            {"keep": 4},
            "prune: keep 4 of each of 2 groups of visual tokens (9, 3); set keep to 3 or less, or select: "
            "global",
        ),
        (
            (2, 1, 0, 2),
            {"ratio": 0.4},
            "prune: ratio 0.4 of 3 groups of visual tokens (2, 2, 1) keeps none of them; set ratio to 0.5, "
            "rounding: at_least_one or select: global, or allow_none: true to go on without any",
        ),
        (
            (7,),
            {"drop": 0.9},
            "prune: drop 0.9 of visual tokens (7) keeps none of them; set drop to 0.857, rounding: "
            "at_least_one, or allow_none: true to go on without any",
        ),
        (
            (1,) * 10,
            {"ratio": 0.5, "rounding": "round"},
            "prune: ratio 0.5 of 10 groups of visual tokens (1, 1, 1, 1, 1, 1, 1, 1 and 2 more) keeps none "
            "of them; set ratio to 0.501, rounding: at_least_one or select: global, or allow_none: true to "
            "go on without any",
        ),
    ],
)
def test_budgets_that_cannot_work(sizes: tuple[int, ...], share: dict[str, Any], message: str) -> None:
    """Each is one sentence with what came, and what would do."""
    with pytest.raises(BudgetError) as error:
        of(*sizes, **share)
    assert str(error.value) == message


@given(st.integers(1, 5000), st.sampled_from(["ratio", "drop"]), st.sampled_from(["floor", "round"]))
def test_what_the_error_proposes_keeps_one(size: int, way: str, rounding: Rounding) -> None:
    """The ratio named keeps at least one token of the largest group."""
    part = {"ratio": 1e-6, "drop": 1 - 1e-6}[way]
    with pytest.raises(BudgetError) as error:
        of(size, **{way: part}, rounding=rounding)
    proposed = float(str(error.value).split(f"set {way} to ")[1].split(",")[0])
    assert of(size, **{way: proposed}, rounding=rounding)[0] > 0


def test_nothing_may_stay_when_that_is_wanted() -> None:
    """allow_none goes on without any visual token, and where there are none."""
    assert of(2, 1, allow_none=True) == [0, 0]
    assert of(0, allow_none=True, keep=4) == [0]


def test_shares_that_round_to_nothing_take_one_of_the_largest_group() -> None:
    """With a notice: a run does not end where an adaptive method left very few tokens of one picture."""
    share = Share(ratio=0.4)
    with pytest.warns(BudgetNotice) as notices:
        assert share.taken("prune", torch.tensor([1, 0, 2, 2])).tolist() == [0, 0, 1, 0]
    assert str(notices[0].message).endswith("or allow_none: true to go on without any; one is kept")
    assert share.taken("prune", torch.tensor([5, 1])).tolist() == [2, 0]
    with pytest.raises(BudgetError, match="keep 3 of 2 visual tokens"):
        Share(keep=3).taken("prune", torch.tensor([2]))
