"""The geometry and pixels of TokenPacker-HD's crops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tokenloom.runtime.foreseen import KnownFrames, KnownTiles, pictures_of
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.slicing import (
    GlobalSource,
    Slicing,
    best_grid,
    candidates,
    cut_of,
    foreseen,
    merits,
    sliced,
)
from tokenloom.runtime.values import Frames, Tiles

from ..handles import CLIP_MEAN, CLIP_STD

SIDES = st.integers(1, 700)
SIZES = st.tuples(SIDES, SIDES)
MOST = st.integers(1, 40)


def noise(*sizes: tuple[int, int], seed: int = 0) -> Frames:
    """Pictures of these (width, height)."""
    g = torch.Generator().manual_seed(seed)
    made = tuple(torch.randint(0, 256, (h, w, 3), dtype=torch.uint8, generator=g) for w, h in sizes)
    return Frames(made, torch.arange(len(made), dtype=torch.float64))


def as_released(picture: Tensor, how: Slicing) -> Tensor:
    """The crops by the steps as they are published: normalise, resize, pad, resize the canvas, cut."""
    cut = cut_of((picture.shape[1], picture.shape[0]), how)
    pixels = picture.permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]

    def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.interpolate(x[None], size[::-1], mode="bilinear", antialias=how.antialias)[0]

    rows, cols = cut.grid
    canvas = torch.zeros(3, rows * how.side, cols * how.side)
    canvas[:, : cut.scaled[1], : cut.scaled[0]] = resized(pixels, cut.scaled)
    out = [piece for band in canvas.chunk(rows, 1) for piece in band.chunk(cols, 2)]
    if cut.whole is not None:
        view = torch.zeros(3, how.side, how.side)
        view[:, : cut.whole[1], : cut.whole[0]] = resized(
            canvas if how.source == "canvas" else pixels, cut.whole
        )
        out.append(view)
    return torch.stack(out)


@given(MOST)
def test_candidates_are_all_grids_that_are_not_too_long(most: int) -> None:
    """Every pair of so many crops at most, neither side over 9 times the other, once; one crop first."""
    pairs = {(r, c) for r in range(1, most + 1) for c in range(1, most // r + 1)}
    found = candidates(most)
    assert set(found) == {(r, c) for r, c in pairs if max(r, c) <= 9 * min(r, c)}
    assert len(set(found)) == len(found)
    assert found[0] == (1, 1)


@given(st.integers(26, 200), st.integers(1, 50))
def test_more_crops_only_add_candidates(most: int, more: int) -> None:
    """The list of a smaller maximum begins the list of a larger one, so that ties are settled alike."""
    assert candidates(most + more)[: len(candidates(most))] == candidates(most)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((77, 123), (3, 2)), ((640, 480), (2, 3)), ((1920, 1080), (2, 4)), ((339, 339), (1, 1)),
     ((340, 340), (2, 2)), ((587, 587), (2, 2)), ((588, 588), (3, 3))],
)  # fmt: skip
def test_known_grids_of_nine_crops(size: tuple[int, int], grid: tuple[int, int]) -> None:
    """As the released rule has them: aspect first, size only between near ties, small pictures blown up."""
    assert best_grid(size, Slicing(side=336)) == grid


@given(SIZES, MOST, st.sampled_from([14, 48, 336]))
def test_every_pixel_is_in_exactly_one_crop(size: tuple[int, int], most: int, side: int) -> None:
    """The boxes of the grid share the picture out between them; no side is 0, no grid too large."""
    cut = cut_of(size, Slicing(side=side, most=most))
    tiles = [tile for tile in cut.tiles("canvas") if not tile.whole]
    assert cut.grid[0] * cut.grid[1] == len(tiles) <= most
    assert min(cut.scaled) >= 1
    assert min(cut.whole or (1, 1)) >= 1
    for axis, length in enumerate(size):
        spans = {(tile.box[axis], tile.box[axis + 2]) for tile in tiles}
        low, high = (torch.tensor(edges, dtype=torch.float64) for edges in zip(*spans, strict=True))
        middle = torch.arange(length, dtype=torch.float64)[:, None] + 0.5
        inside = (middle >= low) & (middle < high)
        assert bool((inside.sum(1) == 1).all())


@given(SIZES, MOST, st.sampled_from(["canvas", "image"]))
def test_the_global_view_shows_the_whole_picture(
    size: tuple[int, int], most: int, source: GlobalSource
) -> None:
    """Its box covers the picture and begins in its corner; there is one unless there is one crop only."""
    how = Slicing(side=48, most=most, source=source)
    cut = cut_of(size, how)
    whole = [tile for tile in cut.tiles(how.source) if tile.whole]
    assert len(whole) == (cut.grid != (1, 1))
    for tile in whole:
        assert tile.box[:2] == (0, 0)
        assert tile.box[2] >= size[0] - 1e-9
        assert tile.box[3] >= size[1] - 1e-9


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(1, 12),
    st.sampled_from(["canvas", "image"]),
    st.booleans(),
)
def test_pixels_are_those_of_the_published_steps(
    size: tuple[int, int], most: int, source: GlobalSource, antialias: bool
) -> None:
    """Resized before it is normalised or after: the same to 2e-5, as close as the recorded cases ask for."""
    how = Slicing(side=24, most=most, source=source, antialias=antialias)
    frames = noise(size)
    made = sliced([frames], how, CLIP_MEAN, CLIP_STD)
    torch.testing.assert_close(made.pixels, as_released(frames.pictures[0], how), atol=2e-5, rtol=0)


def test_pictures_of_unequal_grids_lie_one_after_the_other() -> None:
    """Numbers, sizes and times go through all inputs; each picture's crops are what it gives alone."""
    how = Slicing(side=24, most=6)
    first, second = noise((30, 20), (90, 15)), noise((12, 70), seed=1)
    both = sliced([first, second], how, CLIP_MEAN, CLIP_STD)
    assert [tile.frame for tile in both.layout] == [0] * 7 + [1] * 7 + [2] * 7
    assert (both.sizes, both.seconds) == (((30, 20), (90, 15), (12, 70)), (0.0, 1.0, 0.0))
    alone = sliced([second], how, CLIP_MEAN, CLIP_STD)
    assert both.pixels[14:].equal(alone.pixels)
    assert [tile.box for tile in both.layout[14:]] == [tile.box for tile in alone.layout]


