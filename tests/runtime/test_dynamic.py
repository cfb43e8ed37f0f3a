"""InternVL's grids: as the spec defines them, whatever the picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.dynamic import Tiling, best_grid, candidates, foreseen
from tokenloom.runtime.foreseen import KnownFrames, KnownTiles

SIDES = st.integers(1, 3000)
MOST = st.integers(1, 24)


def test_candidates_are_all_grids_by_their_number_of_tiles() -> None:
    """Of two to four tiles: columns first."""
    assert candidates(2, 4) == ((1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (2, 2), (4, 1))


@given(st.integers(1, 30), st.integers(0, 30))
def test_candidates_leave_none_out(least: int, more: int) -> None:
    """Every pair of columns and rows within the bounds, once."""
    most = least + more
    every = {(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if least <= i * j <= most}
    found = candidates(least, most)
    assert set(found) == every
    assert len(found) == len(every)
    assert [i * j for i, j in found] == sorted(i * j for i, j in found)


@given(SIDES, SIDES, MOST, st.integers(1, 448))
def test_no_grid_has_a_nearer_aspect(width: int, height: int, most: int, side: int) -> None:
    """The chosen one is as near as any; of those as near, it is the first or more than half filled."""
    chosen = best_grid((width, height), Tiling(side=side, most=most))
    aspect = width / height
    apart = {grid: abs(aspect - grid[0] / grid[1]) for grid in candidates(1, most)}
    as_near = [grid for grid in apart if apart[grid] == min(apart.values())]
    filled = [g for g in as_near[1:] if width * height > 0.5 * side * side * g[0] * g[1]]
    assert chosen == (filled or as_near)[-1 if filled else 0]


@given(SIDES, SIDES, st.integers(1, 448))
def test_one_tile_at_most_is_one_tile(width: int, height: int, side: int) -> None:
    """And without a thumbnail."""
    assert Tiling(side=side, most=1).count((width, height)) == 1


@pytest.mark.parametrize(("edge", "grid"), [(633, (1, 1)), (634, (2, 2)), (951, (3, 3))])
def test_large_squares_take_more_tiles(edge: int, grid: tuple[int, int]) -> None:
    """From sqrt(2) * 448 on, a square has more than half of the pixels of four tiles."""
    assert best_grid((edge, edge), Tiling(side=448)) == grid


def test_tiles_are_counted_before_anything_is_decoded() -> None:
    """A picture of known size with its thumbnail, frames of a clip one each; nothing is guessed."""
    how = Tiling(side=448)
    pictures = KnownFrames(count=2, clip=False, sizes=((896, 448), (448, 448)))
    frames = KnownFrames(count=5, clip=True)
    assert foreseen([pictures, frames], how) == KnownTiles(count=3 + 1 + 5, pictures=(3, 1, *[1] * 5))
    assert foreseen([KnownFrames(count=1, clip=False)], how) is None
    assert foreseen([None], how) is None
