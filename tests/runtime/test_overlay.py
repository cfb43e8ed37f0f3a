"""Tokens drawn over pictures: which pixels, which colours, which words."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenloom.runtime.ground import PADDING, ground, marked_patch
from tokenloom.runtime.overlay import (
    DROPPED,
    Marked,
    label_of,
    panels_of,
    shown_views,
    together,
)
from tokenloom.runtime.patch_boxes import views_of
from tokenloom.runtime.roles import SHADES, Role
from tokenloom.runtime.values import Patches, Source, Tile

from .test_roles import zipped


def padded() -> Source:
    """A picture of 40 x 20 on a square: the first and last rows of 4 x 4 patches show padding alone."""
    return Source((Tile(frame=0, box=(0.0, -10.0, 40.0, 30.0)),), 4, 4, ((40, 20),), (0.0,))


def plain(height: int, width: int, value: int = 200) -> Tensor:
    return torch.full((height, width, 3), value, dtype=torch.uint8)


def test_the_ground_holds_the_padding() -> None:
    """A panel of the whole canvas; each pixel knows its patch."""
    source = padded()
    base = ground(source, views_of(source)[0], plain(20, 40), 80)
    assert base.pixels.shape == (80, 80, 3)
    assert base.pixels[0, 0].tolist() == list(PADDING)
    assert base.pixels[40, 40].tolist() == [200, 200, 200]
    assert base.inside[:20].sum() == base.inside[60:].sum() == 0
    assert bool(base.inside[20:60].all())
    assert base.patch[::20, ::20].flatten().tolist() == list(range(16))
    assert base.cell == (20, 20)


def test_a_small_picture_is_enlarged_and_a_thin_one_stays_visible() -> None:
    """The longest side is as asked for, the other at least 48."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 200.0, 2.0)),), 1, 4, ((200, 2),), (0.0,))
    base = ground(source, views_of(source)[0], plain(2, 200), 400)
    assert base.pixels.shape == (48, 400, 3)
    assert base.patch[0, ::100].tolist() == [0, 1, 2, 3]


def drawn(marked: Marked, side: int = 60) -> Tensor:
    """The only view, on a white picture."""
    source = marked.tokens.source
    width, height = source.sizes[0]
    return marked.drawn(ground(source, views_of(source)[0], plain(height, width, 255), side))


def test_kept_merged_and_dropped_differ() -> None:
    """Kept shows the picture, merged is tinted in its role's shades, dropped is dark."""
    pixels = drawn(Marked.of(zipped())).int()  # cells of 20: 0 kept, 1 2 3 contextual, 4 dropped, 5 kept
    assert pixels[7, 7].min() > 230
    red, _, blue = pixels[7, 27].tolist()
    assert blue > red + 20
    assert pixels[27, 27].max() < 110
    assert pixels[27, 57 - 4].min() > 230


def test_lines_run_around_tokens_not_through_them() -> None:
    """Patches 1, 2 are one token: no line between them, one to 0 in the colour of each."""
    pixels = drawn(Marked.of(zipped()), 300).int()  # cells of 100
    middle = pixels[40]
    assert (middle[195] - middle[170]).abs().max() < 5
    orange = torch.tensor(SHADES[Role.KEPT][1]) * 0.82
    assert (middle[99] - orange).abs().max() < 2
    assert middle[100].tolist() != middle[99].tolist()


def test_the_target_of_a_merge_has_a_white_dot() -> None:
    """Patch 2, and no other; with room for it the row of the token stands in it."""
    pixels = drawn(Marked.of(zipped()), 300)
    disc = pixels[30:70, 230:270]
    assert int((disc.min(2).values > 250).sum()) > 500
    assert int((disc.max(2).values < 60).sum()) > 5
    assert int((pixels[:30, 110:190].min(2).values > 250).sum()) == 0


def test_colours_and_numbers_can_be_left_out() -> None:
    """Lines and the dot stay."""
    bare = drawn(Marked.of(zipped(), 0.0, numbers=False), 300)
    assert bare[40, 150].tolist() == [255, 255, 255]
    assert int((bare[40:60, 240:260].max(2).values < 60).sum()) == 0
    assert bare[40, 99].tolist() != [255, 255, 255]


def test_the_legend_counts() -> None:
    """Tokens and patches of every role, what is dropped, what has no place."""
    keys = Marked.of(zipped()).legend(unseen=True, numbered=True)
    assert [key.text for key in keys] == [
        "dominant: 2",
        "contextual: 1 of 3 patches",
        "patch that others went into; the number is the token's row",
        "dropped: 1 patch",
        "outside every tile",
        "[CLS]: 1, of no patch",
    ]
    assert [key.text for key in Marked.of(zipped().select(torch.tensor([1]))).legend(unseen=False)] == [
        "kept: 1",
        "dropped: 5 patches",
    ]
    assert DROPPED in keys[3].colours


def grid() -> Source:
    """Two pictures, the first with a whole view and two tiles."""
    tiles = (
        Tile(frame=0, box=(0.0, 0.0, 40.0, 20.0), whole=True),
        Tile(frame=0, box=(0.0, 0.0, 20.0, 20.0)),
        Tile(frame=0, col=1, box=(20.0, 0.0, 40.0, 20.0)),
        Tile(frame=1, box=(5.0, 0.0, 15.0, 10.0)),
    )
    return Source(tiles, 2, 2, ((40, 20), (20, 10)), (0.0, 1.5))


def test_views_are_labelled() -> None:
    """By picture or frame and time, part, and tokens."""
    source = grid()
    views = views_of(source)
    assert [label_of(source, view, clip=False) for view in views] == [
        "picture 0, whole view",
        "picture 0, 2 tiles",
        "picture 1",
    ]
    assert label_of(source, views[2], clip=True, tokens=1) == "frame 1, 1.50 s: 1 token"
    assert together(source) == 1


def test_tokens_are_counted_where_they_are_at_home() -> None:
    """In the labels of the panels; and a crop leaves something that no tile shows."""
    source = grid()
    marked = Marked.of(Patches.of_patches(source, torch.zeros(16, 1)).select(torch.arange(3, 16)))
    out = panels_of(marked, [plain(20, 40), plain(10, 20)], views_of(source), 80, clip=False)
    assert [panel.label for panel in out.panels] == [
        "picture 0, whole view: 1 token",
        "picture 0, 2 tiles: 8 tokens",
        "picture 1: 4 tokens",
    ]
    assert [panel.pixels.shape for panel in out.panels] == [(48, 80, 3), (48, 80, 3), (48, 80, 3)]
    assert out.unseen


def test_views_are_picked() -> None:
    """Of one picture, or as many as may be, evenly spaced."""
    tiles = tuple(Tile(frame=i, box=(0.0, 0.0, 4.0, 4.0)) for i in range(10))
    source = Source(tiles, 1, 1, ((4, 4),) * 10, tuple(map(float, range(10))))
    assert [view.frame for view in shown_views(source, most=4)] == [0, 2, 5, 7]
    assert [view.frame for view in shown_views(source, picture=3)] == [3]


def test_a_patch_is_marked_where_it_is() -> None:
    """A red dot in its middle; without a patch nothing changes."""
    source = padded()
    base = ground(source, views_of(source)[0], plain(20, 40), 80)
    pixels = marked_patch(base, base.pixels, 5)
    assert pixels[30, 30].tolist() == [235, 20, 20]
    assert marked_patch(base, base.pixels, -1).equal(base.pixels)
