"""Open whatever is asked about: a picture, several, or a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from ..runtime.errors import MediaError
from ..runtime.foreseen import KnownFrames
from ..runtime.media.front import glance, picture_count
from ..runtime.node import node
from ..runtime.pictures import SUFFIXES
from ..runtime.values import Frames
from ..runtime.video.by_pictures import ANIMATED
from ..runtime.video.choose import check_readable
from ..runtime.widgets import Range
from .media import load_image, load_video
from .sample import Rule, Seconds, sample_frames

Short = Literal["repeat", "fewer"]


def _foresee(
    *,
    path: Path | tuple[Path, ...],
    frames: int,
    rule: Rule,
    fps: float | None,
    start: float | None,
    end: float | None,
    short: Short,
) -> KnownFrames | None:
    """What cannot be read is refused while planning, from the headers alone."""
    clip = _clip(path)
    if clip is None:
        known = load_image.foresee(path=path) if load_image.foresee else None
        return known if isinstance(known, KnownFrames) else None
    try:
        glance(clip)
    except MediaError as error:
        error.args = (f"load_media: {error}",)
        raise
    if rule == "fps" or short == "fewer":
        return None  # the clip decides
    return KnownFrames(count=frames, clip=True)


@node(version=1, lane="io", foresee=_foresee)
def load_media(
    *,
    path: Path | tuple[Path, ...],
    frames: Annotated[int, Range(1)] = 16,
    rule: Rule = "uniform",
    fps: Annotated[float, Range(0.001)] | None = None,
    start: Seconds | None = None,
    end: Seconds | None = None,
    short: Short = "repeat",
) -> Frames:
    """A picture, several pictures, or frames of a clip, whichever the file is: one graph for all of them.

    Errors: MediaError for what is missing, empty, damaged or neither, and for a clip in a list.

    path: a picture file, a list of them, or a clip: a video file, a folder of frames, an animated picture, or
        a .npy array.
    frames: how many of a clip; with rule fps: at most so many.
    rule: which frames of a clip, as in sample_frames.
    fps: frames per second that rule fps takes.
    start: seconds from the beginning of the clip.
    end: seconds from the beginning of the clip.
    short: a clip of fewer frames than wanted repeats some (as released), or gives fewer.
    """
    clip = _clip(path)
    if clip is None:
        return load_image(path=path)
    return sample_frames(
        load_video(path=clip), frames=frames, rule=rule, fps=fps, start=start, end=end, short=short
    )


def _clip(path: Path | tuple[Path, ...]) -> Path | None:
    """The clip that it is; None for pictures."""
    paths = path if isinstance(path, tuple) else (path,)
    clips = [one for one in paths if _is_clip(one)]
    if clips and len(paths) > 1:
        raise MediaError(
            f"load_media.path: {clips[0]} is a clip in a list of {len(paths)}; give a clip alone, or pictures"
        )
    return clips[0] if clips else None


def _is_clip(path: Path) -> bool:
    try:
        check_readable(path, "picture or a video")
        suffix = path.suffix.lower()
        if path.is_dir() or suffix == ".npy":
            return True
        if suffix in SUFFIXES or suffix in ANIMATED:
            return picture_count(path) > 1
    except MediaError as error:
        error.args = (f"load_media: {error}",)
        raise
    return not _is_picture(path)


def _is_picture(path: Path) -> bool:
    """Whether Pillow reads a file whose name does not tell."""
    try:
        return picture_count(path) > 0
    except MediaError:
        return False
