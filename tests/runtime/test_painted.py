"""Masks: what counts as paint, and the patches it lies on, through pads, crops, tiles and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokenloom.runtime.errors import LoomError, MediaError, WiringError
from tokenloom.runtime.painted import Mask, Painted, covered, painted_patches, painted_shares, read_masks
from tokenloom.runtime.values import Source, Tile

Box = tuple[float, float, float, float]


def source(*boxes: Box, size: tuple[int, int] = (8, 8), frames: tuple[int, ...] = ()) -> Source:
    """Tiles of 2 x 2 patches with these boxes, of one picture or of `frames`."""
    numbers = frames or (0,) * len(boxes)
    layout = tuple(Tile(frame=frame, box=box) for frame, box in zip(numbers, boxes, strict=True))
    return Source(layout, 2, 2, (size,) * (max(numbers) + 1), (0.0,) * (max(numbers) + 1))


def mask(width: int, height: int, *boxes: tuple[int, int, int, int], name: str = "m.png") -> Mask:
    """A mask that is painted in these boxes."""
    level = torch.zeros(height, width, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        level[top:bottom, left:right] = 255
    return Mask(name, level)


def patches(masks: list[Mask], where: Source, **settings: Any) -> list[int]:
    return painted_patches("here", masks, where, Painted(**settings)).tolist()


# -- how much of a patch -----------------------------------------------------------------------------------


def test_shares_of_pixels_that_boxes_cut() -> None:
    """3 pixels under 2 boxes: the middle one belongs to both by half."""
    painted = torch.tensor([[False, True, False]])
    boxes = torch.tensor([[0, 0, 1.5, 1], [1.5, 0, 3, 1]], dtype=torch.float64)
    assert covered(painted, boxes).tolist() == pytest.approx([1 / 3] * 2)


def test_boxes_within_a_pixel() -> None:
    """Each has what its pixel is; one without area has nothing."""
    painted = torch.tensor([[True, False]])
    boxes = torch.tensor([[0.2, 0.1, 0.3, 0.4], [1.2, 0, 2, 1], [1, 0, 1, 1], [2, 1, 2, 1]])
    assert covered(painted, boxes.double()).tolist() == pytest.approx([1, 0, 0, 0])


def test_a_patch_half_in_the_padding_counts_what_it_shows() -> None:
    """Its own place beyond the picture is not unpainted; a patch of padding alone is never painted."""
    drawn = mask(8, 4, (0, 0, 8, 4))
    half, none = source((0, -3, 8, 5), size=(8, 4)), source((0, -8, 8, 8), size=(8, 4))
    assert painted_shares([drawn], half).tolist() == pytest.approx([1, 1, 1, 1])
    assert painted_shares([drawn], none).tolist() == pytest.approx([0, 0, 1, 1])


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_counting_fine_pixels(seed: int) -> None:
    """A mask enlarged so that patches and pixels align, cell by cell."""
    maker = torch.Generator().manual_seed(seed)
    small = torch.rand(5, 7, generator=maker) > 0.5
    fine = small.repeat_interleave(12, 0).repeat_interleave(12, 1).double()  # 60 x 84, cells of 15 x 28
    want = fine.reshape(4, 15, 3, 28).mean((1, 3))
    where = Source((Tile(frame=0, box=(0, 0, 7, 5)),), 4, 3, ((7, 5),), (0.0,))
    level = small.to(torch.uint8) * 255
    torch.testing.assert_close(painted_shares([Mask("m.png", level)], where).reshape(4, 3), want)


# -- which patches -----------------------------------------------------------------------------------------


def test_any_paint_or_a_share_of_it() -> None:
    """One painted corner is enough at 0; a quarter is not a half; threshold counts levels."""
    drawn = mask(8, 8, (0, 0, 1, 1), (4, 0, 8, 2))
    where = source((0, 0, 8, 8))
    assert patches([drawn], where) == [0, 1]
    assert patches([drawn], where, share=0.5) == [1]
    faint = Mask("m.png", drawn.level // 2)
    assert patches([faint], where, threshold=127) == [0, 1]


def test_a_padded_picture() -> None:
    """8 x 4 on a square of 8: the tile's upper patches show the picture's upper half."""
    where = source((0, -2, 8, 6), size=(8, 4))
    assert patches([mask(8, 4, (0, 0, 1, 1))], where) == [0]
    assert patches([mask(8, 4, (7, 3, 8, 4))], where) == [3]


def test_tiles_of_a_grid_and_their_base() -> None:
    """Paint in the right half: the base tile's right patches, and all of the right tile."""
    where = source((0, 0, 8, 4), (0, 0, 4, 4), (4, 0, 8, 4), size=(8, 4))
    assert patches([mask(8, 4, (4, 0, 8, 4))], where) == [1, 3, 8, 9, 10, 11]


