"""A clip cut into segments: runs of frames that belong together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segments:
    """of_frame: [T] long, the segment of every frame: 0..S-1, rising, each a run of frames."""

    of_frame: Tensor

    def __post_init__(self) -> None:
        step = self.of_frame.diff()
        ok = self.of_frame.ndim == 1 and self.of_frame.dtype == torch.long and len(self.of_frame) > 0
        if not ok or int(self.of_frame[0]) != 0 or not bool(((step == 0) | (step == 1)).all()):
            raise ValueError(
                f"Segments: of_frame is {self.of_frame.tolist()}, wanted segment numbers that start at 0 and "
                "stay or rise by 1 from frame to frame"
            )

    def __len__(self) -> int:
        return int(self.of_frame[-1]) + 1

    def __repr__(self) -> str:
        return f"Segments[{' + '.join(map(str, self.lengths.tolist()))} frames]"

    @property
    def frames(self) -> int:
        """T."""
        return len(self.of_frame)

    @property
    def lengths(self) -> Tensor:
        """[S] long: frames of each segment."""
        return torch.bincount(self.of_frame)
