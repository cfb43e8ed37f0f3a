"""PVC's frame plan: copies, sequences, frame numbers, and what cannot be planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.pvc import clip, pictures
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.repeats import Repeating, repeated
from tokenloom.runtime.values import Tiles


def plan(tiles: Tiles, **how: Any) -> tuple[list[int], list[int], list[int]]:
    """The source, sequence and number of every frame."""
    made = repeated(tiles, Repeating(**how))
    shown = list(made.shown) or list(range(len(made)))
    return shown, [tile.sequence for tile in made.layout], [tile.time for tile in made.layout]


def test_each_tile_of_a_picture_is_a_static_video() -> None:
    """All copies of a tile, then the next tile, each a sequence of its own."""
    source, sequence, number = plan(pictures(2, 1))
    assert source == [0] * 4 + [1] * 4 + [2] * 4
    assert sequence == [0] * 4 + [1] * 4 + [2] * 4
    assert number == [0, 1, 2, 3] * 3


def test_all_tiles_then_again() -> None:
    """In the order `frame` the sequences are the same sets."""
    source, sequence, number = plan(pictures(3), way="frame", image=2)
    assert source == [0, 1, 2, 0, 1, 2]
    assert sequence == [0, 1, 2, 0, 1, 2]
    assert number == [0, 0, 0, 1, 1, 1]


def test_a_clip_is_one_sequence() -> None:
    """Its frames are not repeated, and share their pixels with the tiles that came in."""
    made = repeated(clip(3), Repeating())
    assert made.shown == ()
    assert [(tile.sequence, tile.time, tile.length) for tile in made.layout] == [
        (0, 0, 3),
        (0, 1, 3),
        (0, 2, 3),
    ]


def test_frames_of_a_clip_may_be_repeated() -> None:
    """Each frame so often, counted on."""
    assert plan(clip(2), video=2) == ([0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3])


def test_pictures_and_clips_on_one_wire() -> None:
    """Each is what it is, in order."""
    tiles = replace(pictures(1, 1, 1, 1), clips=(-1, 0, 0, -1))
    source, sequence, number = plan(tiles, image=2)
    assert source == [0, 0, 1, 2, 3, 3]
    assert sequence == [0, 0, 1, 1, 2, 2]
    assert number == [0, 1, 0, 1, 0, 1]


def test_two_clips_are_two_sequences() -> None:
    """Also when all are said to be video."""
    tiles = replace(pictures(1, 1, 1), clips=(0, 0, 1))
    assert plan(tiles, flag="video")[1] == plan(tiles)[1] == [0, 0, 1]


def test_tiles_of_a_clip_that_nobody_said_to_be_one() -> None:
    """The flag says it."""
    assert plan(pictures(1, 1, 1), flag="video") == ([0, 1, 2], [0, 0, 0], [0, 1, 2])


def test_each_place_of_a_cut_frame_is_a_sequence() -> None:
    """Of a clip with several tiles for a frame."""
    assert plan(clip(2, cells=2)) == ([0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 1, 1])


def test_all_tiles_of_a_cut_frame_may_be_one_sequence() -> None:
    """As in the reference of the golden cases."""
    assert plan(clip(2, cells=2), cells="together") == ([0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3])


def test_copies_share_their_pixels() -> None:
    """Nothing is copied until somebody asks for all tiles one by one."""
    tiles = pictures(2)
    made = repeated(tiles, Repeating(image=3))
    assert made.pixels is tiles.pixels
    assert made.stacked().equal(tiles.pixels.repeat_interleave(3, 0))


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=4),
    st.integers(1, 3),
    st.data(),
)
def test_a_plan_loses_nothing(media: list[tuple[int, bool]], copies: int, data: st.DataObject) -> None:
    """Every tile comes so often as asked; numbers of a sequence run from 0 in order, up to its length."""
    tiles = pictures(*[1] * sum(n for n, _ in media))
    clips = tuple(i if is_clip else -1 for i, (n, is_clip) in enumerate(media) for _ in range(n))
    how = Repeating(image=copies, video=2, way=data.draw(st.sampled_from(["tile", "frame"])))
    made = repeated(replace(tiles, clips=clips), how)
    count = torch.bincount(torch.tensor(made.shown or range(len(made))), minlength=len(tiles)).tolist()
    assert count == [2 if number >= 0 else copies for number in clips]
    for sequence in {tile.sequence for tile in made.layout}:
        own = [tile for tile in made.layout if tile.sequence == sequence]
        assert [tile.time for tile in own] == list(range(len(own)))
        assert {tile.length for tile in own} == {len(own)}


def test_several_pictures_are_not_single() -> None:
    """The flag is refused."""
    with pytest.raises(MediaError) as error:
        plan(pictures(1, 1), flag="single")
    assert str(error.value) == (
        "repeat_frames.data_flag: single, but 2 pictures came; set multi, or video for the frames of a clip"
    )


def test_pictures_beside_a_clip_are_no_video() -> None:
    """The flag is refused."""
    with pytest.raises(MediaError) as error:
        plan(replace(pictures(1, 1, 1), clips=(0, 0, -1)), flag="video")
    assert str(error.value) == (
        "repeat_frames.data_flag: video, but picture 2 is no frame of a clip; set auto, or give it a wire "
        "of its own"
    )


def test_repeated_tiles_are_not_repeated_again() -> None:
    """They would be copies of copies."""
    with pytest.raises(MediaError) as error:
        repeated(repeated(pictures(1), Repeating()), Repeating())
    assert str(error.value) == "repeat_frames.tiles: they are repeated already; wire the tiles themselves"


def test_frames_that_are_cut_differently() -> None:
    """No sequence could follow a place that is not in every frame."""
    with pytest.raises(MediaError) as error:
        plan(replace(pictures(2, 3), clips=(0, 0)))
    assert str(error.value) == (
        "repeat_frames.tiles: frame 1 of a clip has 3 tiles, frame 0 has 2; cut all frames alike (max_num: "
        "1), or set cells: together"
    )
