"""Which back end reads a clip: decord, unless the file has something that decord gets wrong."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import MediaError
from ..pictures import SUFFIXES, picture_count
from .by_pictures import ANIMATED, AnimationSource, ArraySource, FolderSource
from .source import FrameSource, bad_file

UNSEEKABLE = ("mpegts", "mpeg", "h264", "hevc")  # formats without an index


def open_source(path: Path, *, backend: str = "auto", fps: float | None = None) -> FrameSource:
    """The open clip; `backend` may also be what `FrameSource.backend` says of an earlier opening.

    fps: rate of a folder, an array or an animation that does not tell its own. Errors: MediaError for what is
    missing, empty, unreadable, or audio only.
    """
    check_readable(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        return FolderSource(path, fps)
    if suffix == ".npy":
        return ArraySource(path, fps)
    if suffix in ANIMATED:
        return AnimationSource(path, fps)
    kind = backend.split(" ")[0]
    if kind == "auto":
        return _auto(path)
    return _by_pyav(path) if kind == "pyav" else _by_decord(path, _rotation(path))


def check_readable(path: Path, what: str = "video") -> None:
    """A MediaError when nothing is there, or nothing is in it."""
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), 1)
        hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else f"; give the path of a {what}"
        raise MediaError(f"{path}: no such file{hint}")
    if path.is_file() and path.stat().st_size == 0:
        raise bad_file(path, "the file is empty (0 bytes)", "fetch or write it again")


def glance(path: Path) -> None:
    """A MediaError for what is missing, empty, a still picture or no clip, from the header alone."""
    check_readable(path)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".npy":
        return
    if suffix not in SUFFIXES and suffix not in ANIMATED:
        probe(path)
    elif picture_count(path) == 1 and suffix != ".gif":
        raise bad_file(
            path, "is one still picture, wanted a clip", "use load_image, or give a folder of pictures"
        )


def probe(path: Path) -> str:
    """Why decord would read this file wrongly: a short reason, or "" when it would not.

    Errors: MediaError when the file is no video at all.
    """
    from .by_pyav import open_container, video_stream

    with open_container(path) as container:
        stream = video_stream(path, container)
        if container.format.name in UNSEEKABLE:
            return f"{container.format.name} has no index"
        entries = list(getattr(stream, "index_entries", None) or ())
        if any(entry.is_discard for entry in entries):
            return "an edit list hides frames"
        if entries and max(entry.pos + entry.size for entry in entries) > path.stat().st_size:
            return "the file is cut off"
    return ""


def _auto(path: Path) -> FrameSource:
    if probe(path):
        return _by_pyav(path)
    try:
        return _by_decord(path, _rotation(path))
    except MediaError:
        return _by_pyav(path)


def _by_pyav(path: Path) -> FrameSource:
    from .by_pyav import PyAvSource

    return PyAvSource(path)


def _by_decord(path: Path, rotation: int) -> FrameSource:
    from .by_decord import DecordSource

    return DecordSource(path, rotation)


def _rotation(path: Path) -> int:
    """Degrees that the first frame asks to be turned by; decord turns, but does not tell."""
    from .by_pyav import decoded, open_container, turn_of, video_stream

    with open_container(path) as container:
        frame = next(decoded(container, video_stream(path, container)), None)
        return 0 if frame is None else turn_of(frame)


def _siblings(path: Path) -> list[str]:
    try:
        return [p.name for p in path.parent.iterdir()]
    except OSError:
        return []
