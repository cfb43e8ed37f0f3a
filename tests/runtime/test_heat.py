"""Numbers as colours."""

from __future__ import annotations

import torch

from tokenloom.runtime.heat import coloured, over_box, stretched


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
