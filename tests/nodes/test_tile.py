"""Tiles: their number, order, pixels, and the region of the picture that each shows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from torch import Tensor

from tests.handles import CLIP_MEAN, CLIP_STD, PINPOINTS, image_handle
from tokenloom.nodes.tile import pad_square, preprocess, resize_crop, tile_anyres
from tokenloom.runtime.errors import CheckpointError, MediaError
from tokenloom.runtime.foreseen import KnownFrames, KnownTiles, pictures_of
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Frames, Tile, Tiles

SMALL = tuple((w // 7, h // 7) for w, h in PINPOINTS)  # tiles of 48
PAD = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="pad"))
SQUARE = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="square"))
ANYRES = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="anyres", pinpoints=SMALL))
ONEVISION = image_handle(
    ImageFacts(
        size=48,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        aspect="anyres",
        pinpoints=SMALL,
        frames="stretch",
        max_tiles=9,
    )
)
PLLAVA = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="pllava"))
RAW = image_handle(ImageFacts(size=48, mean=(0, 0, 0), std=(1, 1, 1), aspect="anyres", pinpoints=SMALL))


def images(*sizes: tuple[int, int], seed: int = 0) -> Frames:
    """Noise pictures of these (width, height)."""
    g = torch.Generator().manual_seed(seed)
    made = tuple(torch.randint(0, 256, (h, w, 3), dtype=torch.uint8, generator=g) for w, h in sizes)
    return Frames(made, torch.zeros(len(made), dtype=torch.float64))


def clip(count: int, width: int = 64, height: int = 40) -> Frames:
    """Noise frames at 10 per second."""
    g = torch.Generator().manual_seed(1)
    return Frames.of_video(
        torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=g),
        torch.arange(count) / 10,
    )


def dot(width: int, height: int, x: int, y: int, radius: int = 3) -> Frames:
    """Black, with a white square around (x, y)."""
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    picture[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = 255
    return Frames((picture,), torch.zeros(1, dtype=torch.float64))


def centre_of_mass(cell: Tensor) -> tuple[float, float, float]:
    """Column, row and weight of the light in one tile [3, h, w], in tile pixels (centres at .5)."""
    light = cell.mean(0).clamp(min=0)
    rows, cols = (torch.arange(n) + 0.5 for n in light.shape)
    weight = float(light.sum())
    if weight < 1:
        return 0.0, 0.0, weight
    return float((light.sum(0) * cols).sum()) / weight, float((light.sum(1) * rows).sum()) / weight, weight


def place_in_tile(tile: Tile, side: int, x: float, y: float) -> tuple[float, float]:
    """Where the picture's point (x, y) lies in the tile, by the tile's box."""
    left, top, right, bottom = tile.box
    return (x - left) / (right - left) * side, (y - top) / (bottom - top) * side


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (97, 33), (64, 64), (300, 200)])
@pytest.mark.parametrize("node", [pad_square, resize_crop, tile_anyres], ids=lambda n: n.name)
def test_box_says_where_a_dot_lands(node: Any, size: tuple[int, int]) -> None:
    """A white dot is found in the tile at the place that the box maps it to, within half a tile pixel."""
    width, height = size
    x, y = width // 2 + 4, height // 2 - 5
    widgets = {} if node is resize_crop else {"background": (0, 0, 0)}
    tiles: Tiles = node(RAW, dot(width, height, x, y), **widgets)
    seen = 0
    for tile, cell in zip(tiles.layout, tiles.pixels, strict=True):
        col, row = place_in_tile(tile, 48, x + 0.5, y + 0.5)
        if 6 < col < 42 and 6 < row < 42:
            found = centre_of_mass(cell)
            assert found[:2] == (pytest.approx(col, abs=0.5), pytest.approx(row, abs=0.5))
            seen += 1
        elif not (-6 < col < 54 and -6 < row < 54):
            assert centre_of_mass(cell)[2] < 1, f"light in a tile that should not show it: {tile}"
    assert seen >= 1


def test_padding_reaches_beyond_the_picture() -> None:
    """The box of a padded picture is the whole square."""
    tiles = pad_square(PAD, images((100, 60), (31, 60)))
    assert [t.box for t in tiles.layout] == [(0, -20, 100, 80), (-14, 0, 46, 60)]


def test_centre_crop_shows_less_than_the_picture() -> None:
    """The box of a crop lies inside."""
    (tile,) = resize_crop(SQUARE, images((96, 48))).layout
    assert tile == Tile(frame=0, box=(24.0, 0.0, 72.0, 48.0))


def test_anyres_puts_the_base_first_and_then_the_grid() -> None:
    """Base tile, then rows of the grid; the boxes of the grid cover the letterboxed canvas."""
    tiles = tile_anyres(ANYRES, images((96, 96)))
    assert [(t.whole, t.row, t.col) for t in tiles.layout] == [
        (True, 0, 0),
        (False, 0, 0),
        (False, 0, 1),
        (False, 1, 0),
        (False, 1, 1),
    ]
    assert tiles.layout[0].box == (0, 0, 96, 96)
    assert tiles.layout[4].box == (48, 48, 96, 96)


def test_pictures_are_numbered_through_all_inputs() -> None:
    """Two inputs, three pictures of unequal size: one value, pictures 0, 1, 2."""
    tiles = tile_anyres(ANYRES, images((96, 96), (40, 130)), images((130, 40), seed=2))
    assert tiles.sizes == ((96, 96), (40, 130), (130, 40))
    assert sorted({t.frame for t in tiles.layout}) == [0, 1, 2]
    assert [sum(t.whole for t in tiles.layout if t.frame == i) for i in range(3)] == [1, 1, 1]
    alone = tile_anyres(ANYRES, images((130, 40), seed=2))
    assert tiles.pixels[-len(alone) :].equal(alone.pixels)


def test_times_of_a_clip_travel_on() -> None:
    """Every frame keeps its time in seconds."""
    assert pad_square(PAD, clip(4)).seconds == pytest.approx((0, 0.1, 0.2, 0.3))


@pytest.mark.parametrize(("chat", "node"), [(PAD, pad_square), (SQUARE, resize_crop), (ANYRES, tile_anyres)])
def test_preprocess_follows_the_checkpoint(chat: Any, node: Any) -> None:
    """The checkpoint's own aspect is the same as the node for it."""
    frames = images((100, 60), (33, 48))
    assert preprocess(chat, frames).pixels.equal(node(chat, frames).pixels)
    assert preprocess(chat, frames).layout == node(chat, frames).layout


