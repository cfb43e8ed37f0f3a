"""What PruMerge counts and chooses, on plain tensors."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.outliers import choose, highest, outlier_part


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_outliers_are_counted_as_with_numpy(values: list[float]) -> None:
    """Percentiles between two values; never a quarter of them or more, but of four."""
    score = torch.tensor([values])
    wide = score.double().numpy()
    low, high = np.percentile(wide, 25), np.percentile(wide, 75)
    part = float(outlier_part(score, torch.ones_like(score, dtype=torch.bool)))
    assert part == (wide > high + 1.5 * (high - low)).sum() / wide.size
    assert part <= 0.25


def test_rows_of_different_lengths_are_counted_alone() -> None:
    """Padding counts for nothing, and a row without values has no outliers."""
    score = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.9], [0.1, 0.2, 9, 9, 9], [9, 9, 9, 9, 9]])
    valid = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    assert outlier_part(score, valid).tolist() == [0.2, 0, 0]


def test_samples_end_before_the_last_token() -> None:
    """Fixed: every eighth from the fifth on. Adaptive: three times as dense, from the first. As released."""
    score, valid = torch.linspace(1, 0, 25)[None], torch.ones(1, 25, dtype=torch.bool)
    part = torch.tensor([0.125], dtype=torch.float64)
    assert choose(score, valid, part, samples="whole").place.tolist() == [[0, 1, 2, 4, 12, 20]]
    thirds = choose(score, valid, part, samples="thirds").place.tolist()
    assert thirds == [[0, 1, 2, *range(4, 24, 2)]]


def test_samples_that_come_twice_cost_the_first_left_over() -> None:
    """For each sample that was picked, the lowest token that is not chosen is lost."""
    score, valid = torch.linspace(1, 0, 9)[None], torch.ones(1, 9, dtype=torch.bool)
    part = torch.tensor([0.5], dtype=torch.float64)
    twice = choose(score, valid, part, samples="whole", duplicates=True)
    assert twice.place.tolist() == [[0, 1, 2, 3, 1, 3, 5, 7]]
    assert twice.lost.nonzero()[:, 1].tolist() == [4, 6]


def test_the_highest_of_a_row() -> None:
    """Ties go to the front, -inf is never among them, and there may be fewer than asked for."""
    value = torch.tensor([[1.0, 2, 1, 1], [-torch.inf, 0, -torch.inf, -torch.inf]])
    assert highest(value, 3).tolist() == [[True, True, True, False], [False, True, False, False]]
    assert highest(value, 9).sum(1).tolist() == [4, 1]
    assert not highest(value, 0).any()
