"""tile_dynamic: pixels as Pillow makes them, the region that each tile shows, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from tests.handles import image_handle
from tokenloom.nodes.tile import preprocess
from tokenloom.nodes.tile_dynamic import tile_dynamic
from tokenloom.runtime.errors import CheckpointError, MediaError
from tokenloom.runtime.foreseen import KnownFrames, KnownTiles
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.values import Frames, Tile

from .test_tile import centre_of_mass, clip, dot, images, place_in_tile

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHAT = image_handle(ImageFacts(size=28, mean=MEAN, std=STD))
RAW = image_handle(ImageFacts(size=48, mean=(0, 0, 0), std=(1, 1, 1)))


def by_pillow(picture: torch.Tensor, columns: int, rows: int, side: int) -> list[torch.Tensor]:
    """Tiles and thumbnail, resized and cropped by Pillow, normalised in float32."""
    whole = Pil.fromarray(picture.numpy())
    canvas = whole.resize((columns * side, rows * side), Pil.Resampling.BICUBIC)
    boxes = [
        (c * side, r * side, (c + 1) * side, (r + 1) * side) for r in range(rows) for c in range(columns)
    ]
    cells = [canvas.crop(box) for box in boxes]
    if len(cells) > 1:
        cells.append(whole.resize((side, side), Pil.Resampling.BICUBIC))
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    units = [torch.from_numpy(np.array(cell)).permute(2, 0, 1).to(torch.float32) / 255 for cell in cells]
    return [(unit - mean) / std for unit in units]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 12), st.integers(0, 9))
def test_tiles_are_pillows_to_the_bit(width: int, height: int, most: int, seed: int) -> None:
    """Whole picture squeezed onto its grid, tiles row by row, thumbnail last: not one bit differs."""
    frames = images((width, height), seed=seed)
    tiles = tile_dynamic(CHAT, frames, max_num=most)
    grid = [tile for tile in tiles.layout if not tile.whole]
    columns, rows = grid[-1].col + 1, grid[-1].row + 1
    wanted = by_pillow(frames.pictures[0], columns, rows, 28)
    assert torch.equal(tiles.pixels, torch.stack(wanted))
    assert columns * rows <= most
    assert [tile.whole for tile in tiles.layout] == [False] * (columns * rows) + [True] * (columns * rows > 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200))
def test_boxes_cover_the_picture_once(width: int, height: int) -> None:
    """The grid's boxes are disjoint and fill the picture; the thumbnail's is all of it."""
    tiles = tile_dynamic(CHAT, images((width, height)))
    area = sum((t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in tiles.layout if not t.whole)
    assert area == pytest.approx(width * height)
    last = tiles.layout[-1]
    assert last.box == (pytest.approx(0 if len(tiles) == 1 or last.whole else None), 0, width, height)


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (150, 33), (64, 64), (300, 200)])
def test_box_says_where_a_dot_lands(size: tuple[int, int]) -> None:
    """A white dot is found in the tile at the place that the box maps it to, within half a tile pixel."""
    x, y = size[0] // 2 + 4, size[1] // 2 - 5
    tiles = tile_dynamic(RAW, dot(*size, x, y))
    seen = 0
    for tile, cell in zip(tiles.layout, tiles.pixels, strict=True):
        col, row = place_in_tile(tile, 48, x + 0.5, y + 0.5)
        if 8 < col < 40 and 8 < row < 40:
            assert centre_of_mass(cell)[:2] == (pytest.approx(col, abs=0.5), pytest.approx(row, abs=0.5))
            seen += 1
    assert seen >= 1


def test_geometry_of_a_wide_picture() -> None:
    """Two columns, their halves, and the thumbnail."""
    assert tile_dynamic(CHAT, images((56, 28))).layout == (
        Tile(frame=0, row=0, col=0, box=(0, 0, 28, 28)),
        Tile(frame=0, row=0, col=1, box=(28, 0, 56, 28)),
        Tile(frame=0, box=(0, 0, 56, 28), whole=True),
    )


def test_pictures_and_frames_are_numbered_through() -> None:
    """By default a picture is cut up and a frame of a clip is one tile; times come along."""
    tiles = tile_dynamic(CHAT, images((56, 28)), clip(3, 56, 28))
    assert [tile.frame for tile in tiles.layout] == [0, 0, 0, 1, 2, 3]
    assert tiles.sizes == ((56, 28),) * 4
    assert tiles.seconds == pytest.approx((0, 0, 0.1, 0.2))


def test_frames_of_a_clip_are_cut_up_on_request() -> None:
    """Every frame through the same tiling, thumbnail and all."""
    frames = clip(2, 56, 28)
    tiles = tile_dynamic(CHAT, frames, max_num=6)
    assert [tile.frame for tile in tiles.layout] == [0, 0, 0, 1, 1, 1]
    alone = tile_dynamic(CHAT, Frames(frames.pictures[1:], frames.time[1:]), max_num=6)
    assert torch.equal(tiles.pixels[3:], alone.pixels)


def test_without_a_thumbnail() -> None:
    """Only the grid."""
    assert len(tile_dynamic(CHAT, images((56, 28)), thumbnail=False)) == 2


def test_at_least_so_many_tiles() -> None:
    """A square, too, is cut up when more than one tile is asked for; a clip's frames follow."""
    assert len(tile_dynamic(CHAT, images((28, 28)), min_num=4, max_num=4)) == 5
    assert len(tile_dynamic(CHAT, clip(2, 28, 28), min_num=4)) == 10