def test_preprocess_can_be_told_the_aspect() -> None:
    """A given aspect wins over the checkpoint's."""
    frames = images((100, 60))
    assert preprocess(ANYRES, frames, aspect="pad").layout == pad_square(PAD, frames).layout
    assert len(preprocess(ANYRES, clip(2), aspect="anyres")) > 2


def test_frames_of_a_clip_are_not_cut_up() -> None:
    """An anyres checkpoint sees one tile per frame of a clip."""
    tiles = preprocess(ANYRES, clip(5))
    assert len(tiles) == 5
    assert tiles.pixels.equal(resize_crop(SQUARE, clip(5)).pixels)


def test_frames_of_onevision_are_squeezed() -> None:
    """The whole frame on a square tile, its sides scaled apart."""
    tiles = preprocess(ONEVISION, clip(2, width=96, height=40))
    assert tiles.layout[1] == Tile(frame=1, box=(0.0, 0.0, 96.0, 40.0))
    assert tiles.pixels.equal(preprocess(PAD, clip(2, width=96, height=40), aspect="stretch").pixels)


def test_several_pictures_of_onevision_are_padded() -> None:
    """One alone is cut up; of several each is one tile."""
    two, one = images((96, 40), (33, 48)), images((96, 40))
    assert len(preprocess(ONEVISION, one)) > 1
    assert preprocess(ONEVISION, two).pixels.equal(pad_square(PAD, two).pixels)
    assert len(preprocess(ONEVISION, one, one)) == 2
    assert len(preprocess(ONEVISION, two, aspect="anyres")) > 2


