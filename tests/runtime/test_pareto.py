"""The Pareto front."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.pareto import front

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


@given(POINTS, st.booleans())
def test_no_point_of_the_front_is_beaten(points: list[tuple[int, int]], higher: bool) -> None:
    """Exactly the points that nothing beats, by comparing all pairs."""
    sign = 1 if higher else -1

    def beaten(a: tuple[int, int]) -> bool:
        return any(b != a and b[0] <= a[0] and sign * b[1] >= sign * a[1] for b in points)

    assert front(points, higher=higher) == [not beaten(point) for point in points]


def test_equal_points_are_on_it_together() -> None:
    """Neither is better."""
    assert front([(1, 2), (1, 2), (2, 2)]) == [True, True, False]
