"""Attention maps, overlays, previews."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.inspect import (
    attention_map,
    heatmap_overlay,
    token_mask_preview,
)
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import LoomError, MediaError, NeedError, WiringError
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Frames, Patches, Source, Table, Tile, Tiles

from ..towers import random_tiles, tiny_tower, vision_handle


def patches() -> Patches:
    """Two tiles with the attention of the last layer but one."""
    with demand(Need("attention", -2)):
        return encode_vision(vision_handle(tiny_tower()), random_tiles(2), features="cls_patch")


def frames(height: int, width: int, value: int = 0) -> Frames:
    """One plain picture."""
    return Frames((torch.full((height, width, 3), value, dtype=torch.uint8),), torch.zeros(1).double())


def rows_of(table: Table) -> torch.Tensor:
    return torch.tensor(table.rows)


def test_the_row_of_a_patch() -> None:
    """Without the [CLS] column; `previous` is the released demo's slip."""
    seen = patches()
    weights = seen.side["attention@-2"][17:, 1:]  # the second tile: [CLS], then 16 patches
    assert rows_of(attention_map(seen, index=5, tile=1)).flatten().equal(weights[6])
    assert rows_of(attention_map(seen, index=5, tile=1, previous=True)).flatten().equal(weights[5])
    assert rows_of(attention_map(seen, index=0, tile=1, previous=True)).flatten().equal(weights[0])


def test_what_patches_receive() -> None:
    """Mean over the rows of patches, not of [CLS]."""
    seen = patches()
    got = rows_of(attention_map(seen, reduce="received"))
    torch.testing.assert_close(got.flatten(), seen.side["attention@-2"][1:17, 1:].mean(0))


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"index": 16}, WiringError, "attention_map.index: 16 is outside 0..15"),
        ({"tile": 2}, WiringError, "attention_map.tile: 2 is outside 0..1"),
        (
            {"layer": -3},
            NeedError,
            "attention_map: the tokens carry no attention@-3 (side channels: attention@-2); a graph asks for "
            'it by itself, in an eager call encode inside `with demand(Need("attention", layer=-3))`',
        ),
    ],
)
def test_maps_that_are_not_there(settings: dict[str, Any], kind: type[LoomError], message: str) -> None:
    """Patches, tiles and layers outside what was encoded."""
    with pytest.raises(kind) as error:
        attention_map(patches(), **settings)
    assert str(error.value) == message


def test_the_previous_patch_of_the_first_needs_cls() -> None:
    """Features without [CLS] rows cannot show it."""
    with demand(Need("attention", -2)):
        bare = encode_vision(vision_handle(tiny_tower()), random_tiles(1))
    with pytest.raises(NeedError) as error:
        attention_map(bare, previous=True)
    assert str(error.value) == (
        "attention_map: no token stands for [CLS] of tile 0; "
        "wire it to encode_vision with features: cls_patch"
    )


def test_overlay_mixes_and_marks() -> None:
    """Half picture, half colour, and a red dot where asked."""
    heat = Table(("0", "1"), ((0.0, 1.0),))
    shown = heatmap_overlay(frames(20, 40, 100), heat, smooth=False, palette="grey", marker=(30, 10)).pixels
    assert shown[0, 0].tolist() == [50, 50, 50]
    assert shown[0, 39].tolist() == [178, 178, 178]
    assert shown[10, 30].tolist() == [255, 0, 0]


def test_overlay_follows_a_padded_tile() -> None:
    """With tiles, the map lies where the tower saw it: here its middle row covers the picture."""
    tiles = Tiles(torch.zeros(1, 3, 8, 8), (Tile(frame=0, box=(0, -20, 60, 40)),), ((60, 20),), (0.0,))
    heat = Table(("0",), ((0.0,), (1.0,), (0.0,)))
    shown = heatmap_overlay(frames(20, 60), heat, tiles, smooth=False, palette="grey", alpha=1.0).pixels
    assert shown.unique().tolist() == [0]  # all one value: a flat map
    whole = heatmap_overlay(frames(21, 60), heat, smooth=False, palette="grey", alpha=1.0).pixels
    assert whole.unique().tolist() == [0, 255]


def seen_source(box: tuple[float, float, float, float], size: tuple[int, int]) -> Patches:
    """One tile of 4 x 4 patches."""
    source = Source((Tile(frame=0, box=box),), 4, 4, (size,), (0.0,))
    return Patches.of_patches(source, torch.zeros(16, 2))


def test_preview_veils_what_is_gone() -> None:
    """Cells that nothing stands for are under white; `spill` covers one pixel more to the right and below."""
    tokens = seen_source((0, 0, 8, 8), (8, 8))
    kept = tokens.select(torch.arange(1, 16))
    plain = token_mask_preview(frames(8, 8), kept, cell=2)
    want = np.zeros((8, 8), dtype=np.uint8)
    want[:2, :2] = 178
    assert plain.pixels[..., 0].numpy().tolist() == want.tolist()
    assert plain.caption == "15 of 16 patches"
    want[:3, :3] = 178
    spilt = token_mask_preview(frames(8, 8), kept, cell=2, spill=True)
    assert spilt.pixels[..., 0].numpy().tolist() == want.tolist()


def test_pictures_and_tiles_that_are_not_there() -> None:
    """Named with their range."""
    heat = Table(("0",), ((0.0,),))
    with pytest.raises(MediaError, match=r"^heatmap_overlay: picture 1 is outside 0..0$"):
        heatmap_overlay(frames(4, 4), heat, picture=1)
    with pytest.raises(WiringError, match=r"^token_mask_preview.tile: 3 is outside 0..0$"):
        token_mask_preview(frames(4, 4), seen_source((0, 0, 4, 4), (4, 4)), tile=3)
