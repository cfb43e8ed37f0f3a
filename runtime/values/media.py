"""Media: handles to files, decoded pictures, and normalised tiles with their place in the picture.

T = pictures, K = tiles, U = different ones, H, W = picture size, h, w = tile size, all in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

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
    whole picture (a base tile or thumbnail) beside the grid. sequence, time: the clip it is encoded with, and
    as which of its frames (PVC). length: frames of that clip, 0: not said.
    """

    frame: int
    row: int = 0
    col: int = 0
    box: tuple[float, float, float, float]
    whole: bool = False
    sequence: int = 0
    time: int = 0
    length: int = 0


@dataclass(frozen=True, eq=False)
class Tiles:
    """Normalised pixels [U, 3, h, w] float32, where each of K tiles comes from, and the pictures' sizes.

    sizes: (width, height). seconds: the time of every picture. shown: the row of `pixels` that each tile
    shows, when tiles are repeated (PVC); () when each tile has its own, in order. clips: of every picture the
    number of the clip that it is a moment of, -1 of a picture in its own right; () when all are that.
    """

    pixels: Tensor
    layout: tuple[Tile, ...]
    sizes: tuple[tuple[int, int], ...]
    seconds: tuple[float, ...]
    shown: tuple[int, ...] = ()
    clips: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rows, tiles = len(self.pixels), len(self.shown) or len(self.pixels)
        if self.pixels.ndim != 4 or self.pixels.shape[1] != 3 or not self.pixels.is_floating_point():
            raise ValueError(
                f"Tiles: pixels are {tuple(self.pixels.shape)} {self.pixels.dtype}, wanted [K, 3, h, w] float"
            )
        if len(self.layout) != tiles or not self.layout:
            raise ValueError(f"Tiles: {tiles} tiles, but {len(self.layout)} places")
        if self.shown and not 0 <= min(self.shown) <= max(self.shown) < rows:
            raise ValueError(f"Tiles: a tile shows row {max(self.shown)} of {rows} (or one before the first)")
        if max(tile.frame for tile in self.layout) >= len(self.sizes) or len(self.sizes) != len(self.seconds):
            raise ValueError(f"Tiles: a tile names a picture that is not there ({len(self.sizes)} pictures)")
        if len(self.clips) not in (0, len(self.sizes)):
            raise ValueError(f"Tiles: {len(self.sizes)} pictures, but the clips of {len(self.clips)}")

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        of = f"{len(self)} of " if self.shown else ""
        return f"Tiles[{of}{brief(self.pixels)}]"

    def stacked(self) -> Tensor:
        """[K, 3, h, w]: the pixels of every tile, those of repeated ones again."""
        return self.pixels[list(self.shown)] if self.shown else self.pixels


def clips_of(frames: Sequence[Frames]) -> tuple[int, ...]:
    """`Tiles.clips` of the pictures of several wires, numbered through."""
    if not any(some.clip for some in frames):
        return ()
    number = count()
    return tuple(n for some in frames for n in [next(number) if some.clip else -1] * len(some))
