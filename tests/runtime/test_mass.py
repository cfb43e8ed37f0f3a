"""heaviest: the fewest scores that hold a part of their sum."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.mass import heaviest

ROWS = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


def taken(scores: list[float], mass: float) -> list[int]:
    """The numbers of the scores that are taken."""
    row_KM = torch.tensor([scores])
    return heaviest(row_KM, torch.ones_like(row_KM, dtype=torch.bool), mass)[0].nonzero()[:, 0].tolist()


def test_it_stops_as_soon_as_the_part_is_held() -> None:
    """0.5 + 0.3 are 80 %; a hair more takes the next."""
    assert taken([0.125, 0.5, 0.25, 0.125], 0.75) == [1, 2]
    assert taken([0.125, 0.5, 0.25, 0.125], 0.7501) == [0, 1, 2]


def test_ties_go_to_the_lower_position() -> None:
    """Of equal scores the first."""
    assert taken([0.25] * 4, 0.5) == [0, 1]


def test_nothing_and_all() -> None:
    """Mass 0 takes none; mass 1 all that hold something, also when sums round."""
    assert taken([0.5, 0.5], 0) == []
    assert taken([0.5, 0.0, 0.1, 0.1], 1) == [0, 2, 3]
    assert len(taken([0.1] * 12, 1)) == 12


def test_what_is_no_score_holds_nothing() -> None:
    """Negative ones, nan, and those that are not valid."""
    assert taken([-3.0, float("nan"), 0.2], 0.5) == [2]
    assert taken([0.0, 0.0], 0.5) == []
    valid_KM = torch.tensor([[True, False, True]])
    assert heaviest(torch.tensor([[0.1, 0.8, 0.1]]), valid_KM, 1.0).tolist() == [[True, False, True]]


@given(ROWS, st.floats(0, 1))
def test_no_fewer_would_do(scores: list[float], mass: float) -> None:
    """What is taken holds the part; without its least it would not; nothing left out is greater."""
    chosen = taken(scores, mass)
    total, held = sum(scores), sum(scores[i] for i in chosen)
    assert held >= mass * total - 1e-6
    if chosen:
        assert held - min(scores[i] for i in chosen) < mass * total + 1e-6
        left = [score for i, score in enumerate(scores) if i not in chosen]
        assert max(left, default=0) <= min(scores[i] for i in chosen)
