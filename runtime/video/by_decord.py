"""decord (the module that decord2 installs): the default reader, as the released evaluation codes use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .source import FrameSource, Pixels, average_fps, bad_file, gather


class DecordSource(FrameSource):
    """A clip read by decord, which turns rotated clips by itself. A MediaError names what it cannot open."""

    def __init__(self, path: Path, rotation: int = 0) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self.path, self.backend, self.rotation = path, f"decord {decord.__version__}", rotation
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            count = len(self._reader)
            times = np.asarray(self._reader.get_frame_timestamp(range(count)), np.float64)
            first = self._reader[0].asnumpy() if count else None
        except (decord.DECORDError, IndexError, ValueError, RuntimeError) as error:
            raise self._unreadable(error) from error
        if first is None:
            raise bad_file(path, "decord finds no frame in it", "set backend: pyav")
        self.height, self.width = first.shape[:2]
        if first.shape[2] != 3:  # decord 0.6 reads row padding of narrow frames as a channel
            raise bad_file(path, f"decord gave {first.shape[2]} channels", "set backend: pyav")
        self.pts = np.round(times[:, 0] - times[0, 0], 5)  # it tells them in float32
        self.fps = average_fps(self.pts, self._reader.get_avg_fps())

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; see `FrameSource.get`."""
        import decord

        self.check(indices)
        wanted = sorted(set(indices))
        try:
            pixels = self._reader.get_batch(wanted).asnumpy()
            return gather(self.path, dict(zip(wanted, pixels, strict=True)), indices, out)
        except decord.DECORDError:
            pass
        got: dict[int, Pixels] = {}
        for i in wanted:  # one by one: which of them can be had?
            try:
                got[i] = self._reader[i].asnumpy()
            except decord.DECORDError:
                continue
        return gather(self.path, got, indices, out)

    def _unreadable(self, error: Exception) -> Exception:
        why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        return bad_file(self.path, f"decord cannot read it ({why})", "set backend: auto or pyav")
