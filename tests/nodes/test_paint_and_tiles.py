"""Paint lies on the patches in which the tower would see it: the mask itself, prepared like a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tests.handles import PINPOINTS, image_handle
from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.painted import Mask, painted_shares
from tokenloom.runtime.patch_boxes import clipped_boxes, patch_boxes
from tokenloom.runtime.values import Frames, Source

SMALL = tuple((w // 7, h // 7) for w, h in PINPOINTS)  # tiles of 48
GRID = 6


def handle(**facts: Any) -> Any:
    """A checkpoint whose tiles are the pixels themselves, from 0 to 1, on black."""
    return image_handle(ImageFacts(size=48, mean=(0, 0, 0), std=(1, 1, 1), **facts))


def drawn(width: int, height: int) -> Tensor:
    """[H, W, 3]: two blobs."""
    picture = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((width * 0.1, height * 0.2, width * 0.6, height * 0.7), fill="white")
    pen.rectangle((width * 0.7, height * 0.5, width * 0.9, height * 0.95), fill="white")
    return torch.from_numpy(np.array(picture))


def area(box_P4: Tensor) -> Tensor:
    return (box_P4[:, 2] - box_P4[:, 0]) * (box_P4[:, 3] - box_P4[:, 1])


@pytest.mark.parametrize("size", [(96, 60), (50, 130), (64, 64)])
@pytest.mark.parametrize("aspect", ["pad", "square", "stretch", "anyres", "pllava", "dynamic"])
def test_shares_are_what_the_tower_sees(aspect: Any, size: tuple[int, int]) -> None:
    """Of every patch that shows nothing but picture: its mean brightness is its share of paint."""
    picture = drawn(*size)
    frames = Frames((picture,), torch.zeros(1).double())
    tiles = preprocess(handle(aspect="anyres", pinpoints=SMALL), frames, aspect=aspect)
    source = Source(tiles.layout, GRID, GRID, tiles.sizes, tiles.seconds)
    seen_P = torch.nn.functional.avg_pool2d(tiles.pixels[:, 0], 48 // GRID).flatten().double()
    share_P = painted_shares([Mask("drawn", picture.amax(2))], source)
    whole_P = area(clipped_boxes(source)) > 0.999 * area(patch_boxes(source))
    assert int(whole_P.sum()) >= GRID * GRID // 3
    assert float((seen_P - share_P)[whole_P].abs().max()) < 0.1  # resizing blurs the edges
    assert float((seen_P - share_P)[whole_P].abs().mean()) < 0.01
