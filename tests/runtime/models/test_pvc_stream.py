"""Frames of a clip as they arrive: the same as all at once, and what cannot be streamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pvc import clip, compressor, noise, pictures, plain_vit, tiny_compressor, tiny_pvc, vision
from tokenloom.nodes.pvc import encode_pvc, project_pvc, repeat_frames
from tokenloom.runtime.errors import MediaError, WiringError
from tokenloom.runtime.models.handle import PvcFacts
from tokenloom.runtime.models.pvc_stream import PvcStream
from tokenloom.runtime.values import Patches, Tiles

TOWER = vision(tiny_pvc())
EVERYWHERE = vision(tiny_pvc(PvcFacts(layers=(1, 2, 3), adaln_on=("attn", "temporal", "ffn"))))
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def arriving(tiles: Tiles, sizes: list[int]) -> list[Tiles]:
    """The frames in parts of these sizes, each with its own pictures."""
    out, start = list[Tiles](), 0
    for size in sizes:
        part = pictures(*[1] * size)
        out.append(replace(part, pixels=tiles.pixels[start : start + size]))
        start += size
    return out


def streamed(parts: list[Tiles], **options: Any) -> list[Patches]:
    stream = PvcStream(options.pop("tower", TOWER), **options)
    return [stream.push(part) for part in parts]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([-1, -2]), st.sampled_from([0, 1])
)
def test_a_stream_is_the_clip(sizes: list[int], layer: int, which: int) -> None:
    """By index, in whatever parts frames arrive, with AdaLN anywhere, at any layer."""
    tower, tiles = (TOWER, EVERYWHERE)[which], clip(sum(sizes))
    whole = encode_pvc(tower, repeat_frames(tiles), time="index", layer=layer)
    parts = streamed(arriving(tiles, sizes), tower=tower, time="index", layer=layer)
    torch.testing.assert_close(torch.cat([part.features for part in parts]), whole.features, **CLOSE)


@pytest.mark.parametrize("time", ["fraction", "fraction_inclusive"])
def test_a_fraction_of_a_length_that_is_announced(time: Any) -> None:
    """Is exact, too."""
    tiles = clip(5)
    whole = encode_pvc(TOWER, repeat_frames(tiles), time=time, features="cls_patch")
    parts = streamed(arriving(tiles, [2, 3]), time=time, length=5, features="cls_patch")
    torch.testing.assert_close(torch.cat([part.features for part in parts]), whole.features, **CLOSE)


@pytest.mark.parametrize(("time", "length"), [("index", None), ("fraction", 5)])
def test_what_a_stream_gives_is_projected_as_the_clip(time: Any, length: int | None) -> None:
    """The patches know which frames they are, and of how many."""
    tiles, projector = clip(5), compressor(tiny_compressor())
    whole = project_pvc(projector, encode_pvc(TOWER, repeat_frames(tiles), time=time), time=time)
    parts = streamed(arriving(tiles, [1, 4]), time=time, length=length)
    projected = [project_pvc(projector, part, time=time).features for part in parts]
    torch.testing.assert_close(torch.cat(projected), whole.features, **CLOSE)


def test_a_fraction_needs_the_length() -> None:
    """Nothing is encoded with a time that may be wrong."""
    with pytest.raises(WiringError) as error:
        PvcStream(TOWER)
    assert str(error.value) == (
        "PvcStream.time: fraction needs to know how many frames the clip has, and they are still arriving; "
        "set time: index, or say the length"
    )


def test_more_frames_than_announced() -> None:
    """The times of all would have been wrong."""
    stream = PvcStream(TOWER, length=3)
    stream.push(pictures(1, 1))
    with pytest.raises(MediaError) as error:
        stream.push(pictures(1, 1))
    assert str(error.value) == "PvcStream.push: 2 more frames after 2, but the clip has 3"


def test_frames_of_another_size() -> None:
    """Their places would not be those of the earlier frames."""
    stream = PvcStream(TOWER, time="index", interpolate=True)
    stream.push(pictures(1))
    small = replace(pictures(1), pixels=noise(1)[..., :8, :8])
    with pytest.raises(MediaError) as error:
        stream.push(small)
    assert str(error.value) == "PvcStream.push: frames of 8x8 after frames of 16x16"


def test_frames_that_are_cut_up() -> None:
    """A stream is one sequence."""
    with pytest.raises(MediaError) as error:
        PvcStream(TOWER, time="index").push(pictures(2, 1))
    assert str(error.value) == (
        "PvcStream.push: 3 tiles of 2 frames; wanted one tile for each (tile_dynamic: max_num: 1)"
    )


def test_a_tower_without_temporal_modules() -> None:
    """Has nothing to remember."""
    with pytest.raises(WiringError, match=r"PvcStream\.vision: this tower has no temporal modules"):
        PvcStream(vision(plain_vit()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "PvcStream.length: 0, wanted 1 or more, or None if it is not known"),
        (
            {"time": "seconds"},
            "PvcStream.time: 'seconds' is not one of auto, fraction, fraction_inclusive, index",
        ),
        ({"time": "index", "temporal_layers": -1}, "PvcStream.temporal_layers: -1, wanted 0 or more"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    """No widget checks them here."""
    with pytest.raises(WiringError) as error:
        PvcStream(TOWER, **options)
    assert str(error.value) == message
