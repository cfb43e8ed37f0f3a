"""Evenly spaced places of a line, and the curve that fills a grid."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.spread import along_curve, middles


@pytest.mark.parametrize(
    ("keep", "size", "wanted"), [(1, 5, [2]), (2, 4, [1, 3]), (3, 3, [0, 1, 2]), (0, 3, []), (0, 0, [])]
)
def test_the_middles_of_equal_stretches(keep: int, size: int, wanted: list[int]) -> None:
    """As many as are to stay, also none."""
    kept = middles(torch.arange(size), torch.tensor(keep), torch.tensor(size))
    assert kept.nonzero()[:, 0].tolist() == wanted


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_the_curve_goes_from_neighbour_to_neighbour(side: int) -> None:
    """Through every place of the grid once."""
    place = torch.arange(side * side)
    row, col = place // side, place % side
    order = along_curve(row, col, side).argsort()
    assert along_curve(row, col, side).sort().values.tolist() == place.tolist()
    steps = row[order].diff().abs() + col[order].diff().abs()
    assert (steps == 1).all()


def test_a_grid_of_any_side() -> None:
    """All places differ, as on the next larger grid whose side is a power of two."""
    place = torch.arange(15)
    assert len(set(along_curve(place // 5, place % 5, 5).tolist())) == 15
