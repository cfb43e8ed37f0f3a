"""The geometry of anyres: canvas, grid, letterbox, unpadding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handles import PINPOINTS
from tokenloom.runtime.anyres import (
    cells,
    grid_of,
    letterbox,
    scaled_down,
    select_best_resolution,
    unpad_span,
)
from tokenloom.runtime.errors import MediaError

SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((241, 2042), (336, 1008)),
        ((1920, 1080), (672, 672)),
        ((640, 480), (672, 672)),
        ((10, 10), (336, 672)),
    ],
)
def test_best_resolution(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    """Most pixels kept, then fewest wasted, then first in the list."""
    assert select_best_resolution(size, PINPOINTS) == canvas


def test_no_canvases_is_an_error() -> None:
    """A checkpoint without pinpoints cannot be tiled."""
    with pytest.raises(MediaError) as caught:
        select_best_resolution((10, 10), ())
    assert str(caught.value) == (
        "anyres: the checkpoint lists no canvas sizes; give pinpoints: [336x672, ...]"
    )


def test_canvas_must_be_whole_tiles() -> None:
    """A canvas that tiles do not fill is refused."""
    assert grid_of((672, 336), 336) == (2, 1)
    with pytest.raises(MediaError) as caught:
        grid_of((672, 400), 336)
    assert str(caught.value) == (
        "anyres: canvas 672x400 cannot be cut into tiles of 336x336; both sides must be multiples of the tile"
    )


@given(SIZES, st.sampled_from(PINPOINTS))
def test_letterbox_fits_and_is_centred(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    """One side fills the canvas, no side overflows, the picture is centred."""
    fit = letterbox(size, canvas)
    assert fit.scaled[0] == canvas[0] or fit.scaled[1] == canvas[1]
    assert 1 <= fit.scaled[0] <= canvas[0]
    assert 1 <= fit.scaled[1] <= canvas[1]
    assert 0 <= canvas[0] - fit.scaled[0] - 2 * fit.left <= 1
    assert 0 <= canvas[1] - fit.scaled[1] - 2 * fit.top <= 1


@given(SIZES, st.integers(1, 4), st.integers(1, 4), st.sampled_from([8, 24]))
def test_unpad_keeps_a_centred_part(size: tuple[int, int], rows: int, cols: int, side: int) -> None:
    """Only one direction is cut, by the same number at both ends, and something stays."""
    down, across = unpad_span(size, rows * side, cols * side)
    assert down.start == rows * side - down.stop
    assert across.start == cols * side - across.stop
    assert 0 in (down.start, across.start)


@pytest.mark.parametrize("size", [(55, 176), (176, 110), (396, 704), (704, 396)])
def test_hf_rounding_differs_where_the_product_is_whole(size: tuple[int, int]) -> None:
    """transformers keeps two rows or columns more where float error hides a whole number."""
    canvas = select_best_resolution(size, PINPOINTS)
    rows, cols = canvas[1] // 14, canvas[0] // 14
    plain, rounded = (unpad_span(size, rows, cols, rounding) for rounding in ("int", "hf"))
    kept = [sum(s.stop - s.start for s in spans) for spans in (plain, rounded)]
    assert kept[1] - kept[0] == 2


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((162, 162), (81, 81)),
        ((85, 85), (85, 85)),
        ((89, 89), (89, 89)),
        ((90, 90), (80, 80)),  # 90 // 1.1111111111111112 is 80 in floats
        ((68, 162), (52, 125)),
        ((27, 27), (27, 27)),
    ],
)
def test_a_map_is_scaled_down_to_nine_tiles(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    """LLaVA-OneVision's counts; up to 1.1 times the limit on a side nothing is done."""
    assert scaled_down(*size, per_tile=27 * 27, most=9) == scaled


def test_a_hair_thin_map_keeps_a_row() -> None:
    """Where the released code would divide it away."""
    assert scaled_down(1, 18, per_tile=9, most=1) == (1, 12)


def test_cells_lie_side_by_side_in_the_picture() -> None:
    """Row by row; boxes in the picture's own pixels reach over its edges where it was padded."""
    assert list(cells((100, 50), (672, 336), 336)) == [
        (0, 0, (0.0, 0.0, 50.0, 50.0)),
        (0, 1, (50.0, 0.0, 100.0, 50.0)),
    ]
    tall = list(cells((50, 100), (672, 672), 336))
    assert [(row, col) for row, col, _ in tall] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert tall[0][2] == (-25.0, 0.0, 25.0, 50.0)
    assert tall[3][2] == (25.0, 50.0, 75.0, 100.0)