def test_padding_is_zero_and_below_and_to_the_right() -> None:
    """A picture that leaves a strip of its canvas free: that strip is the mean colour exactly."""
    how = Slicing(side=24, most=1)
    (pixels,) = sliced([noise((20, 10))], how, CLIP_MEAN, CLIP_STD).pixels
    assert bool((pixels[:, :12] != 0).all())
    assert bool((pixels[:, 12:] == 0).all())


def striped(side: int) -> Frames:
    """Black and white columns by turns."""
    picture = torch.zeros(side, side, 3, dtype=torch.uint8)
    picture[:, ::2] = 255
    return Frames((picture,), torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize(("antialias", "grey"), [(True, True), (False, False)])
def test_shrinking_aliases_unless_it_is_told_not_to(antialias: bool, grey: bool) -> None:
    """Stripes of one pixel, three times smaller: grey with a filter, some colour or other without."""
    how = Slicing(side=24, most=1, antialias=antialias)
    made = sliced([striped(72)], how, (0, 0, 0), (1, 1, 1)).pixels[..., 2:-2]
    assert bool(((made - 0.5).abs() < 0.2).all()) is grey


@given(SIZES, MOST, st.floats(0, 8))
def test_no_grid_enlarges_more_than_it_may(size: tuple[int, int], most: int, limit: float) -> None:
    """With max_upscale the picture grows no more than that, or has one crop."""
    how = Slicing(side=48, most=most, max_upscale=limit)
    grid = best_grid(size, how)
    scale = min(48 * grid[0] / size[1], 48 * grid[1] / size[0])
    assert grid == (1, 1) or scale <= limit * (1 + 1e-6)


def test_small_pictures_need_not_be_blown_up() -> None:
    """A thumbnail of 77x123 takes 7 crops, and one with max_upscale: 1."""
    frames = KnownFrames(count=1, clip=False, sizes=((77, 123),))
    many = KnownTiles(count=7, sizes=frames.sizes, pictures=(7,), clip=False)
    assert foreseen([frames], Slicing(side=336)) == many
    assert foreseen([frames], Slicing(side=336, max_upscale=1)) == replace(many, count=1, pictures=(1,))


def test_the_scores_of_a_picture_that_fits_exactly() -> None:
    """All of the canvas is filled; the overlap is that of a box made 1.4 times longer on each side."""
    found = merits((672, 336), 9, 336)
    at = found.grids.index((1, 2))
    assert float(found.fill[at]) == 1
    assert float(found.iou[at]) == pytest.approx(1 / 1.96, abs=1e-6)
    assert float(found.score[at]) == pytest.approx(1 + 0.1 / 1.96, abs=1e-6)
    assert float(found.scale[at]) == 1


@settings(deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=3), st.integers(1, 9))
def test_what_is_foreseen_is_what_is_made(sizes: list[tuple[int, int]], most: int) -> None:
    """The number of crops, from the sizes alone."""
    how = Slicing(side=8, most=most)
    known = foreseen([KnownFrames(count=len(sizes), clip=False, sizes=tuple(sizes))], how)
    made: Tiles = sliced([noise(*sizes)], how, CLIP_MEAN, CLIP_STD)
    assert known is not None
    assert (known.count, known.pictures) == (len(made), pictures_of(made))
    assert foreseen([noise(*sizes)], how) == known


def test_nothing_is_foreseen_of_unknown_sizes() -> None:
    """Frames of a clip whose size nobody has read, and inputs that nobody knows; one crop needs no size."""
    clip = KnownFrames(count=4, clip=True)
    assert foreseen([clip], Slicing(side=48)) is None
    assert foreseen([clip, None], Slicing(side=48, most=1)) is None
    assert foreseen([clip], Slicing(side=48, most=1)) == KnownTiles(count=4, pictures=(1,) * 4, clip=True)


def test_the_checkpoint_says_how_many() -> None:
    """What is asked for, else the checkpoint's number, else the released 9."""
    facts = ImageFacts(size=48, mean=CLIP_MEAN, std=CLIP_STD, aspect="slice", patch_num=16)
    silent = ImageFacts(size=24, mean=CLIP_MEAN, std=CLIP_STD)
    assert (Slicing.of(facts, 4).most, Slicing.of(facts).most, Slicing.of(silent).most) == (4, 16, 9)
    assert Slicing.of(silent).side == 24
