"""slice_hd: the checkpoint's crops, where they lie in the picture, what a plan knows of them, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tokenloom.nodes.media import load_image
from tokenloom.nodes.slice_hd import slice_hd
from tokenloom.nodes.tile import pad_square, preprocess
from tokenloom.runtime.errors import CheckpointError, MediaError, WiringError
from tokenloom.runtime.foreseen import KnownFrames, KnownTiles
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.slicing import GlobalSource
from tokenloom.runtime.values import Frames, Tile

from ..handles import CLIP_MEAN, CLIP_STD, image_handle

HD = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="slice", patch_num=4))
PAD = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="pad"))
RAW = image_handle(ImageFacts(size=48, mean=(0, 0, 0), std=(1, 1, 1)))


def images(*sizes: tuple[int, int], seed: int = 0) -> Frames:
    """Noise pictures of these (width, height)."""
    g = torch.Generator().manual_seed(seed)
    made = tuple(torch.randint(0, 256, (h, w, 3), dtype=torch.uint8, generator=g) for w, h in sizes)
    return Frames(made, torch.zeros(len(made), dtype=torch.float64))


def dot(width: int, height: int, x: int, y: int, radius: int = 3) -> Frames:
    """Black, with a white square around (x, y)."""
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    picture[y - radius : y + radius + 1, x - radius : x + radius + 1] = 255
    return Frames((picture,), torch.zeros(1, dtype=torch.float64))


def middle_of_light(cell: Tensor) -> tuple[float, float]:
    """Column and row of the light in one tile [3, S, S], in tile pixels (centres at .5)."""
    light = cell.mean(0)
    cols, rows = (torch.arange(n) + 0.5 for n in light.shape[::-1])
    total = light.sum()
    return float((light.sum(0) * cols).sum() / total), float((light.sum(1) * rows).sum() / total)


@pytest.mark.parametrize("source", ["canvas", "image"])
@pytest.mark.parametrize("size", [(100, 60), (60, 100), (97, 33), (64, 64), (300, 200), (201, 290)])
def test_boxes_say_where_a_dot_lands(size: tuple[int, int], source: GlobalSource) -> None:
    """A dot is where the boxes of its crop and of the global view map it to, through all padding."""
    width, height = size
    x, y = round(0.6 * width), round(0.7 * height)
    tiles = slice_hd(
        RAW,
        dot(width, height, x, y, radius=min(size) // 12),
        patch_num=6,
        global_source=source,
        antialias=True,
    )
    seen = 0
    for tile, cell in zip(tiles.layout, tiles.pixels, strict=True):
        left, top, right, bottom = tile.box
        col = (x + 0.5 - left) / (right - left) * 48
        row = (y + 0.5 - top) / (bottom - top) * 48
        if 10 < col < 38 and 10 < row < 38:
            found = middle_of_light(cell)
            assert found == pytest.approx((col, row), abs=0.5)
            seen += 1
    assert seen >= 1
    assert [tile.whole for tile in tiles.layout] == [False] * (len(tiles) - 1) + [len(tiles) > 1]


def test_crops_come_row_by_row_and_then_the_global_view() -> None:
    """Two rows of three crops; their boxes share out the canvas, whose right edge is padding."""
    tiles = slice_hd(RAW, images((130, 96)), patch_num=6)
    assert [(t.row, t.col, t.whole) for t in tiles.layout] == [
        (0, 0, False), (0, 1, False), (0, 2, False), (1, 0, False), (1, 1, False), (1, 2, False), (0, 0, True)
    ]  # fmt: skip
    assert tiles.layout[4].box == (48, 48, 96, 96)
    assert tiles.layout[5].box == (96, 48, 144, 96)
    assert tiles.sizes == ((130, 96),)


def test_one_crop_has_no_global_view() -> None:
    """A picture of one crop is a single tile, at the top left of it."""
    (tile,) = slice_hd(HD, images((40, 48))).layout
    assert tile == Tile(frame=0, box=(0, 0, 48, 48))


def test_the_checkpoint_says_how_many_crops() -> None:
    """Its number without the widget; the widget wins; 9 where neither says."""
    square = images((200, 200))
    assert len(slice_hd(HD, square)) == 5
    assert len(slice_hd(HD, square, patch_num=1)) == 1
    assert len(slice_hd(HD, square, patch_num=16)) == 17
    assert len(slice_hd(PAD, square)) == 10


def test_any_maximum_is_allowed() -> None:
    """Beyond the released 25: 6 x 6 crops of a large square."""
    tiles = slice_hd(HD, images((400, 400)), patch_num=36)
    assert len(tiles) == 37
    assert tiles.layout[-2].row == tiles.layout[-2].col == 5


def test_preprocess_slices_for_a_checkpoint_that_was_trained_so() -> None:
    """`auto` and `slice` are slice_hd; frames of a clip are padded, not cut up."""
    frames = images((100, 60), (33, 48))
    for tiles in (preprocess(HD, frames), preprocess(HD, frames, aspect="slice")):
        assert tiles.pixels.equal(slice_hd(HD, frames).pixels)
        assert tiles.layout == slice_hd(HD, frames).layout
    clip = Frames.of_video(torch.stack(images((100, 60), (100, 60)).pictures), torch.arange(2) / 10)
    assert preprocess(HD, clip).layout == pad_square(PAD, clip).layout
    assert len(slice_hd(HD, clip)) > 2


def test_pictures_are_numbered_through_all_inputs() -> None:
    """Unequal grids side by side in one value."""
    tiles = slice_hd(HD, images((96, 48), (20, 20)), images((48, 96), seed=2))
    assert [t.frame for t in tiles.layout] == [0, 0, 0, 1, 2, 2, 2]
    assert tiles.sizes == ((96, 48), (20, 20), (48, 96))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (2, 3)])
def test_a_hair_thin_picture_keeps_a_row(size: tuple[int, int]) -> None:
    """Where the released code would resize to a side of 0 and fail, one pixel stays, in every crop."""
    tiles = slice_hd(HD, images(size), patch_num=9, global_source="image")
    assert bool(tiles.pixels.isfinite().all())
    assert bool((tiles.pixels != 0).flatten(1).any(1).all())
    assert slice_hd(HD, images(size), patch_num=9).pixels[:-1].equal(tiles.pixels[:-1])


def test_a_plan_counts_the_crops() -> None:
    """From the sizes of the pictures; nothing of a clip, or without the checkpoint."""
    assert slice_hd.foresee is not None
    widgets: dict[str, Any] = {
        "patch_num": None,
        "global_source": "canvas",
        "antialias": False,
        "max_upscale": None,
    }
    known = KnownFrames(count=2, clip=False, sizes=((96, 48), (200, 200)))
    assert slice_hd.foresee(HD, known, **widgets) == KnownTiles(
        count=8, sizes=known.sizes, pictures=(3, 5), clip=False
    )
    assert slice_hd.foresee(HD, known, **widgets | {"patch_num": 9}).count == 13
    assert slice_hd.foresee(HD, known, KnownFrames(count=3, clip=True), **widgets) is None
    assert slice_hd.foresee(None, known, **widgets) is None
    assert preprocess.foresee is not None
    assert preprocess.foresee(HD, known, aspect="auto") == slice_hd.foresee(HD, known, **widgets)


def test_a_plan_reads_the_sizes_from_the_files(tmp_path: Path) -> None:
    """Upright by EXIF, as load_image turns them; so the crops are counted before a picture is decoded."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (96, 48)).save(tmp_path / "a.png")
    Image.new("RGB", (96, 48)).save(tmp_path / "b.jpg", exif=turned)
    paths = (tmp_path / "a.png", tmp_path / "b.jpg")
    assert load_image.foresee is not None
    known = load_image.foresee(path=paths)
    assert known == KnownFrames(count=2, clip=False, sizes=((96, 48), (48, 96)))
    assert known.sizes == load_image(path=paths).sizes


