"""Frames of a clip encoded as they arrive: what the tower sees of the past are keys and values.

    stream = PvcStream(model.vision, time="index")
    for tiles in arriving:
        patches = stream.push(tiles)

The same as encoding all frames at once. Keys and values of earlier frames stay: for each temporal layer, and
for each frame, two vectors for every place.
"""

# T = frames that arrive at once

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from ..errors import MediaError, WiringError
from ..values import Patches, Source, Tiles
from .handle import Model
from .pvc import Past, time_value
from .tower import VisionTower, tile_grid
from .tower_pvc import Progressive, PvcTower, pvc_facts

Features = Literal["patch", "cls_patch"]


class PvcStream:
    """One clip, frame after frame; options as encode_pvc has them. Frames are tiles, one for each.

    length: frames that the clip will have, which the times `fraction` and `fraction_inclusive` need. Errors:
    WiringError without it, for a tower without temporal modules, and for options that do not exist or that it
    has no weights for.
    """

    def __init__(
        self,
        vision: Model[VisionTower],
        *,
        temporal_layers: int | None = None,
        adaln_on: Sequence[str] | None = None,
        time: str = "auto",
        time_scale: float | None = None,
        length: int | None = None,
        layer: int | None = None,
        features: Features = "patch",
        interpolate: bool = False,
    ) -> None:
        if length is not None and length < 1:
            raise WiringError(f"PvcStream.length: {length}, wanted 1 or more, or None if it is not known")
        if vision.facts.tower is not None:
            pvc_facts("PvcStream", vision.facts.tower)
        tower = vision.load()
        assert isinstance(tower, PvcTower), "its facts say so"
        self._tower, self.length, self.features, self.interpolate = tower, length, features, interpolate
        self.layer = tower.facts.select_layer if layer is None else layer
        self.how = Progressive.of("PvcStream", tower.facts, temporal_layers, adaln_on, time, time_scale)
        time_value("PvcStream", self.how.time, 0, length)
        self._past = {number: Past(length) for number in self.how.layers}
        self._size: tuple[int, int] | None = None
        self.frames = 0

    def push(self, tiles: Tiles) -> Patches:
        """The patches of the next frames. Errors: MediaError for more than the clip has, and other sizes."""
        new, size = len(tiles), (tiles.pixels.shape[3], tiles.pixels.shape[2])
        if self.length is not None and self.frames + new > self.length:
            raise MediaError(
                f"PvcStream.push: {new} more frames after {self.frames}, but the clip has {self.length}"
            )
        if self._size not in (None, size):
            raise MediaError(f"PvcStream.push: frames of {_by(size)} after frames of {_by(self._size)}")
        if len({tile.frame for tile in tiles.layout}) < new:
            raise MediaError(
                f"PvcStream.push: {new} tiles of {len({tile.frame for tile in tiles.layout})} frames; wanted "
                "one tile for each (tile_dynamic: max_num: 1)"
            )
        rows, cols = tile_grid(self._tower.facts, tiles.pixels, self.interpolate)
        numbers = range(self.frames, self.frames + new)
        rule, scale = self.how.time, self.how.time_scale
        time = [time_value("PvcStream", rule, number, self.length, scale) for number in numbers]
        hidden = self._tower.encode_more(
            tiles.stacked(),
            torch.tensor(time),
            self.how,
            self._past,
            layer=self.layer,
            cls_token=self.features == "cls_patch",
            interpolate=self.interpolate,
        )
        self.frames, self._size = self.frames + new, size
        layout = tuple(
            replace(tile, sequence=0, time=number, length=self.length or 0)
            for tile, number in zip(tiles.layout, numbers, strict=True)
        )
        source = Source(layout, rows, cols, tiles.sizes, tiles.seconds)
        return Patches.of_patches(source, hidden.flatten(0, 1), cls_token=self.features == "cls_patch")


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
