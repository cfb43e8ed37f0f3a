"""Which frames of a clip stand for it: index rules, exact to the released codes they are named after.

N = frames of the clip, n = frames wanted. Indices are in 0..N-1 and in order; short clips repeat frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

FAR = 100_000.0  # seconds; what the released codes put for an open bound


def segment_middles(
    n: int, *, fps: float, last: int, first: int = 0, start: float | None = None, end: float | None = None
) -> list[int]:
    """Middles of `n` equal parts between two frame numbers: InternVL's and PLLaVA's `get_index`.

    first, last: smallest and largest number that may appear; start, end: seconds or None. `last` works like
    an exclusive end, so the last frame is hardly ever taken (as released). Both roundings are half to even.
    """
    begin = max(first, round((-FAR if start is None else start) * fps))
    finish = min(round((FAR if end is None else end) * fps), last)
    part = float(finish - begin) / n
    return [int(begin + part / 2 + np.round(part * k)) for k in range(n)]


def segment_starts(n: int, *, count: int) -> list[int]:
    """PLLaVA's demo rule: steps of (count - 1) / n from half a step on."""
    part = float(count - 1) / n
    begin = int(part / 2)
    return [begin + int(np.round(part * k)) for k in range(n)]


def centres(n: int, low: int, high: int) -> list[int]:
    """The frames at the middles of `n` equal parts of low..high (inclusive): every frame counts the same."""
    count = high - low + 1
    return [low + (2 * k + 1) * count // (2 * n) for k in range(n)]


def ends_included(n: int, low: int, high: int) -> list[int]:
    """`n` evenly spaced frames from low to high, both included, truncated (LLaVA-NeXT's linspace)."""
    return [int(i) for i in np.linspace(low, high, n, dtype=int)]


def every(seconds: float, pts: Sequence[float] | NDArray[np.float64], low: int, high: int) -> list[int]:
    """The frame on show at every `seconds`, from frame low on to frame high."""
    times = np.asarray(pts, np.float64)
    steps = int(np.floor((times[high] - times[low]) / seconds + 1e-6)) + 1
    asked = times[low] + seconds * np.arange(steps) + 1e-6
    return [int(i) for i in np.searchsorted(times[: high + 1], asked, side="right") - 1]


def within(pts: NDArray[np.float64], start: float | None, end: float | None) -> tuple[int, int]:
    """First and last frame on show between two times; at least the one on show at `start`."""
    low = 0 if start is None else int(np.searchsorted(pts, start + 1e-6, side="right")) - 1
    high = len(pts) - 1 if end is None else int(np.searchsorted(pts, end - 1e-6, side="left")) - 1
    low = max(low, 0)
    return low, max(high, low)


def check_bounds(seconds: float, start: float | None, end: float | None, where: str) -> None:
    """A MediaError for bounds that leave nothing of a clip of that length."""
    if start is not None and end is not None and start >= end:
        raise MediaError(f"{where}: start {start:g} s is not before end {end:g} s; swap or widen them")
    if start is not None and start >= seconds:
        raise MediaError(
            f"{where}: start {start:g} s is after the clip's end ({seconds:.3f} s); choose an earlier one"
        )
    if end is not None and end <= 0:
        raise MediaError(f"{where}: end {end:g} s is before the clip begins; choose a later one")