@pytest.mark.parametrize(
    ("patch_num", "message"),
    [
        (0, "slice_hd.patch_num: 0 is outside 1..4096"),
        (-9, "slice_hd.patch_num: -9 is outside 1..4096"),
        ("9", "slice_hd.patch_num: '9' is a str, wanted int 1..4096 or null"),
    ],
)
def test_no_crops_are_refused(patch_num: Any, message: str) -> None:
    """A picture has at least one crop."""
    with pytest.raises(WiringError) as error:
        slice_hd(HD, images((50, 50)), patch_num=patch_num)
    assert str(error.value) == message


def test_a_checkpoint_that_says_nonsense_is_refused() -> None:
    """Before grids of so many crops are listed; the widget helps."""
    absurd = image_handle(ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="slice", patch_num=10**9))
    for node in (slice_hd, preprocess):
        with pytest.raises(CheckpointError) as error:
            node(absurd, images((50, 50)))
        assert str(error.value) == (
            "slice_hd.patch_num: the checkpoint says 1000000000, wanted 1..4096; set patch_num"
        )
    assert len(slice_hd(absurd, images((50, 50)), patch_num=1)) == 1


def test_nothing_connected_is_refused() -> None:
    """There is nothing to cut."""
    with pytest.raises(MediaError) as error:
        slice_hd(HD)
    assert str(error.value) == "slice_hd.frames: nothing is connected; wire at least one picture"
    with pytest.raises(MediaError) as error:
        preprocess(HD)
    assert str(error.value) == "preprocess.frames: nothing is connected; wire at least one picture or clip"


def test_a_checkpoint_without_a_side_is_refused() -> None:
    """Pictures of their own size are not cut into squares; nor is one prepared in a way nobody told."""
    own = image_handle(ImageFacts(size=0, mean=CLIP_MEAN, std=CLIP_STD, aspect="qwen"))
    with pytest.raises(CheckpointError) as error:
        slice_hd(own, images((50, 50)))
    assert str(error.value) == (
        "slice_hd: this checkpoint's pictures keep their own sizes and have no side S; use preprocess with "
        "aspect: auto"
    )
    with pytest.raises(CheckpointError) as error:
        slice_hd(image_handle(None), images((50, 50)))
    assert str(error.value) == (
        "slice_hd.chat: tiny does not say how pictures are prepared; use a checkpoint that has a "
        "preprocessor_config.json"
    )
