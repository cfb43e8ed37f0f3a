"""What every back end offers: the frames that can be shown, numbered from 0, at their true times.

T = frames asked for, N = frames of the clip, H, W = shown size in pixels (rotation applied)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

Pixels: TypeAlias = NDArray[np.uint8]
Backend = Literal["auto", "decord", "pyav"]


class PartialDecode(MediaError):  # noqa: N818  (the name of the state it describes)
    """Frames that the file lists but that cannot be decoded. `got` maps the wanted indices that could."""

    def __init__(self, message: str, got: dict[int, Pixels]) -> None:
        super().__init__(message)
        self.got = got


class FrameSource(ABC):
    """One open clip.

    path: the file or folder. backend: name and version, e.g. `decord 3.4.0`. pts: [N] float64, seconds from
    the first frame shown. fps: average. rotation: degrees that were applied. width, height: as shown. first:
    the number upstream readers give the first frame (1 for folders of frames, else 0).
    """

    path: Path
    backend: str
    pts: NDArray[np.float64]
    fps: float
    rotation: int
    width: int
    height: int
    first: int = 0

    @abstractmethod
    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3], in the order asked for; repeats are allowed.

        out: memory to write them into, if they have its shape.
        Errors: IndexError outside 0..N-1; PartialDecode when the file lists frames that cannot be decoded.
        """

    def close(self) -> None:
        """Let go of the file."""
        return None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last, which is taken to last 1 / fps."""
        return float(self.pts[-1]) + 1.0 / self.fps

    def check(self, indices: Sequence[int]) -> None:
        """An IndexError for the first index outside the clip."""
        for i in indices:
            if not 0 <= i < len(self):
                raise IndexError(f"{self.path}: frame {i} was asked for, the clip has 0..{len(self) - 1}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def gather(path: Path, got: dict[int, Pixels], indices: Sequence[int], out: Pixels | None) -> Pixels:
    """The frames in the order asked for, or the PartialDecode that says which are missing.

    out: memory for them, see `room`.
    """
    missing = sorted({i for i in indices if i not in got})
    if missing:
        raise PartialDecode(
            f"{path}: {len(missing)} of {len(set(indices))} wanted frames cannot be decoded "
            f"(the first is frame {missing[0]}), the file is damaged or cut off; mend the file, "
            "or set damaged: clamp to repeat the last frame that can be read",
            got,
        )
    pixels = room((len(indices), *next(iter(got.values())).shape), out)
    for row, i in enumerate(indices):
        pixels[row] = got[i]
    return pixels


def room(shape: tuple[int, ...], out: Pixels | None) -> Pixels:
    """`out` when it has this shape, else new memory: uint8, not yet written."""
    return out if out is not None and out.shape == shape else np.empty(shape, np.uint8)


def average_fps(pts: NDArray[np.float64], told: Any) -> float:
    """The rate the file tells, else the one that its times give; 1.0 for a single frame."""
    if told:
        return float(told)
    span = float(pts[-1] - pts[0])
    return (len(pts) - 1) / span if span > 0 else 1.0


def bad_file(path: Path, reason: str, advice: str) -> MediaError:
    """`PATH: what came, what was wanted; what to do`."""
    return MediaError(f"{path}: {reason}; {advice}")
