"""What it costs to read media in a worker process instead of in this one: one worker, both warm.

picture: a JPEG of 640 x 480, read_picture. clip: 16 of 300 frames of 640 x 360 (H.264), as sample_frames
    asks for them: open_source, then get. one frame: the same clip, one frame, so that the way there and back
    weighs most. To reach: a clip within 1.05 of reading it here.
start: a fresh pool's first answer (a file's header), a running pool's, and a fresh Python that imports torch,
    which is what a worker would cost if it did.
crash: a worker that is killed, and the answer of the one that replaces it.
two at once: 8 clips, one after the other here, and through two workers.

`--clock family`: CPU time of both processes together, which other work on the machine hardly changes; `wall`
on a machine that does nothing else. `two at once` says something in wall time only.

    python bench/decode.py --clock family --json bench/results/decode-cpu-DATE.json
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import av
import harness
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from tokenloom.runtime.media import DecodePool
from tokenloom.runtime.media.front import isolated, open_source, picture_size, read_picture

FRAMES, WANTED, SIZE = 300, tuple(range(9, 300, 18))[:16], (640, 360)


@cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="tokenloom-bench-"))
    atexit.register(shutil.rmtree, made)
    return made


@cache
def pool(workers: int = 1) -> DecodePool:
    made = DecodePool(workers)
    atexit.register(made.close)
    return made


@cache
def scene() -> NDArray[np.uint8]:
    """A gradient with some noise: neither free nor hard to code."""
    width, height = SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    noise = np.random.default_rng(0).integers(0, 24, (height, width, 1))
    return (np.stack([x, y, x + y], -1) % 200 + noise).astype(np.uint8)


@cache
def clip() -> Path:
    """The scene, moving by three pixels a frame."""
    path = folder() / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(scene(), 3 * number, 1), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def photo() -> Path:
    path = folder() / "photo.jpg"
    Pil.fromarray(scene()).resize((640, 480)).save(path, quality=90)
    return path


def frames(path: Path, wanted: tuple[int, ...]) -> NDArray[np.uint8]:
    with open_source(path) as source:
        return source.get(wanted)


def through_a_worker(read: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with isolated(pool()):
            return read()

    return run


def here_and_there(read: Callable[[], Any]) -> harness.Sides:
    there = through_a_worker(read)
    assert np.array_equal(read(), there())  # type: ignore[arg-type]
    return {"here": read, "worker": there}


def picture_sides() -> harness.Sides:
    path = photo()
    return here_and_there(lambda: read_picture(path))


def of_clips(wanted: tuple[int, ...]) -> harness.Sides:
    """Two copies in turns: a worker keeps the last clip open, which must not count for it."""
    turns = itertools.cycle([clip(), Path(shutil.copy(clip(), folder() / "copy.mp4"))])
    return here_and_there(lambda: frames(next(turns), wanted))


def clip_sides() -> harness.Sides:
    return of_clips(WANTED)


def frame_sides() -> harness.Sides:
    return of_clips((30,))


def start_sides() -> harness.Sides:
    path = photo()

    def first() -> None:
        with DecodePool(1) as fresh, isolated(fresh):
            picture_size(path)

    return {
        "running worker": through_a_worker(lambda: picture_size(path)),
        "fresh worker": first,
        "Python with torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
    }


def crash_sides() -> harness.Sides:
    path = photo()
    again = through_a_worker(lambda: picture_size(path))

    def after_a_crash() -> object:
        for pid in pool().pids():
            os.kill(pid, signal.SIGKILL)
        return again()

    return {"no crash": again, "killed before": after_a_crash}


def many_sides() -> harness.Sides:
    paths = [Path(shutil.copy(clip(), folder() / f"{number}.mp4")) for number in range(8)]
    threads = ThreadPoolExecutor(2)

    def read(path: Path) -> NDArray[np.uint8]:
        with isolated(pool(2)):
            return frames(path, WANTED)

    return {
        "here": lambda: [frames(path, WANTED) for path in paths],
        "two workers": lambda: list(threads.map(read, paths)),
    }


CASES = [
    harness.Case(
        "clip, 16 of 300 frames 640x360",
        clip_sides,
        base="here",
        unit="ms",
        scale=1e3,
        repeats=15,
        target={"worker": 1.05},
    ),
    harness.Case("one frame of it", frame_sides, base="here", unit="ms", scale=1e3, repeats=15),
    harness.Case("picture 640x480", picture_sides, base="here", unit="ms", scale=1e3, repeats=31),
    harness.Case("start", start_sides, base="fresh worker", unit="ms", scale=1e3, repeats=5),
    harness.Case("crash", crash_sides, base="no crash", unit="ms", scale=1e3, repeats=5),
    harness.Case("two at once, 8 clips", many_sides, base="here", unit="ms", scale=1e3, repeats=5),
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
