"""Samples side by side."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.errors import PromptError
from tokenloom.runtime.training.batch import Pictures, collate, join_tiles

from .made import batch, example, pictures, tiles


def test_rows_are_filled_up_on_the_right() -> None:
    """ids with the padding, labels with -100, mask False there."""
    made = batch(([1, -200, 5, 6], [None]), ([1, 7], []))
    assert made.ids.tolist() == [[1, -200, 5, 6], [1, 7, 0, 0]]
    assert made.labels.tolist() == [[1, -100, 5, 6], [1, 7, -100, -100]]
    assert made.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert made.pictures == (1, 0)


def test_rows_are_cut() -> None:
    """No row is longer than max_length."""
    made = collate([example(1, 5, 6, 7)], [None], pad=0, max_length=3)
    assert made.ids.tolist() == made.labels.tolist() == [[1, 5, 6]]
    assert made.mask.shape == (1, 3)


def test_pictures_keep_their_order_and_grids() -> None:
    """Tiles of all samples in order, their pictures numbered on, without a dummy for a text."""
    made = batch(([1, -200, -200], [(1, 2), None]), ([1], []), ([-200], [(1, 1)]))
    assert made.tiles is not None
    assert [tile.frame for tile in made.tiles.layout] == [0, 0, 0, 1, 2]
    assert [tile.whole for tile in made.tiles.layout] == [False, False, True, False, False]
    assert made.grids == ((1, 2), None, (1, 1))
    assert made.pictures == (2, 0, 1)
    assert made.tiles.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 0]


def test_texts_alone_have_no_tiles() -> None:
    """A batch without pictures is a batch."""
    made = batch(([1, 5], []), ([1], []))
    assert made.tiles is None
    assert (made.grids, made.pictures) == ((), (0, 0))


def test_grids_are_read_off_the_tiles() -> None:
    """What slice_hd returns says itself how it was sliced; what preprocess returns is whole."""
    assert Pictures.sliced(tiles([(2, 3), (1, 1)])).grids == ((2, 3), (1, 1))
    assert Pictures.whole(tiles([None, None])).grids == (None, None)


def test_grids_must_fit_the_tiles() -> None:
    """A global view is missing here."""
    with pytest.raises(ValueError) as error:
        Pictures(tiles=tiles([None, None]), grids=((1, 2), None))
    assert str(error.value) == "Pictures: [1, 1] tiles of the pictures, wanted [3, 1], picture by picture"


def test_tiles_of_one_size() -> None:
    """Samples prepared for two towers cannot be joined."""
    with pytest.raises(PromptError) as error:
        join_tiles([tiles([None], side=2), tiles([None], side=4)])
    assert str(error.value) == (
        "collate: tiles of 2x2 and 4x4 pixels in one batch; prepare all samples for the same tower"
    )


def test_as_many_pictures_as_samples() -> None:
    """Every sample says what pictures it has, None for none."""
    with pytest.raises(PromptError) as error:
        collate([example(1)], [None, pictures(None)], pad=0)
    assert str(error.value) == "collate: 1 samples and pictures of 2; wanted as many, one or more"
    with pytest.raises(PromptError):
        collate([], [], pad=0)
    assert torch.is_tensor(collate([example(1)], [None], pad=0).ids)
