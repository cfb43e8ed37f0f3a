"""Small pictures of what a run was asked about, for result files and reports."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from ..errors import LoomError
from ..media.front import open_source, picture_count, read_picture
from ..pictures import SUFFIXES
from ..plan import Plan

SIDE, FRAME_SIDE = 320, 160  # longest sides in pixels: of a picture, of a frame of a clip
FRAMES = 6  # of a clip
MOST = 24  # files that are shown


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture or clip. at: the parameter or setting that names it. jpegs: one, or frames of a clip.

    about: its size, and of a clip its length. problem: why it is not shown, else "".
    """

    at: str
    path: str
    about: str = ""
    jpegs: tuple[bytes, ...] = ()
    problem: str = ""


def inputs_of(plan: Plan) -> Iterator[Shown]:
    """The pictures and clips that the parameters and settings of a plan name; other files are left out."""
    values = list(plan.params.items())
    for step in plan.steps:
        values += [(f"{step.id}.{name}", value) for name, value in step.step.widgets.items()]
    paths = [
        (at, one)
        for at, value in values
        for one in (value if isinstance(value, tuple) else (value,))
        if isinstance(one, Path) and _is_media(one)
    ]
    for at, path in paths[:MOST]:
        yield shown(at, path)
    for at, path in paths[MOST:]:
        yield Shown(at=at, path=str(path), problem=f"only the first {MOST} are shown")


def shown(at: str, path: Path) -> Shown:
    """A picture, or frames of a clip, evenly spread. What cannot be read is told, not raised."""
    try:
        if _is_picture(path):
            pixels = read_picture(path)
            about = f"{pixels.shape[1]} x {pixels.shape[0]}"
            return Shown(at=at, path=str(path), about=about, jpegs=(jpeg(pixels, SIDE),))
        with open_source(path) as source:
            number = np.linspace(0, len(source) - 1, min(FRAMES, len(source))).round().astype(int).tolist()
            frames = source.get(number)
            about = f"{source.width} x {source.height}, {len(source)} frames, {source.seconds:.1f} s"
        jpegs = tuple(jpeg(frame, FRAME_SIDE) for frame in frames)
        return Shown(at=at, path=str(path), about=about, jpegs=jpegs)
    except Exception as error:  # a preview must not cost the result of a run, whatever a decoder raises
        text = str(error) if isinstance(error, LoomError) else f"{type(error).__name__}: {error}"
        return Shown(at=at, path=str(path), problem=text)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and picture_count(path) == 1


def _is_media(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in MEDIA


def jpeg(pixels: NDArray[Any], side: int) -> bytes:
    """RGB uint8 [H, W, 3] as JPEG, scaled down so that no side is longer than `side` pixels."""
    picture = Pil.fromarray(pixels)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
MEDIA = frozenset((*SUFFIXES, *CLIPS, ".gif", ".apng", ".ogv", ".npy"))
