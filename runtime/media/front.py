"""Media as nodes read them: in this process, or by a pool of workers, with the same results and errors.

A pool is used inside `with isolated(pool):`, in every node of a run that begins there; else as the
environment says:

TOKENLOOM_DECODE: `inline` (the default) reads in this process, `process` in workers that all share.
TOKENLOOM_DECODE_TIMEOUT: seconds that one file may take in such a worker, 60 unless set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

from .. import pictures, video
from ..context import current, use
from ..errors import MediaError
from ..video import choose
from ..video.source import FrameSource, Pixels
from .pool import TIMEOUT, DecodePool
from .requests import Glance, OpenClip, PictureCount, PictureSize, ReadFrames, ReadPicture, Request, T_co

MODES = ("inline", "process")


def read_picture(path: Path) -> Pixels:
    """RGB uint8 [H, W, 3]; see `pictures.read_picture`."""
    pool = decoder()
    return pictures.read_picture(path) if pool is None else _read(pool, path, ReadPicture())


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height); see `pictures.picture_size`."""
    pool = decoder()
    return pictures.picture_size(path) if pool is None else _read(pool, path, PictureSize())


def picture_count(path: Path) -> int:
    """How many pictures a file holds; see `pictures.picture_count`."""
    pool = decoder()
    return pictures.picture_count(path) if pool is None else _read(pool, path, PictureCount())


def glance(path: Path) -> None:
    """A MediaError for what is no clip; see `video.choose.glance`."""
    pool = decoder()
    if pool is None:
        choose.glance(path)
    else:
        _read(pool, path, Glance())


def open_source(path: Path, *, backend: str = "auto", fps: float | None = None) -> FrameSource:
    """The open clip; see `video.open_source`."""
    pool = decoder()
    if pool is None:
        return video.open_source(path, backend=backend, fps=fps)
    return IsolatedSource(pool, path, backend, fps)


class IsolatedSource(FrameSource):
    """A clip that a worker has open; frames come in shared memory. It opens it again when it must."""

    def __init__(self, pool: DecodePool, path: Path, backend: str, fps: float | None) -> None:
        facts = _read(pool, path, OpenClip(backend, fps))
        self.path, self.backend, self.pts, self.fps = path, facts.backend, facts.pts, facts.fps
        self.rotation, self.first = facts.rotation, facts.first
        self.width, self.height = facts.width, facts.height
        self._pool, self._told_fps = pool, fps

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; see `FrameSource.get`."""
        self.check(indices)
        numbers = tuple(map(int, indices))
        pixels = _read(self._pool, self.path, ReadFrames(numbers, self.backend, self._told_fps))
        if out is None or out.shape != pixels.shape:
            return pixels
        out[:] = pixels
        return out


@contextmanager
def isolated(pool: DecodePool) -> Iterator[None]:
    """Runs and calls inside the block read media through `pool`."""
    with use(replace(current(), decoder=pool)):
        yield


def decoder() -> DecodePool | None:
    """The pool that media are read through here; None: read them in this process.

    Errors: MediaError when the environment asks for something else than there is.
    """
    pool = current().decoder
    if pool is not None:
        return pool
    mode = os.environ.get("TOKENLOOM_DECODE") or "inline"
    if mode not in MODES:
        raise MediaError(
            f"TOKENLOOM_DECODE={mode}: wanted {' or '.join(MODES)}; set one of them, or unset it"
        )
    return None if mode == "inline" else _shared()


def told_timeout() -> float:
    """Seconds by TOKENLOOM_DECODE_TIMEOUT, 60 unless set. Errors: MediaError for what is no time."""
    text = os.environ.get("TOKENLOOM_DECODE_TIMEOUT") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise MediaError(
            f"TOKENLOOM_DECODE_TIMEOUT={text}: wanted seconds, such as 60; set it so, or unset it"
        )
    return seconds


_making = Lock()


def _shared() -> DecodePool:
    with _making:
        return _pool_of(os.getpid(), told_timeout())  # a fork has none of its parent's threads


@lru_cache(maxsize=1)
def _pool_of(process: int, timeout: float) -> DecodePool:
    return DecodePool(timeout=timeout)


def _read(pool: DecodePool, path: Path, request: Request[T_co]) -> T_co:
    return pool.read(path, request, current().cancelled)
