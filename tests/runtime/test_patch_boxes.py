"""Patches and their boxes: the inverse of whatever preprocessing made the tiles."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.handles import image_handle
from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.patch_boxes import canvas_of, clipped_boxes, patch_boxes, patches_at, views_of
from tokenloom.runtime.values import Frames, Source, Tile

SIDE, PATCH = 48, 8
CANVASES = ((96, 96), (96, 48), (48, 96), (144, 48), (48, 144))
CROPPING = ("square", "pllava")
ASPECTS = ("pad", "stretch", "anyres", "slice", "dynamic", "qwen", *CROPPING)
SIZES = st.tuples(st.integers(24, 170), st.integers(24, 170))


def gradient(size: tuple[int, int]) -> Tensor:
    """A picture whose red says where a pixel is across, and whose green how far down."""
    width, height = size
    red = ((torch.arange(width) + 0.5) / width * 255).round().expand(height, width)
    green = ((torch.arange(height) + 0.5) / height * 255).round()[:, None].expand(height, width)
    return torch.stack([red, green, torch.zeros(height, width)], 2).to(torch.uint8)


def prepared(aspect: str, size: tuple[int, int]) -> tuple[Source, Tensor]:
    """The patches of a gradient's tiles, and what each shows: [P, 2] mean red and green of 0..1."""
    facts = ImageFacts(
        size=0 if aspect == "qwen" else SIDE,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        aspect=aspect,  # type: ignore[arg-type]
        pinpoints=CANVASES,
        patch_num=6,
        max_tiles=6 if aspect == "dynamic" else 0,
        thumbnail=True,
        multiple=2 * PATCH,
        min_pixels=48 * 48,
        max_pixels=96 * 96,
    )
    tiles = preprocess(image_handle(facts), Frames((gradient(size),), torch.zeros(1).double()))
    rows, cols = tiles.pixels.shape[2] // PATCH, tiles.pixels.shape[3] // PATCH
    cells = tiles.pixels[:, :2].unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).mean((4, 5))
    source = Source(tiles.layout, rows, cols, tiles.sizes, tiles.seconds)
    return source, cells.permute(0, 2, 3, 1).reshape(-1, 2)


def area(box_P4: Tensor) -> Tensor:
    return (box_P4[:, 2:] - box_P4[:, :2]).clamp_min(0).prod(1)


@pytest.mark.parametrize("aspect", ASPECTS)
@settings(max_examples=12, deadline=None)
@given(size=SIZES)
def test_a_box_is_where_the_patch_was_taken_from(aspect: str, size: tuple[int, int]) -> None:
    """What the tower gets of a patch is what the picture has in the patch's box."""
    source, seen_P2 = prepared(aspect, size)
    box_P4 = patch_boxes(source)
    extent = torch.tensor(size, dtype=torch.float64)
    pixel_P2 = (box_P4[:, 2:] - box_P4[:, :2]) / PATCH  # a pixel of the tile in pixels of the picture
    inside = ((box_P4[:, :2] > pixel_P2) & (box_P4[:, 2:] < extent - pixel_P2)).all(1)
    middle_P2 = (box_P4[:, :2] + box_P4[:, 2:]) / 2
    off = ((seen_P2 * extent - middle_P2).abs() / (pixel_P2 + extent / 255))[inside]
    assert len(off) == 0 or float(off.max()) < 1.0


