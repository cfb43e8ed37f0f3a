"""M-RoPE places: text, pictures, gaps, and tokens that have no place."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.errors import PromptError, WiringError
from tokenloom.runtime.mrope import joined, text_places, visual_places
from tokenloom.runtime.values import VisualTokens

from ..towers import made_patches, square_source


def grouped(tiles: int, rows: int, cols: int) -> VisualTokens:
    """Tokens of 2 x 2 patches each, row by row."""
    patches = made_patches(square_source(tiles, rows, cols), cls_token=False)
    tile, row, col = patches.source.coordinates().unbind(1)[1:]
    group = (tile * (rows // 2) + row // 2) * (cols // 2) + col // 2
    merged = patches.merge(group)
    return merged.with_features(merged.features, into=VisualTokens)


def test_text_counts_on_along_all_axes() -> None:
    """From where the piece before ended."""
    rope = joined([text_places(2), text_places(0), text_places(1)])
    assert rope.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_a_picture_between_texts() -> None:
    """Rows and columns from its start, one time; the text behind starts after the longer side."""
    rope = joined([text_places(1), visual_places(grouped(1, 4, 6), 2), text_places(1)])
    assert rope[1:7].tolist() == [[1, 1, 1], [1, 1, 2], [1, 1, 3], [1, 2, 1], [1, 2, 2], [1, 2, 3]]
    assert rope[7].tolist() == [4, 4, 4]


def test_dropped_tokens_leave_gaps() -> None:
    """Those that stay are where they were, and so is the text behind."""
    tokens = grouped(1, 6, 4)
    full = joined([visual_places(tokens, 2), text_places(2)])
    stay = torch.tensor([0, 3, 4])
    some = joined([visual_places(tokens.select(stay), 2), text_places(2)])
    assert some.equal(full[[0, 3, 4, 6, 7]])


def test_a_place_of_its_own() -> None:
    """The side channel says where a merged token sits."""
    tokens = grouped(2, 4, 4)
    tokens = tokens.select(torch.tensor([4, 5]))  # of the second tile, patches 16 and 18
    assert visual_places(tokens, 2).offset.tolist() == [[0, 0, 0], [0, 0, 1]]
    moved = tokens.with_side(place=torch.tensor([26, 18]))
    assert visual_places(moved, 2).offset.tolist() == [[0, 1, 1], [0, 0, 1]]


def test_several_tiles_in_one_slot() -> None:
    """Clips and tile grids have no places yet."""
    with pytest.raises(PromptError) as error:
        visual_places(grouped(3, 4, 4), 2)
    assert str(error.value) == (
        "place_tokens: 3 tiles in one slot, but this model's positions are those of one picture per slot; "
        "give every picture an <image> of its own"
    )


def test_tokens_without_patches() -> None:
    """A [CLS] has no row and column."""
    patches = made_patches(square_source(1, 2, 2))
    with pytest.raises(WiringError) as error:
        visual_places(patches.with_features(patches.features, into=VisualTokens), 2)
    assert str(error.value) == (
        "place_tokens.visual: some tokens stand for no patch, but this model's positions are those of "
        "patches; wire tokens without [CLS], newlines and separators"
    )
