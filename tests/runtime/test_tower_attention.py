"""Attention per patch: a row, what is received, [CLS]."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from tokenloom.nodes.encode import encode_vision
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import NeedError, WiringError
from tokenloom.runtime.needs import Need
from tokenloom.runtime.tower_attention import cls_view, patch_of, received_view, row_of, row_view
from tokenloom.runtime.values import Kind, Patches

from ..towers import random_tiles, tiny_tower, vision_handle

NEEDS = (Need("attention", -2), Need("cls_attention", -2))


def patches(features: Literal["patch", "cls_patch"] = "cls_patch") -> Patches:
    """Two tiles of 4 x 4 patches, each with [CLS] before them."""
    with demand(*NEEDS):
        return encode_vision(vision_handle(tiny_tower()), random_tiles(2), features=features)


def test_a_row_is_that_of_its_patch() -> None:
    """Not of the patch before it: [CLS] is a row and a column of its own; other tiles have no value."""
    seen = patches()
    got = row_view("see", seen, 16 + 5, -2)
    assert bool(got[:16].isnan().all())
    assert got[16:].equal(seen.side["attention@-2"][17 + 1 + 5, 1:])


def test_a_row_does_not_depend_on_cls_rows() -> None:
    """The same with and without [CLS] among the tokens."""
    torch.testing.assert_close(
        row_view("see", patches(), 21, -2), row_view("see", patches("patch"), 21, -2), equal_nan=True
    )


def test_received_is_the_mean_of_the_patches_rows() -> None:
    """Of each tile, [CLS] neither as a row nor as a column."""
    seen = patches()
    weight = seen.side["attention@-2"].reshape(2, 17, 17)[:, 1:, 1:]
    torch.testing.assert_close(received_view("see", seen, -2), weight.mean(1).flatten())


def test_cls_of_patches_and_of_what_they_went_into() -> None:
    """A merged token's score at all of its patches, nan where one is dropped."""
    seen = patches("patch")
    score = seen.side["cls_attention@-2"]
    assert cls_view("see", seen, -2).equal(score)
    pair = seen.select(torch.tensor([1, 2])).merge(torch.zeros(2).long(), kind=Kind.CONTEXTUAL)
    got = cls_view("see", seen.select(torch.tensor([0])).concat(pair), -2)
    assert got[0] == score[0]
    torch.testing.assert_close(got[1:3], score[1:3].mean().expand(2))
    assert bool(got[3:].isnan().all())


def test_patches_that_are_not_there() -> None:
    """Outside the grid, dropped, or merged with others."""
    seen = patches()
    assert patch_of("see", seen, 1, 3) == 19
    with pytest.raises(WiringError, match=r"^see.index: 16 is outside 0..15$"):
        patch_of("see", seen, 0, 16)
    with pytest.raises(WiringError, match=r"^see.tile: 2 is outside 0..1$"):
        patch_of("see", seen, 2, 0)
    with pytest.raises(NeedError) as error:
        row_of("see", seen.select(torch.arange(10)), 20)
    assert str(error.value) == ("see: no token stands for patch 4 of tile 1 alone; wire it to encode_vision")