@pytest.mark.parametrize("size", [(100, 60), (700, 330), (330, 700), (1300, 1300), (2000, 90)])
def test_both_resizes_of_pllava_keep_places(size: tuple[int, int]) -> None:
    """Through two resizes and the crop, the box still says where in the frame a tile's pixel comes from."""
    width, height = size
    x, y = width // 2 + min(size) // 5, height // 2 - min(size) // 5
    frames = dot(width, height, x, y, radius=max(1, min(size) // 16))
    tiles = preprocess(RAW, frames, aspect="pllava")
    col, row = place_in_tile(tiles.layout[0], 48, x + 0.5, y + 0.5)
    assert centre_of_mass(tiles.pixels[0])[:2] == (pytest.approx(col, abs=0.5), pytest.approx(row, abs=0.5))


def test_pllava_resizes_a_large_frame_twice() -> None:
    """To 640 pixels at most by Pillow, then to the tile; a smaller frame only once."""
    large, small = images((1300, 700)), images((120, 60))
    (picture,) = large.pictures
    scaled = Pil.fromarray(picture.numpy()).resize((638, 344), Pil.Resampling.BICUBIC)
    first = Frames((torch.from_numpy(np.array(scaled)),), large.time)
    assert preprocess(PLLAVA, large).pixels.equal(resize_crop(SQUARE, first).pixels)
    assert not preprocess(PLLAVA, large).pixels.equal(resize_crop(SQUARE, large).pixels)
    assert preprocess(PLLAVA, small).pixels.equal(resize_crop(SQUARE, small).pixels)


def test_a_hair_thin_frame_needs_no_giant_picture() -> None:
    """Where the first resize would fill the memory, only what stays is resized."""
    thin = images((40_000, 2))
    assert preprocess(PLLAVA, thin).pixels.shape == (1, 3, 48, 48)


def test_widgets_override_the_checkpoint() -> None:
    """Size, background and canvases are settings too."""
    frames = dot(100, 60, 50, 30)
    assert pad_square(PAD, frames, size=32).pixels.shape == (1, 3, 32, 32)
    white = pad_square(RAW, frames, background=(255, 255, 255)).pixels[0]
    assert white[:, 0, 0].tolist() == [1, 1, 1]
    assert len(tile_anyres(ANYRES, frames, size=32, pinpoints=("96x64",))) == 7


def test_default_background_is_the_mean() -> None:
    """Padding is int(255 * mean): within half a grey level of zero once normalised."""
    corner = pad_square(PAD, images((100, 10))).pixels[0, :, 0, 0]
    assert float(corner.abs().max()) < 1 / 255 / min(CLIP_STD)


def test_one_pixel_and_a_thin_line() -> None:
    """1x1 and 1x700 go through every node."""
    for node in (pad_square, resize_crop, tile_anyres):
        tiles = node(ANYRES, images((1, 1), (1, 700)))
        assert bool(tiles.pixels.isfinite().all())


def test_sixty_four_frames_are_quick() -> None:
    """64 frames of 320x240 at 336: well under the time of one tower pass."""
    chat = image_handle(ImageFacts(size=336, mean=CLIP_MEAN, std=CLIP_STD, aspect="pad"))
    frames = clip(64, 320, 240)
    start = time.process_time()
    assert preprocess(chat, frames).pixels.shape == (64, 3, 336, 336)
    assert time.process_time() - start < 5


BAD = [
    (
        lambda: tile_anyres(PAD, images((9, 9))),
        "anyres: the checkpoint lists no canvas sizes; give pinpoints: [336x672, ...]",
    ),
    (
        lambda: tile_anyres(PAD, images((9, 9)), pinpoints=("96*48",)),
        "tile_anyres.pinpoints: '96*48', wanted WIDTHxHEIGHT such as '672x336'",
    ),
    (
        lambda: tile_anyres(PAD, images((9, 9)), pinpoints=("96x50",)),
        "anyres: canvas 96x50 cannot be cut into tiles of 48x48; both sides must be multiples of the tile",
    ),
    (lambda: pad_square(PAD), "pad_square.frames: nothing is connected; wire at least one picture or clip"),
    (
        lambda: pad_square(PAD, images((9, 9)), background=(0, 0, 300)),
        "background: [0, 0, 300], wanted red, green and blue of 0..255",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_settings(call: Any, message: str) -> None:
    """What cannot be tiled is said before any pixel is touched."""
    with pytest.raises(MediaError) as caught:
        call()
    assert str(caught.value) == message


def test_bad_checkpoint_is_refused_while_planning() -> None:
    """Neither a missing preprocessor nor missing canvases wait for a picture."""
    assert preprocess.foresee is not None
    with pytest.raises(CheckpointError, match="does not say how pictures are prepared"):
        preprocess.foresee(image_handle(None), None, aspect="auto")
    with pytest.raises(MediaError, match="lists no canvas sizes"):
        preprocess.foresee(PAD, None, aspect="anyres")
    assert preprocess.foresee(PAD, None, aspect="auto") is None


def test_checkpoint_without_preprocessing() -> None:
    """A handle that does not say how pictures are prepared."""
    with pytest.raises(CheckpointError) as caught:
        preprocess(image_handle(None), images((9, 9)))
    assert str(caught.value) == (
        "preprocess.chat: tiny does not say how pictures are prepared; "
        "use a checkpoint that has a preprocessor_config.json"
    )


def test_a_plan_counts_tiles_that_do_not_depend_on_the_picture() -> None:
    """One tile per frame, also of a clip on an anyres checkpoint; a grid's tiles are counted when cut."""
    pictures, clip = KnownFrames(count=2, clip=False), KnownFrames(count=8, clip=True)
    assert preprocess.foresee is not None
    assert preprocess.foresee(PAD, pictures, clip, aspect="auto") == KnownTiles(count=10, pictures=(1,) * 10)
    assert preprocess.foresee(ANYRES, clip, aspect="auto") == KnownTiles(
        count=8, pictures=(1,) * 8, clip=True
    )
    assert preprocess.foresee(ANYRES, pictures, aspect="auto") is None
    assert preprocess.foresee(ONEVISION, pictures, aspect="auto") == KnownTiles(
        count=2, pictures=(1, 1), clip=False
    )
    assert preprocess.foresee(PAD, pictures, None, aspect="pad") is None


def test_a_plan_counts_the_tiles_of_grids() -> None:
    """From the pictures' sizes: a base tile and a grid each; as many as are cut."""
    known = KnownFrames(count=2, clip=False, sizes=((90, 30), (30, 90)))
    assert preprocess.foresee is not None
    found = preprocess.foresee(ANYRES, known, aspect="auto")
    made = preprocess(ANYRES, images((90, 30), (30, 90)))
    assert found == KnownTiles(count=len(made), sizes=known.sizes, pictures=pictures_of(made), clip=False)


@pytest.mark.parametrize("name", ["pad_square", "resize_crop", "tile_anyres"])
def test_a_plan_counts_the_tiles_of_every_cutter(name: str) -> None:
    """One of each picture, or a grid; nothing of pictures that nobody knows."""
    node = all_nodes()[name]
    assert node.foresee is not None
    widgets = {key: widget.default for key, widget in node.widgets.items()}
    known = KnownFrames(count=2, clip=False, sizes=((90, 30), (30, 90)))
    made = node(ANYRES, images((90, 30), (30, 90)))
    assert node.foresee(ANYRES, known, **widgets).pictures == pictures_of(made)
    assert node.foresee(ANYRES, known, None, **widgets) is None


def test_a_plan_knows_tiles_that_keep_their_pictures_size() -> None:
    """Qwen2.5-VL's: rounded as when they are cut; pictures that come out at several sizes are refused."""
    bounds: dict[str, Any] = {"multiple": 8, "min_pixels": 64, "max_pixels": 4096}
    handle = image_handle(ImageFacts(size=0, mean=CLIP_MEAN, std=CLIP_STD, aspect="qwen", **bounds))
    assert preprocess.foresee is not None
    known = preprocess.foresee(handle, KnownFrames(count=1, clip=False, sizes=((50, 30),)), aspect="auto")
    assert known.tile == tuple(preprocess(handle, images((50, 30))).pixels.shape[:1:-1])
    both = KnownFrames(count=2, clip=False, sizes=((50, 30), (30, 50)))
    with pytest.raises(MediaError) as error:
        preprocess.foresee(handle, both, aspect="auto")
    assert str(error.value) == (
        "preprocess.frames: this checkpoint's pictures keep their own sizes, here 32x48 and 48x32, but tiles "
        "of one wire have one size; give every picture a chain of its own, up to place_tokens"
    )