def test_the_checkpoint_says_how_many_tiles() -> None:
    """Its number where none is asked for, else 12."""
    few = image_handle(ImageFacts(size=28, mean=MEAN, std=STD, max_tiles=4))
    long = images((500, 28))
    assert len(tile_dynamic(few, long)) == 5
    assert len(tile_dynamic(few, long, max_num=6)) == 7
    assert len(tile_dynamic(CHAT, long)) == 13


def test_preprocess_does_it_for_checkpoints_trained_with_it() -> None:
    """With aspect auto; the checkpoint says whether there is a thumbnail, unless a setting does."""
    facts = ImageFacts(size=28, mean=MEAN, std=STD, aspect="dynamic", max_tiles=4, thumbnail=True)
    pictures, frames = images((500, 28), (56, 28)), clip(2, 56, 28)
    made = preprocess(image_handle(facts), pictures, frames)
    assert torch.equal(made.pixels[:8], tile_dynamic(CHAT, pictures, max_num=4).pixels)
    assert torch.equal(made.pixels[8:], tile_dynamic(CHAT, frames).pixels)
    assert [tile.frame for tile in made.layout] == [0] * 5 + [1] * 3 + [2, 3]
    assert made.clips == (-1, -1, 0, 0)
    bare = image_handle(replace(facts, thumbnail=False))
    assert len(preprocess(bare, pictures)) == 6
    assert len(tile_dynamic(bare, pictures)) == 6
    assert len(tile_dynamic(bare, pictures, thumbnail=True)) == 8
    assert len(preprocess(CHAT, pictures, aspect="dynamic")) == 13 + 3
    assert preprocess.foresee is not None
    known = KnownFrames(count=2, clip=False, sizes=((500, 28), (56, 28)))
    assert preprocess.foresee(bare, known, aspect="auto") == KnownTiles(
        count=6, sizes=known.sizes, pictures=(4, 2), clip=False
    )


def test_tiles_follow_the_checkpoints_size() -> None:
    """Any side, square tiles."""
    assert tile_dynamic(RAW, images((56, 28))).pixels.shape == (3, 3, 48, 48)


BAD: list[tuple[ImageFacts | None, dict[str, Any], type[Exception], str]] = [
    (
        ImageFacts(size=28, mean=MEAN, std=STD),
        {"min_num": 3, "max_num": 2},
        MediaError,
        "tile_dynamic.min_num: 3, wanted max_num 2 or less",
    ),
    (
        ImageFacts(size=0, mean=MEAN, std=STD, aspect="qwen"),
        {},
        CheckpointError,
        "tile_dynamic: this checkpoint's pictures keep their own sizes and have no side S; use preprocess "
        "with aspect: auto",
    ),
    (
        None,
        {},
        CheckpointError,
        "tile_dynamic.chat: tiny does not say how pictures are prepared; use a checkpoint that has a "
        "preprocessor_config.json",
    ),
]


@pytest.mark.parametrize(("facts", "widgets", "kind", "message"), BAD)
def test_bad_input(
    facts: ImageFacts | None, widgets: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """One clear error each, while planning too."""
    chat = image_handle(facts)
    with pytest.raises(kind) as error:
        tile_dynamic(chat, images((28, 28)), **widgets)
    assert str(error.value) == message
    assert tile_dynamic.foresee is not None
    with pytest.raises(kind) as error:
        tile_dynamic.foresee(
            chat, images((28, 28)), **{"max_num": None, "min_num": None, "thumbnail": None, **widgets}
        )
    assert str(error.value) == message


def test_nothing_connected() -> None:
    """At least one picture is needed."""
    with pytest.raises(MediaError) as error:
        tile_dynamic(CHAT)
    assert str(error.value) == (
        "tile_dynamic.frames: nothing is connected; wire at least one picture or clip"
    )
