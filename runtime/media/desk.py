"""What a worker has at hand: the clip it opened last, and shared memory for what it reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..video.choose import open_source
from ..video.source import FrameSource
from .wire import Block, new_block


class Desk:
    """Belongs to one worker; no thread but its main one uses it."""

    def __init__(self) -> None:
        self._source: FrameSource | None = None
        self._known: tuple[Any, ...] = ()
        self._asked = ""
        self._block: Block | None = None

    def source(self, path: Path, backend: str = "auto", fps: float | None = None) -> FrameSource:
        """The open clip: the one at hand if it is this one and unchanged, else opened now."""
        known = (str(path), os.getcwd(), fps, *_state(path))
        held = self._source
        if held is None or known != self._known or backend not in (self._asked, held.backend):
            self.close()
            self._source = held = open_source(path, backend=backend, fps=fps)
            self._known, self._asked = known, backend
        return held

    def empty(self, shape: Sequence[int]) -> NDArray[Any]:
        """Shared memory for the answer: an array that is filled in and given back needs no copy."""
        self.clear()
        self._block = new_block(shape)
        return self._block.array

    def block_of(self, array: NDArray[Any]) -> Block:
        """Shared memory that holds this array: the answer's own, or a copy."""
        if self._block is None or self._block.array is not array:
            self.clear()
            self._block = new_block(array.shape, array.dtype)
            np.copyto(self._block.array, array)
        return self._block

    def clear(self) -> None:
        """Let go of the answer's memory; who was sent it keeps it."""
        if self._block is not None:
            os.close(self._block.descriptor)
            self._block = None

    def close(self) -> None:
        """Let go of the clip at hand."""
        if self._source is not None:
            self._source.close()
        self._source, self._known, self._asked = None, (), ""


def _state(path: Path) -> tuple[int, ...]:
    try:
        s = os.stat(path)
    except OSError:
        return ()
    return (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
