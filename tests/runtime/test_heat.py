"""Numbers as colours."""

from __future__ import annotations

import torch

from tokenloom.runtime.ground import Ground, ground
from tokenloom.runtime.heat import bar_of, coloured, heated, over_box, over_patches, stretched
from tokenloom.runtime.patch_boxes import views_of
from tokenloom.runtime.values import Source, Tile


def test_linear_zoom_puts_outer_centres_on_the_edge() -> None:
    """As scipy.ndimage.zoom(order=1): the corners keep their values, between them it is linear."""
    grid = torch.tensor([[0.0, 3.0], [6.0, 9.0]])
    zoomed = over_box(grid, (4, 4), (0, 0, 4, 4), smooth=True)
    want = torch.arange(4)[None] + 2.0 * torch.arange(4)[:, None]
    torch.testing.assert_close(zoomed, want)


def test_blocks_and_boxes() -> None:
    """Each cell a block inside its box; outside, the edge goes on."""
    grid = torch.tensor([[1.0, 2.0]])
    assert over_box(grid, (4, 1), (0, 0, 4, 1), smooth=False).tolist() == [[1, 1, 2, 2]]
    assert over_box(grid, (4, 1), (1, 0, 3, 1), smooth=False).tolist() == [[1, 1, 2, 2]]
    assert over_box(grid, (4, 1), (-4, 0, 4, 1), smooth=False).tolist() == [[2, 2, 2, 2]]


def test_colours_and_stretching() -> None:
    """Lowest to highest; a flat map does not divide by zero."""
    assert stretched(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert stretched(torch.ones(3)).tolist() == [0, 0, 0]
    assert coloured(torch.tensor([[0.0, 1.0]]), "grey").tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert coloured(torch.tensor([[0.0, 1.0]]), "plasma").tolist() == [[[13, 8, 135], [240, 249, 33]]]


def panel() -> tuple[Source, Ground]:
    """One tile of 2 x 2 patches on a grey picture of 60 x 40, drawn at twice its size."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 40.0, 40.0)),), 2, 2, ((60, 40),), (0.0,))
    grey = torch.full((40, 60, 3), 100, dtype=torch.uint8)
    return source, ground(source, views_of(source)[0], grey, 120)


def test_values_of_patches_lie_on_their_patches() -> None:
    """Blocks have one value each; nan beside the tile."""
    source, base = panel()
    shown = over_patches(base, source, torch.tensor([1.0, 2.0, 3.0, 4.0]), smooth=False)
    assert shown[::40, ::40].nan_to_num(-1).tolist() == [[1, 2, -1], [3, 4, -1]]


def test_smooth_values_are_true_at_the_middles() -> None:
    """Linear between the middles of patches, flat beyond the outermost ones."""
    source, base = panel()
    shown = over_patches(base, source, torch.tensor([1.0, 2.0, 3.0, 4.0]), smooth=True)
    assert float(shown[0, 0]) == 1
    torch.testing.assert_close(shown[:2, 39:41].mean(), torch.tensor(1.5))
    torch.testing.assert_close(shown[39:41, 39:41].mean(), torch.tensor(2.5))
    assert bool(shown[:, 80:].isnan().all())


def test_heat_over_a_panel() -> None:
    """Mixed with the colours of the scale; dark where there is no value."""
    source, base = panel()
    value = over_patches(base, source, torch.tensor([0.0, 1.0, 1.0, torch.nan]), smooth=False)
    pixels = heated(base, value, (0.0, 1.0), 0.5, "grey")
    assert [pixels[y, x, 0].item() for y, x in ((0, 0), (0, 79), (79, 79), (0, 119))] == [50, 178, 65, 65]
    assert heated(base, value, (0.0, 0.0), 1.0, "grey")[0, 0].tolist() == [0, 0, 0]


def test_a_scale() -> None:
    """From the colour of the low end to that of the high one."""
    bar = bar_of((0.0, 0.25), "grey", "attention")
    assert (bar.low, bar.high, bar.name) == ("0", "0.25", "attention")
    assert bar.colours[[0, -1], 0].tolist() == [0, 255]
