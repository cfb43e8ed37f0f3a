"""Published budgets, and totals split over tiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.budget import PRESETS, Budget, per_tile, split_evenly


def test_published_settings() -> None:
    """Kept ([CLS] included) and targets per tile; named by the tokens of all tiles together."""
    assert {
        192: Budget(162, 30),
        128: Budget(108, 20),
        64: Budget(54, 10),
        640: Budget(108, 20),
        320: Budget(54, 10),
        160: Budget(27, 5),
    } == PRESETS
    for name, budget in PRESETS.items():
        tiles = 1 if name in (192, 128, 64) else 5
        assert (budget.keep + budget.targets) * tiles == name


@given(total=st.integers(0, 99), parts=st.integers(1, 9))
def test_even_split(total: int, parts: int) -> None:
    """Parts sum to the total and differ by one at most, larger first."""
    split = split_evenly(total, parts).tolist()
    assert sum(split) == total
    assert split == sorted(split, reverse=True)
    assert split[0] - split[-1] <= 1


def test_each_or_all_together() -> None:
    """The same for every tile, unless a total is given."""
    assert per_tile(7, None, 3).tolist() == [7, 7, 7]
    assert per_tile(7, 5, 3).tolist() == [2, 2, 1]
