"""Media: handles to files, decoded pictures, and normalised tiles with their place in the picture.

T = pictures, K = tiles, H, W = picture size, h, w = tile size, all in pixels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .brief import brief


@dataclass(frozen=True, kw_only=True)
class Image:
    """A handle to one picture: decoding is lazy. `width`, `height` are those after EXIF rotation."""

    path: str
    fingerprint: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Video:
    """A handle to a clip: decoding is lazy. `frames`: those that can be shown; `rotation`: degrees."""

    path: str
    fingerprint: str
    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    rotation: int
    backend: str


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded pictures on the CPU: uint8 [H, W, 3] each, with the time of each in seconds, [T] float64.

    A clip's pictures share one size (and usually one memory); several images may each have their own.
    clip: the pictures are moments of one clip, not pictures in their own right.
    """

    pictures: tuple[Tensor, ...]
    time: Tensor
    clip: bool = False

    def __post_init__(self) -> None:
        if not self.pictures:
            raise ValueError("Frames: no picture was given, at least one is needed")
        for i, picture in enumerate(self.pictures):
            if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(
                    f"Frames: picture {i} is {tuple(picture.shape)} {picture.dtype}, wanted [H, W, 3] uint8"
                )
            if 0 in picture.shape:
                raise ValueError(f"Frames: picture {i} is empty: {tuple(picture.shape)}")
        if self.time.shape != (len(self.pictures),):
            raise ValueError(
                f"Frames: {len(self.pictures)} pictures, but times of shape {tuple(self.time.shape)}"
            )

    @classmethod
    def of_video(cls, pixels: Tensor, time: Tensor) -> Frames:
        """Frames of one clip: uint8 [T, H, W, 3] and seconds [T]."""
        return cls(tuple(pixels), time.to(torch.float64), clip=True)

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        sizes = " ".join(f"{w}x{h}" for w, h in dict.fromkeys(self.sizes))
        return f"Frames[{len(self)} of {sizes}]"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every picture."""
        return tuple((p.shape[1], p.shape[0]) for p in self.pictures)

    def stack(self) -> Tensor:
        """uint8 [T, H, W, 3]; a ValueError when the pictures differ in size."""
        if len(set(self.sizes)) > 1:
            raise ValueError(
                f"Frames: pictures of {sorted(set(self.sizes))} cannot be stacked; resize them first"
            )
        return torch.stack(self.pictures)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Where one tile comes from.

    frame: the picture's number. row, col: its cell in the picture's tile grid. box: (left, top, right,
    bottom) in the picture's own pixels, may reach beyond its edge where it was padded. whole: it shows the
    whole picture (a base tile or thumbnail) beside the grid. sequence, time: the clip it is encoded with,
    and when (PVC).
    """

    frame: int
    row: int = 0
    col: int = 0
    box: tuple[float, float, float, float]
    whole: bool = False
    sequence: int = 0
    time: int = 0


@dataclass(frozen=True, eq=False)
class Tiles:
    """Normalised pixels [K, 3, h, w] float32, where each tile comes from, and the pictures' (width, height).

    `seconds` holds the time of every picture.
    """

    pixels: Tensor
    layout: tuple[Tile, ...]
    sizes: tuple[tuple[int, int], ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[1] != 3 or not self.pixels.is_floating_point():
            raise ValueError(
                f"Tiles: pixels are {tuple(self.pixels.shape)} {self.pixels.dtype}, wanted [K, 3, h, w] float"
            )
        if len(self.layout) != len(self.pixels) or not self.layout:
            raise ValueError(f"Tiles: {len(self.pixels)} tiles, but {len(self.layout)} places")
        if max(tile.frame for tile in self.layout) >= len(self.sizes) or len(self.sizes) != len(self.seconds):
            raise ValueError(f"Tiles: a tile names a picture that is not there ({len(self.sizes)} pictures)")

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return f"Tiles[{brief(self.pixels)}]"
