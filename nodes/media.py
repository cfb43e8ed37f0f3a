"""Open pictures and clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch

from ..runtime.errors import LoomError, MediaError
from ..runtime.files import file_fingerprint
from ..runtime.foreseen import KnownFrames
from ..runtime.media.front import glance, open_source, picture_size, read_picture
from ..runtime.node import node
from ..runtime.values import Frames, Video
from ..runtime.video.choose import check_readable
from ..runtime.video.source import Backend
from ..runtime.widgets import Range


def _paths(path: Path | tuple[Path, ...]) -> tuple[Path, ...]:
    paths = path if isinstance(path, tuple) else (path,)
    if not paths:
        raise MediaError("load_image.path: an empty list; give at least one picture")
    return paths


def _check_picture(path: Path) -> tuple[int, int]:
    try:
        check_readable(path, "picture")
        if path.is_dir():
            raise MediaError(
                f"{path}: a folder, wanted a picture file; a folder of frames is opened by load_video"
            )
        return picture_size(path)
    except LoomError as error:
        error.args = (f"load_image: {error}",)
        raise


def _foresee_image(*, path: Path | tuple[Path, ...]) -> KnownFrames:
    """A bad path is refused while planning, from the header alone."""
    sizes = tuple(_check_picture(one) for one in _paths(path))
    return KnownFrames(count=len(sizes), clip=False, sizes=sizes)


def _foresee_video(*, path: Path, backend: Backend, fps: float | None) -> None:
    """What is missing, empty or no video is refused while planning, from the header alone."""
    try:
        glance(path)
    except MediaError as error:
        error.args = (f"load_video: {error}",)
        raise


@node(version=1, lane="io", foresee=_foresee_image)
def load_image(*, path: Path | tuple[Path, ...]) -> Frames:
    """One picture, or several in the order given: upright by EXIF, RGB, 8 bit.

    Alpha is dropped as Pillow's `convert("RGB")` does (LLaVA's released code), 16-bit greys are scaled, an
    animation gives its first frame. Errors: MediaError for what is missing, empty, damaged or no picture.

    path: a picture file, or a list of them.
    """
    pictures = []
    for one in _paths(path):
        _check_picture(one)
        try:
            pictures.append(torch.from_numpy(read_picture(one)))
        except MediaError as error:
            error.args = (f"load_image: {error}",)
            raise
    return Frames(tuple(pictures), torch.zeros(len(pictures), dtype=torch.float64))


@node(version=1, lane="io", foresee=_foresee_video)
def load_video(
    *, path: Path, backend: Backend = "auto", fps: Annotated[float, Range(0.001)] | None = None
) -> Video:
    """A handle to a clip: size, length and rate, and the back end that will decode it; no frame is kept.

    Errors: MediaError for what is missing, empty, damaged, or holds no video.

    path: a video file, a folder of frames, an animated picture, or a .npy array (uint8 [T, H, W, 3]).
    backend: auto is decord, and PyAV for what decord gets wrong: edit lists, MPEG-TS, cut-off files.
        Folders, animations and arrays need neither.
    fps: rate of a folder or an array, which tell none (3 unless given).
    """
    try:
        glance(path)
        with open_source(path, backend=backend, fps=fps) as source:
            return Video(
                path=os.path.abspath(path),
                fingerprint=file_fingerprint(path),
                width=source.width,
                height=source.height,
                frames=len(source),
                fps=source.fps,
                seconds=source.seconds,
                rotation=source.rotation,
                backend=source.backend,
            )
    except MediaError as error:
        error.args = (f"load_video: {error}",)
        raise
