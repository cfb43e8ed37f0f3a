"""Pictures that keep their own size (Qwen2.5-VL): rounding, refusals, and frames that go in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.models import load_model
from tokenloom.nodes.tile import pad_square, preprocess
from tokenloom.runtime.errors import CheckpointError, MediaError
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.pixels import rounded_size
from tokenloom.runtime.values import Frames

from ..handles import CLIP_MEAN, CLIP_STD, image_handle
from ..qwen import write_qwen
from ..towers import random_tiles

OWN = image_handle(
    ImageFacts(
        size=0, mean=CLIP_MEAN, std=CLIP_STD, aspect="qwen", multiple=8, min_pixels=400, max_pixels=4000
    )
)


def pictures(*sizes: tuple[int, int]) -> Frames:
    """Noise of these (width, height)."""
    g = torch.Generator().manual_seed(0)
    made = tuple(torch.randint(0, 256, (h, w, 3), dtype=torch.uint8, generator=g) for w, h in sizes)
    return Frames(made, torch.zeros(len(made), dtype=torch.float64))


SIDE = st.integers(1, 3000)


@given(
    width=SIDE,
    height=SIDE,
    multiple=st.integers(1, 40),
    least=st.integers(1, 5000),
    more=st.integers(1, 10**6),
)
def test_sizes_are_those_of_the_native_processor(
    width: int, height: int, multiple: int, least: int, more: int
) -> None:
    """Multiples, between the bounds, or too thin."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    try:
        want = smart_resize(height, width, multiple, least, least + more)[::-1]
    except ValueError:
        with pytest.raises(MediaError, match="over 200 times longer than wide"):
            rounded_size((width, height), multiple, least, least + more)
    else:
        assert rounded_size((width, height), multiple, least, least + more) == want


def test_a_thin_picture() -> None:
    """Nothing sensible could be seen in it."""
    with pytest.raises(MediaError) as error:
        preprocess(OWN, pictures((2, 401)))
    assert str(error.value) == "preprocess: a 2x401 picture is over 200 times longer than wide; crop it"


def test_one_tile_of_the_whole_picture() -> None:
    """Its box is the picture, its pixels are rounded."""
    tiles = preprocess(OWN, pictures((50, 37), (52, 39)))
    assert tiles.pixels.shape == (2, 3, 40, 48)
    assert [tile.box for tile in tiles.layout] == [(0, 0, 50, 37), (0, 0, 52, 39)]
    assert [tile.frame for tile in tiles.layout] == [0, 1]


def test_pictures_of_several_sizes_on_one_wire() -> None:
    """Tiles of one wire have one size."""
    with pytest.raises(MediaError) as error:
        preprocess(OWN, pictures((50, 37), (37, 50)))
    assert str(error.value) == (
        "preprocess.frames: this checkpoint's pictures keep their own sizes, here 40x48 and 48x40, but tiles "
        "of one wire have one size; give every picture a chain of its own, up to place_tokens"
    )


def test_clips_are_not_supported() -> None:
    """Said before anything is encoded."""
    clip = Frames.of_video(torch.zeros(2, 40, 40, 3, dtype=torch.uint8), torch.zeros(2))
    with pytest.raises(MediaError) as error:
        preprocess(OWN, clip)
    assert str(error.value) == (
        "preprocess.frames: a clip, but of this checkpoint's family (Qwen2.5-VL) only pictures are "
        "supported; wire load_image"
    )


def test_there_is_no_side_to_pad_to() -> None:
    """When run and when planned."""
    want = ": this checkpoint's pictures keep their own sizes and have no side S; use preprocess with "
    want += "aspect: auto"
    with pytest.raises(CheckpointError) as error:
        pad_square(OWN, pictures((50, 37)))
    assert str(error.value) == "pad_square" + want
    assert pad_square(OWN, pictures((50, 37)), size=16).pixels.shape == (1, 3, 16, 16)
    with pytest.raises(CheckpointError) as error:
        preprocess(OWN, pictures((50, 37)), aspect="square")
    assert str(error.value) == "preprocess" + want
    assert preprocess.foresee is not None
    with pytest.raises(CheckpointError) as error:
        preprocess.foresee(OWN, aspect="square")
    assert str(error.value) == "preprocess" + want


def test_frames_of_a_sequence_go_in_pairs(tmp_path: Path) -> None:
    """Times 0 and 1, 2 and 3; the last of an odd number, and a picture, are repeated."""
    write_qwen(tmp_path)
    vision = load_model(checkpoint=str(tmp_path), dtype="float32", device="cpu").vision
    tiles = random_tiles(6, height=16, width=24)
    times = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
    layout = tuple(replace(t, sequence=s, time=n) for t, (s, n) in zip(tiles.layout, times, strict=True))
    out = encode_vision(vision, replace(tiles, layout=layout))
    assert out.source.tiles == tuple(layout[i] for i in (0, 2, 3, 5))
    tower = vision.load()
    second = torch.stack([tiles.pixels[[0, 2, 3, 5]], tiles.pixels[[1, 2, 4, 5]]], 2)
    assert out.features.equal(tower.encode(second, layer=-1).hidden.flatten(0, 1))
