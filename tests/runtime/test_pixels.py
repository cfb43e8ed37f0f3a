"""Pixels are those of transformers' Pillow processors, bit for bit."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tests.handles import CLIP_MEAN, CLIP_STD
from tokenloom.runtime import pixels
from tokenloom.runtime.errors import MediaError


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise: every resampling mistake shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(97, 81), (31, 95), (48, 48), (5, 90), (200, 61), (1, 1), (1, 70)])
def test_equal_to_the_clip_processor(size: tuple[int, int]) -> None:
    """Resize, crop, rescale and normalise differ from CLIPImageProcessorPil by exactly 0.0."""
    from transformers import CLIPImageProcessorPil

    raw = picture(*size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    want = torch.as_tensor(np.asarray(theirs(raw, input_data_format="channels_last")["pixel_values"][0]))
    cell, _ = pixels.shortest_side_crop(raw, 48)
    got = pixels.normalise([cell], CLIP_MEAN, CLIP_STD)[0]
    assert got.dtype == torch.float32
    assert float((got - want).abs().max()) == 0.0


def test_hair_thin_picture_needs_no_giant_resize() -> None:
    """1 x 60000: the kept centre alone is computed, and within a level of the whole resize."""
    raw = picture(1, 60_000)
    start = time.perf_counter()
    cell, box = pixels.shortest_side_crop(raw, 336)
    assert time.perf_counter() - start < 5
    assert cell.shape == (336, 336, 3)
    assert box == (0.0, pytest.approx(29999.5), 1.0, pytest.approx(30000.5))
    small = picture(1, 900)
    whole, box = pixels.shortest_side_crop(small, 96)
    alone = pixels.resize(small, (96, 96), box)
    assert np.abs(whole.astype(int) - alone).max() <= 1


def test_canvas_that_would_fill_the_memory() -> None:
    """A thin picture is not padded to billions of pixels."""
    with pytest.raises(MediaError) as caught:
        pixels.square_canvas(np.zeros((60_000, 1, 3), np.uint8), (0, 0, 0))
    assert str(caught.value) == (
        "pad_square: a 1x60000 picture would need a canvas of 60000x60000; scale it down, or use resize_crop"
    )


def test_cut_is_row_major() -> None:
    """Tiles come left to right, then down."""
    canvas = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    tiles = pixels.cut(canvas, 2)
    assert len(tiles) == 6
    assert (tiles[1] == canvas[:2, 2:4]).all()
    assert (tiles[3] == canvas[2:, :2]).all()


def test_mean_colour_is_truncated() -> None:
    """LLaVA's background: int(255 * mean)."""
    assert pixels.mean_colour(CLIP_MEAN) == (122, 116, 104)
