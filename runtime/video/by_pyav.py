"""PyAV: right on edit lists, MPEG-TS and cut-off files, where random access of other readers is not.

The index is the sorted unique times of the packets that are shown. Wanted frames are visited in order; a
seek must land at or before its target and the target's exact time must appear, otherwise the clip is read
once from the start, counting frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError
from ..pictures import first_bytes
from .source import FrameSource, Pixels, average_fps, bad_file, gather

NEAR = 60  # frames that are cheaper to decode through than to seek over


class PyAvSource(FrameSource):
    """A clip read by PyAV. Errors of opening are MediaErrors that name the path."""

    def __init__(self, path: Path) -> None:
        import av

        self.path, self.backend = path, f"pyav {av.__version__}"
        self._container = open_container(path)
        self._stream = video_stream(path, self._container)
        self._stream.thread_type = "AUTO"
        self._index = self._read_index()
        base = float(self._stream.time_base)
        self.pts = (np.array(self._index, np.float64) - self._index[0]) * base
        self.fps = average_fps(self.pts, self._stream.average_rate)
        self._read_shape()

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; see `FrameSource.get`."""
        self.check(indices)
        wanted = sorted(set(indices))
        got = self._by_seeking(wanted)
        if got is None:
            got = self._from_the_start(wanted)
        return gather(self.path, got, indices, out)

    def _read_index(self) -> list[int]:
        times: set[int] = set()
        try:
            for packet in self._container.demux(self._stream):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None and not packet.is_discard:
                    times.add(time)
        except _errors():
            pass  # cut off: what came before counts
        if not times:
            raise bad_file(self.path, "holds no video frame that can be shown", "fetch or encode it again")
        return sorted(times)

    def _read_shape(self) -> None:
        """Size and rotation as the first frame that can be decoded has them."""
        self._container.seek(0, backward=True, any_frame=False)
        frame = next(self._frames(), None)
        if frame is None:
            raise bad_file(self.path, "no frame of it can be decoded", "fetch or encode it again")
        self.rotation = turn_of(frame)
        turned = self.rotation % 180 == 90
        self.width, self.height = (frame.height, frame.width) if turned else (frame.width, frame.height)

    def _frames(self) -> Iterator[Any]:
        """Decoded frames from here on."""
        return decoded(self._container, self._stream)

    def _picture(self, frame: Any) -> Pixels:
        picture: Pixels = frame.to_ndarray(format="rgb24")
        turns = self.rotation // 90
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    def _by_seeking(self, wanted: list[int]) -> dict[int, Pixels] | None:
        """Wanted frames by their exact times; None when this container cannot be trusted to seek."""
        got: dict[int, Pixels] = {}
        frames: Iterator[Any] = iter(())
        at: int | None = None  # index up to which we have decoded
        for i in wanted:
            target = self._index[i]
            if at is None or i - at > NEAR:
                try:
                    self._container.seek(target, stream=self._stream, backward=True, any_frame=False)
                except _errors():
                    return None
                frames = self._frames()
                frame = next(frames, None)
                if frame is None or frame.pts is None or frame.pts > target:
                    return None
            else:
                frame = next(frames, None)
            while frame is not None and frame.pts is not None and frame.pts < target:
                frame = next(frames, None)
            if frame is None or frame.pts != target:
                return None
            got[i], at = self._picture(frame), i
        return got

    def _from_the_start(self, wanted: list[int]) -> dict[int, Pixels]:
        """Wanted frames by counting from the first; those that cannot be decoded are left out."""
        self.close()
        self._container = open_container(self.path)
        self._stream = video_stream(self.path, self._container)
        number = {pts: i for i, pts in enumerate(self._index)}
        left, got = set(wanted), dict[int, Pixels]()
        for count, frame in enumerate(self._frames()):
            i = count if frame.pts is None else number.get(frame.pts, -1)
            if i in left:
                got[i] = self._picture(frame)
                left.discard(i)
            if not left:
                break
        return got


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames from where the container stands; ends quietly where the file is damaged."""
    try:
        yield from container.decode(stream)
    except _errors():
        return


def turn_of(frame: Any) -> int:
    """Degrees, 0, 90, 180 or 270, that a frame asks to be turned by, counter-clockwise."""
    return int(round(frame.rotation / 90) * 90 % 360)


def open_container(path: Path) -> Any:
    """An open PyAV container, or a MediaError that says what the file is instead."""
    import av
    from av.error import FFmpegError

    try:
        return av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MediaError(
            f"{path}: not a video that FFmpeg can open ({why}; it starts with {first_bytes(path)}); "
            "wanted MP4, MKV, WebM, AVI, MOV or MPEG-TS; check the file, or fetch it again"
        ) from error


def video_stream(path: Path, container: Any) -> Any:
    """The container's best video stream; cover art does not count."""
    for stream in container.streams.video:
        if "attached_pic" not in str(getattr(stream.disposition, "name", "")):
            return stream
    kinds = sorted({s.type for s in container.streams}) or ["no"]
    raise bad_file(path, f"holds {' and '.join(kinds)} streams but no video", "give a file with pictures")


def _errors() -> tuple[type[Exception], ...]:
    from av.error import FFmpegError

    return (FFmpegError, EOFError, ValueError)