@pytest.mark.parametrize("aspect", ASPECTS)
@settings(max_examples=12, deadline=None)
@given(size=SIZES)
def test_boxes_lie_in_the_picture_and_cover_what_is_shown(aspect: str, size: tuple[int, int]) -> None:
    """Clipped, they share no area, and together have that of the picture, or of the crop."""
    source, _ = prepared(aspect, size)
    box_P4 = clipped_boxes(source)
    extent = torch.tensor([*size, *size], dtype=torch.float64)
    assert bool(((box_P4 >= 0) & (box_P4 <= extent)).all())
    for view in views_of(source):
        mine = torch.isin(torch.arange(len(source)) // source.per_tile, torch.tensor(view.tiles))
        total = float(area(box_P4[mine]).sum())
        whole = torch.tensor([source.tiles[view.tiles[0]].box], dtype=torch.float64)
        whole = torch.minimum(whole.clamp_min(0), extent)
        wanted = float(area(whole)) if aspect in CROPPING else size[0] * size[1]
        assert total == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("aspect", ASPECTS)
@settings(max_examples=8, deadline=None)
@given(size=SIZES)
def test_the_middle_of_a_box_belongs_to_its_patch(aspect: str, size: tuple[int, int]) -> None:
    """From patch to box to patch, and each middle is at 0.5 of it."""
    source, _ = prepared(aspect, size)
    box_KRC4 = patch_boxes(source).reshape(len(source.tiles), source.rows, source.cols, 4)
    middle = (box_KRC4[..., :2] + box_KRC4[..., 2:]) / 2
    for view in views_of(source):
        for tile in view.tiles:
            x_C, y_R = middle[tile, 0, :, 0], middle[tile, :, 0, 1]
            patch_RC, across_RC, down_RC = patches_at(source, view.tiles, x_C, y_R)
            want = torch.arange(source.per_tile).reshape(source.rows, source.cols)
            assert patch_RC.equal(want + tile * source.per_tile)
            torch.testing.assert_close(across_RC, torch.full_like(across_RC, 0.5))
            torch.testing.assert_close(down_RC, torch.full_like(down_RC, 0.5))


def two_tiles() -> Source:
    """A padded picture of 40 x 20: its whole view, and two tiles of 2 x 2 patches side by side."""
    tiles = (
        Tile(frame=0, box=(0.0, 0.0, 40.0, 20.0), whole=True),
        Tile(frame=0, col=0, box=(0.0, -10.0, 20.0, 30.0)),
        Tile(frame=0, col=1, box=(20.0, -10.0, 60.0, 30.0)),
    )
    return Source(tiles, 2, 2, ((40, 20),), (0.0,))


def test_boxes_of_a_padded_tile() -> None:
    """They reach beyond the picture; clipped, a patch on padding alone has no area."""
    source = two_tiles()
    assert patch_boxes(source)[8:].tolist() == [
        [20, -10, 40, 10],
        [40, -10, 60, 10],
        [20, 10, 40, 30],
        [40, 10, 60, 30],
    ]
    assert clipped_boxes(source)[8:].tolist() == [
        [20, 0, 40, 10],
        [40, 0, 40, 10],
        [20, 10, 40, 20],
        [40, 10, 40, 20],
    ]


def test_views_and_their_canvas() -> None:
    """The whole view and the grid apart; a canvas holds the padding."""
    source = two_tiles()
    views = views_of(source)
    assert [(view.tiles, view.whole) for view in views] == [((0,), True), ((1, 2), False)]
    assert [canvas_of(source, view) for view in views] == [(0, 0, 40, 20), (0, -10, 60, 30)]


def test_copies_are_views_of_their_own() -> None:
    """PVC's repeated pictures: the same boxes at four times."""
    tiles = tuple(Tile(frame=0, box=(0.0, 0.0, 8.0, 8.0), time=time) for time in range(4))
    views = views_of(Source(tiles, 2, 2, ((8, 8),), (0.0,)))
    assert [(view.tiles, view.copy) for view in views] == [((0,), 0), ((1,), 1), ((2,), 2), ((3,), 3)]


def test_points_in_no_tile() -> None:
    """Beside all tiles there is no patch; a point on an edge belongs to what is right of it."""
    patch_HW, across_HW, _ = patches_at(
        two_tiles(), (1, 2), torch.tensor([-1.0, 0.0, 20.0, 60.0]).double(), torch.tensor([0.0]).double()
    )
    assert patch_HW.tolist() == [[-1, 4, 8, -1]]
    assert across_HW.tolist() == [[0, 0, 0, 0]]


def test_pictures_of_unknown_size() -> None:
    """Nothing can be clipped to them."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 1, 1)
    with pytest.raises(ValueError, match=r"^clipped_boxes: 1 pictures, but 0 sizes$"):
        clipped_boxes(source)
