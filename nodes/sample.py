"""Choose frames of a clip and decode them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch

from ..runtime.errors import MediaError, MediaNotice
from ..runtime.foreseen import KnownFrames
from ..runtime.machine import machine_bytes
from ..runtime.media.front import open_source
from ..runtime.node import node
from ..runtime.values import Frames, Video
from ..runtime.video import FrameSource, PartialDecode, rules
from ..runtime.widgets import Range

Rule = Literal["uniform", "linspace", "internvl", "pllava", "pllava_demo", "fps"]
Seconds = Annotated[float, Range(0)]


def _foresee(video: object, *, frames: int, rule: Rule, short: str, **_: object) -> KnownFrames | None:
    if rule == "fps" or short == "fewer":
        return None  # the clip decides
    return KnownFrames(count=frames, clip=True)


@node(version=1, lane="io", foresee=_foresee)
def sample_frames(
    video: Video,
    *,
    frames: Annotated[int, Range(1)] = 16,
    rule: Rule = "uniform",
    fps: Annotated[float, Range(0.001)] | None = None,
    start: Seconds | None = None,
    end: Seconds | None = None,
    short: Literal["repeat", "fewer"] = "repeat",
    damaged: Literal["strict", "clamp"] = "strict",
) -> Frames:
    """Frames of a clip at their true times, chosen by an index rule and decoded by the clip's back end.

    Errors: MediaError for bounds outside the clip, for damaged frames, and for a missing `fps`. Warns with a
    MediaNotice when more frames are wanted than there are.

    frames: how many; with rule fps: at most so many.
    rule: uniform: middles of equal parts; linspace: both ends included (LLaVA-NeXT); internvl, pllava:
        middles as their released codes round them (the last frame is hardly ever taken); pllava_demo:
        PLLaVA's demo; fps: the frame on show every 1 / fps seconds.
    fps: frames per second that rule fps takes.
    start: seconds from the beginning of the clip.
    end: seconds from the beginning of the clip.
    short: a clip of fewer frames than wanted repeats some (as released), or gives fewer.
    damaged: frames that cannot be decoded are an error, or repeat the readable frame before them.
    """
    if rule == "fps" and fps is None:
        raise MediaError("sample_frames: rule fps needs a rate; set fps, e.g. fps: 1")
    with open_source(Path(video.path), backend=video.backend, fps=video.fps) as source:
        _check_memory(source, frames if rule != "fps" else min(frames, len(source)))
        index = choose(source, rule, frames, fps, start, end)
        _check_memory(source, len(index))
        if short == "fewer":
            index = list(dict.fromkeys(index))
        elif rule != "fps":  # which repeats as a screen would
            _tell_of_repeats(source, frames, start, end)
        try:
            pixels = source.get(index)
        except PartialDecode as error:
            if damaged == "strict" or not error.got:
                raise MediaError(f"sample_frames: {error}") from error
            index = [_nearest(i, sorted(error.got)) for i in index]
            pixels = np.stack([error.got[i] for i in index])
        return Frames.of_video(torch.from_numpy(pixels), torch.from_numpy(source.pts[index]))


def _check_memory(source: FrameSource, frames: int) -> None:
    """A MediaError for more pixels than half of the machine's memory, before one of them is decoded."""
    size, most = frames * source.height * source.width * 3, machine_bytes() // 2
    if size > most:
        raise MediaError(
            f"sample_frames: {frames} frames of {source.width}x{source.height} are {size / 1e9:.1f} GB of "
            f"pixels, wanted at most {most / 1e9:.1f} GB (half of this machine's memory); take fewer frames"
        )


def _tell_of_repeats(source: FrameSource, frames: int, start: float | None, end: float | None) -> None:
    low, high = rules.within(source.pts, start, end)
    if frames > (there := high - low + 1):
        where = "the clip has" if start is None and end is None else "between these bounds the clip has"
        warnings.warn(
            f"sample_frames: {frames} frames of {source.path.name}, {where} {there}; some are repeated, as "
            "by the released codes (short: fewer takes every frame once)",
            MediaNotice,
            stacklevel=2,
        )


def choose(
    source: FrameSource, rule: Rule, n: int, fps: float | None, start: float | None, end: float | None
) -> list[int]:
    """The frame numbers that a rule picks, each 0..N-1."""
    count = len(source)
    rules.check_bounds(source.seconds, start, end, "sample_frames")
    if rule in ("internvl", "pllava"):
        first = source.first if rule == "pllava" else 0
        numbers = rules.segment_middles(
            n, fps=source.fps, last=count - 1 + first, first=first, start=start, end=end
        )
        return [min(max(i - first, 0), count - 1) for i in numbers]
    low, high = rules.within(source.pts, start, end)
    if rule == "pllava_demo":
        return [low + i for i in rules.segment_starts(n, count=high - low + 1)]
    if rule == "fps" and fps is not None:
        shown = rules.every(1 / fps, source.pts, low, high)
        return shown if len(shown) <= n else [shown[i] for i in rules.centres(n, 0, len(shown) - 1)]
    return (rules.ends_included if rule == "linspace" else rules.centres)(n, low, high)


def _nearest(i: int, readable: list[int]) -> int:
    """The last readable frame up to i, else the first there is."""
    return max((r for r in readable if r <= i), default=readable[0])
