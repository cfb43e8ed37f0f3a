"""Clips for tests, written by PyAV: every picture shows its number as eight black or white bars.

So which frame a reader returned can be read off its pixels, whatever the codec did to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

Picture = NDArray[np.uint8]
MILLI = Fraction(1, 1000)


def numbered(number: int, size: tuple[int, int] = (64, 48)) -> Picture:
    """uint8 [H, W, 3]: the bits of `number` across the upper half, a red bar that moves below."""
    width, height = size
    picture: Picture = np.full((height, width, 3), 90, np.uint8)
    for bit in range(8):
        left, right = bit * width // 8, (bit + 1) * width // 8
        picture[: height // 2, left:right] = 235 if number >> bit & 1 else 20
    left = number * 3 % width
    picture[3 * height // 4 :, left : left + 6] = (210, 40, 40)
    return picture


def number_of(picture: Picture) -> int:
    """The number that a decoded picture shows."""
    height, width = picture.shape[:2]
    row = picture[height // 8 : 3 * height // 8].mean(axis=(0, 2))
    bars = [row[(2 * bit + 1) * width // 16] for bit in range(8)]
    return sum(1 << bit for bit, bar in enumerate(bars) if bar > 128)


def numbers_of(pictures: Sequence[Picture] | Picture) -> list[int]:
    """The number of each picture."""
    return [number_of(picture) for picture in pictures]


def write_clip(
    path: Path,
    count: int = 40,
    size: tuple[int, int] = (64, 48),
    *,
    codec: str = "libx264",
    rate: int = 30,
    gop: int = 12,
    b_frames: int = 2,
    milliseconds: Sequence[int] | None = None,
    rotation: int = 0,
    pix_fmt: str = "yuv420p",
    movflags: str = "",
) -> Path:
    """A clip of numbered pictures; `milliseconds`: the time of each; `rotation`: degrees to show it by."""
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, b_frames
        stream.codec_context.thread_count = 1
        if milliseconds is not None:
            stream.codec_context.time_base = MILLI
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(count):
            upright = size if rotation % 180 == 0 else (size[1], size[0])
            picture = np.rot90(numbered(i, upright), -rotation // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = i if milliseconds is None else milliseconds[i]
            if milliseconds is not None:
                frame.time_base = MILLI
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_without_decoding(source: Path, path: Path, start: float) -> Path:
    """The packets from the keyframe before `start` on: an edit list hides those before it."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream: Any = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        offset = int(start / stream.time_base)
        given.seek(offset, stream=stream, backward=True)
        for packet in given.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = copy
                made.mux(packet)
    return path


def truncated(source: Path, path: Path, share: float) -> Path:
    """The first part of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def audio_only(path: Path) -> Path:
    """A tenth of a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_gif(path: Path, count: int = 6, milliseconds: int = 100) -> Path:
    """An animation of numbered pictures."""
    first, *rest = (Pil.fromarray(numbered(i)) for i in range(count))
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return path


def write_folder(path: Path, count: int = 12) -> Path:
    """A folder of numbered pictures: 1.png, 2.png, ... 10.png, and a text file that is none."""
    path.mkdir()
    for i in range(count):
        Pil.fromarray(numbered(i)).save(path / f"{i + 1}.png")
    (path / "notes.txt").write_text("not a frame")
    return path
