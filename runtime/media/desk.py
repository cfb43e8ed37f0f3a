"""What a worker has at hand: the clip it opened last, and shared memory for what it reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..video.choose import open_source
from ..video.source import FrameSource
from .wire import Block, new_block

KEPT = 64 << 20  # bytes: answers up to this size are copied out of memory that is used again and again


class Desk:
    """Belongs to one worker; no thread but its main one uses it."""

    def __init__(self) -> None:
        self._source: FrameSource | None = None
        self._known: tuple[Any, ...] = ()
        self._asked = ""
        self._kept: Block | None = None  # lies ready for the next answer: fresh pages cost more than pixels
        self._known_there = False
        self._block: Block | None = None  # of this answer
        self._array: NDArray[Any] | None = None

    def source(self, path: Path, backend: str = "auto", fps: float | None = None) -> FrameSource:
        """The open clip: the one at hand if it is this one and unchanged, else opened now."""
        known = (str(path), os.getcwd(), fps, *_state(path))
        held = self._source
        if held is None or known != self._known or backend not in (self._asked, held.backend):
            self.close()
            self._source = held = open_source(path, backend=backend, fps=fps)
            self._known, self._asked = known, backend
        return held

    def empty(self, shape: Sequence[int], dtype: Any = np.uint8) -> NDArray[Any]:
        """Shared memory for the answer, not cleared: an array that is filled in and given needs no copy."""
        self.clear()
        size = prod(shape) * np.dtype(dtype).itemsize
        if size > KEPT:
            self._block = new_block((size,))
        else:
            if self._kept is None or len(self._kept.array) < size:
                self._drop(self._kept)
                self._kept, self._known_there = new_block((size,)), False
            self._block = self._kept
        self._array = self._block.array[:size].view(dtype).reshape(shape)
        return self._array

    def give(self, array: NDArray[Any]) -> tuple[dict[str, Any], int | None]:
        """What to say of an array, and the descriptor to send along if the other side lacks it."""
        if self._array is not array:
            np.copyto(self.empty(array.shape, array.dtype), array)
        assert self._block is not None
        kept = self._block is self._kept
        known, self._known_there = kept and self._known_there, kept or self._known_there
        told = {"shape": array.shape, "dtype": array.dtype.str, "block": len(self._block.array), "kept": kept}
        return told, None if known else self._block.descriptor

    def clear(self) -> None:
        """The answer was sent: let go of its memory, unless the next one will lie there."""
        if self._block is not self._kept:
            self._drop(self._block)
        self._block = self._array = None

    def _drop(self, block: Block | None) -> None:
        if block is not None:
            os.close(block.descriptor)

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
