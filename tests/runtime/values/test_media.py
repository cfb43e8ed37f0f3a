"""Frames and tiles: what they refuse, and what they derive."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.values import Frames, Source, Tile, Tiles


def picture(height: int = 2, width: int = 3) -> torch.Tensor:
    return torch.zeros(height, width, 3, dtype=torch.uint8)


def test_frames_of_a_video_share_memory() -> None:
    """One clip tensor is split into views, times become float64."""
    clip = torch.zeros(4, 2, 3, 3, dtype=torch.uint8)
    frames = Frames.of_video(clip, torch.arange(4))
    assert len(frames) == 4
    assert frames.pictures[0].data_ptr() == clip.data_ptr()
    assert frames.time.dtype == torch.float64
    assert frames.stack().equal(clip)


def test_sizes_are_width_and_height() -> None:
    """Pictures of different sizes may travel together."""
    frames = Frames((picture(2, 3), picture(5, 4)), torch.zeros(2))
    assert frames.sizes == ((3, 2), (4, 5))


def test_different_sizes_cannot_be_stacked() -> None:
    """stack() says what to do."""
    with pytest.raises(ValueError) as caught:
        Frames((picture(2, 3), picture(5, 4)), torch.zeros(2)).stack()
    assert str(caught.value) == "Frames: pictures of [(3, 2), (4, 5)] cannot be stacked; resize them first"


@pytest.mark.parametrize(
    ("pictures", "time", "message"),
    [
        ((), torch.zeros(0), "Frames: no picture was given, at least one is needed"),
        (
            (picture().float(),),
            torch.zeros(1),
            "Frames: picture 0 is (2, 3, 3) torch.float32, wanted [H, W, 3] uint8",
        ),
        (
            (picture(), picture()[..., 0]),
            torch.zeros(2),
            "Frames: picture 1 is (2, 3) torch.uint8, wanted [H, W, 3] uint8",
        ),
        ((picture(0, 3),), torch.zeros(1), "Frames: picture 0 is empty: (0, 3, 3)"),
        ((picture(),), torch.zeros(2), "Frames: 1 pictures, but times of shape (2,)"),
    ],
)
def test_frames_refuse(pictures: tuple[torch.Tensor, ...], time: torch.Tensor, message: str) -> None:
    """Empty, wrong shape, wrong dtype, wrong number of times."""
    with pytest.raises(ValueError) as caught:
        Frames(pictures, time)
    assert str(caught.value) == message


PLACE = Tile(frame=0, box=(0, 0, 4, 4))


@pytest.mark.parametrize(
    ("pixels", "layout", "message"),
    [
        (
            torch.zeros(1, 4, 4, 4),
            (PLACE,),
            "Tiles: pixels are (1, 4, 4, 4) torch.float32, wanted [K, 3, h, w] float",
        ),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
            (PLACE,),
            "Tiles: pixels are (1, 3, 4, 4) torch.uint8, wanted [K, 3, h, w] float",
        ),
        (torch.zeros(2, 3, 4, 4), (PLACE,), "Tiles: 2 tiles, but 1 places"),
        (torch.zeros(0, 3, 4, 4), (), "Tiles: 0 tiles, but 0 places"),
        (
            torch.zeros(1, 3, 4, 4),
            (Tile(frame=1, box=(0, 0, 4, 4)),),
            "Tiles: a tile names a picture that is not there (1 pictures)",
        ),
    ],
)
def test_tiles_refuse(pixels: torch.Tensor, layout: tuple[Tile, ...], message: str) -> None:
    """Pixels, places and pictures must agree."""
    with pytest.raises(ValueError) as caught:
        Tiles(pixels, layout, ((4, 4),), (0.0,))
    assert str(caught.value) == message


def test_a_source_numbers_patches_tile_by_tile() -> None:
    """coordinates() lists frame, tile, row and column."""
    source = Source((PLACE, Tile(frame=3, box=(0, 0, 4, 4))), 1, 2)
    assert len(source) == 4
    assert source.frames == 4
    assert source.coordinates().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [3, 1, 0, 0], [3, 1, 0, 1]]