def test_one_mask_for_a_clip_or_one_for_each_frame() -> None:
    """The same patches of every frame, or each frame's own; a frame without paint keeps nothing."""
    where = source(*[(0, 0, 8, 8)] * 3, frames=(0, 1, 2))
    first, last = mask(8, 8, (0, 0, 1, 1)), mask(8, 8, (7, 7, 8, 8))
    assert patches([first], where) == [0, 4, 8]
    assert patches([first, mask(8, 8), last], where) == [0, 11]


def test_a_picture_shown_again_is_painted_again() -> None:
    """PVC repeats one picture as a clip of four: tiles of one frame share its mask."""
    where = source(*[(0, 0, 8, 8)] * 2)
    assert patches([mask(8, 8, (0, 0, 1, 1))], where) == [0, 4]


def test_a_stretched_mask() -> None:
    """Painted on a square copy of a wide picture."""
    where = source((0, 0, 16, 4), size=(16, 4))
    assert patches([mask(4, 4, (3, 0, 4, 1))], where, stretch=True) == [1]


def test_shares_have_a_place_for_every_patch() -> None:
    """As the source numbers them."""
    shares = painted_shares([mask(8, 8, (0, 0, 4, 2))], source((0, 0, 8, 8), (0, 0, 4, 4)))
    assert shares.tolist() == [0.5, 0, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("masks", "settings", "message"),
    [
        (
            [mask(4, 8, (0, 0, 1, 1))],
            {},
            "here: m.png is 4x8, but picture 0 is 8x8; paint on the picture at its own size, or set "
            "stretch: true when it was painted on a squeezed copy",
        ),
        ([mask(8, 8)], {}, "here: nothing is painted on m.png, wanted a level of 1 or more (threshold); "
         "paint over what shall stay"),
        (
            [Mask("m.png", torch.full((8, 8), 9, dtype=torch.uint8))],
            {"threshold": 10},
            "here: nothing above 9 is painted on m.png, wanted a level of 10 or more (threshold); lower it",
        ),
        (
            [mask(8, 8, (0, 0, 1, 1))],
            {"share": 0.5},
            "here: no patch is painted by 0.5 or more, the most is 0.062; lower share",
        ),
        ([mask(8, 8)] * 2, {}, "here: 2 masks for 1 picture; give one for all, or one for each"),
        ([], {}, "here: an empty list; give one mask for all pictures, or one for each"),
    ],
)  # fmt: skip
def test_masks_that_choose_nothing(masks: list[Mask], settings: dict[str, Any], message: str) -> None:
    """What came, what was wanted, and what to do."""
    with pytest.raises(MediaError) as error:
        patches(masks, source((0, 0, 8, 8)), **settings)
    assert str(error.value) == message


def test_several_masks_are_named_together() -> None:
    """All of them are blank; or there are too few."""
    clip = source(*[(0, 0, 8, 8)] * 3, frames=(0, 1, 2))
    with pytest.raises(MediaError, match=r"^here: nothing is painted on all 3 masks, wanted a level"):
        patches([mask(8, 8)] * 3, clip)
    with pytest.raises(MediaError, match=r"^here: 2 masks for 3 pictures; give one for all, or one for"):
        patches([mask(8, 8)] * 2, clip)


def test_paint_where_the_tiles_do_not_look() -> None:
    """A centre crop does not see the edge."""
    with pytest.raises(MediaError) as error:
        patches([mask(8, 8, (0, 0, 1, 8))], source((2, 2, 6, 6)))
    assert str(error.value) == (
        "here: what is painted lies where no tile looks, the tiles crop the picture; paint nearer to its "
        "middle, or let preprocess pad it"
    )


def test_tokens_that_do_not_know_their_pictures() -> None:
    """Without sizes a mask has no place."""
    bare = Source((Tile(frame=0, box=(0, 0, 8, 8)),), 2, 2)
    with pytest.raises(WiringError) as error:
        patches([mask(8, 8, (0, 0, 1, 1))], bare)
    assert str(error.value) == (
        "here: the tokens do not say how large their pictures are; wire preprocess to encode_vision"
    )


# -- files -------------------------------------------------------------------------------------------------


def saved(folder: Path, pixels: Any, mode: str, name: str = "drawn.png", **options: Any) -> Path:
    """A picture file of these pixels."""
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    picture = picture.convert(mode) if picture.mode != mode else picture
    picture.save(folder / name, **options)
    return folder / name


def level(path: Path) -> list[list[int]]:
    [found] = read_masks("here", path)
    assert found.level.dtype == torch.uint8
    return found.level.tolist()


BLACK, CLEAR = (0, 0, 0, 255), (0, 0, 0, 0)


def test_alpha_says_what_is_painted(tmp_path: Path) -> None:
    """A sketch layer: black strokes on nothing."""
    assert level(saved(tmp_path, [[BLACK, CLEAR, (9, 9, 9, 40)]], "RGBA")) == [[255, 0, 40]]


def test_an_opaque_picture_is_painted_where_it_is_bright(tmp_path: Path) -> None:
    """Its alpha says nothing; grey, colours and black-and-white too."""
    assert level(saved(tmp_path, [[BLACK, (0, 0, 7, 255), (255, 0, 0, 255)]], "RGBA")) == [[0, 7, 255]]
    assert level(saved(tmp_path, [[0, 100, 255]], "L")) == [[0, 100, 255]]
    assert level(saved(tmp_path, [[0, 255]], "1")) == [[0, 255]]


def test_grey_with_alpha_and_palettes(tmp_path: Path) -> None:
    """LA, and a palette with a transparent colour."""
    assert level(saved(tmp_path, [[BLACK, CLEAR]], "LA")) == [[255, 0]]
    coloured = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    coloured.putpalette([255, 255, 255, 10, 0, 0])
    coloured.save(tmp_path / "p.png", transparency=0)
    assert level(tmp_path / "p.png") == [[0, 255]]


def test_a_list_or_a_folder_of_masks(tmp_path: Path) -> None:
    """Each by its name; a folder's in natural order."""
    files = [saved(tmp_path, [[level]], "L", f"{name}.png") for name, level in (("10", 3), ("2", 5))]
    assert [mask.name for mask in read_masks("here", tuple(files))] == ["10.png", "2.png"]
    assert [int(mask.level) for mask in read_masks("here", tmp_path)] == [5, 3]


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    """Missing, empty, a folder without pictures or in a list, no picture."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (tmp_path / "text.png").write_text("paint")
    (tmp_path / "empty.png").touch()
    for path, message in (
        (
            tmp_path / "drawm.png",
            f"{tmp_path / 'drawm.png'}: no such file; give the path of a painted picture",
        ),
        (tmp_path / "empty.png", f"{tmp_path / 'empty.png'}: the file is empty (0 bytes); fetch or write it"),
        (
            nothing,
            f"{nothing}: the folder holds no pictures; put masks (.jpg, .jpeg, .png, .webp, ...) into it",
        ),
        ((nothing,), f"{nothing}: a folder in a list; give the folder alone, or picture files"),
        (
            tmp_path / "text.png",
            f"{tmp_path / 'text.png'}: not a picture that Pillow can read (it starts with b'paint'); "
            "wanted JPEG, PNG, WebP, BMP, GIF or TIFF; check the file",
        ),
    ):
        with pytest.raises(LoomError) as error:
            read_masks("here", path)
        assert str(error.value).startswith(f"here: {message}")
