"""Clips that need no video decoder: folders of frames, GIF and other animated pictures, NumPy arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import ImageSequence

from ..errors import MediaError
from ..pictures import SUFFIXES, opened, read_picture, rgb
from .source import FrameSource, Pixels, average_fps, bad_file, room

ANIMATED = (".gif", ".webp", ".apng", ".png", ".tif", ".tiff")
FOLDER_FPS = 3.0  # what MVBench's frame folders are read with, unless the graph says otherwise


def pictures_in(folder: Path, what: str = "frames") -> list[Path]:
    """The picture files of a folder, in natural order of their names; a MediaError when there are none.

    what: they would be, for the message.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise bad_file(
            folder, "the folder holds no pictures", f"put {what} ({', '.join(SUFFIXES[:4])}, ...) into it"
        )
    return sorted(
        files, key=lambda f: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", f.name)]
    )


class FolderSource(FrameSource):
    """Pictures of one folder, in natural order of their names (`2.jpg` before `10.jpg`)."""

    first = 1  # upstream numbers the files 00001.jpg, 00002.jpg, ...

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path, self.backend, self.rotation = path, f"folder, pillow {PIL.__version__}", 0
        self._files = pictures_in(path)
        self.fps = fps or FOLDER_FPS
        self.pts = np.arange(len(self._files)) / self.fps
        self.height, self.width = read_picture(self._files[0]).shape[:2]

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; a MediaError when one has another size than the first."""
        self.check(indices)
        pixels = room((len(indices), self.height, self.width, 3), out)
        for row, i in enumerate(indices):
            picture = read_picture(self._files[i])
            if picture.shape != pixels.shape[1:]:
                raise bad_file(
                    self._files[i],
                    f"is {picture.shape[1]}x{picture.shape[0]}, the first frame {self.width}x{self.height}",
                    "frames of one clip must share one size",
                )
            pixels[row] = picture
        return pixels


class AnimationSource(FrameSource):
    """GIF, animated WebP or PNG, TIFF of several pages; the times come from the frames' durations."""

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path, self.backend, self.rotation = path, f"pillow {PIL.__version__}", 0
        frames, durations = [], []
        with opened(path) as file:
            for frame in ImageSequence.Iterator(file):
                durations.append(float(frame.info.get("duration", 0) or 0) / 1000)
                frames.append(np.asarray(rgb(path, frame)))
        if len({frame.shape for frame in frames}) > 1:
            raise bad_file(path, "its pages differ in size", "frames of one clip must share one size")
        self._pixels = np.stack(frames)
        if fps or not any(durations):
            durations = [1 / (fps or FOLDER_FPS)] * len(frames)
        self.pts = np.concatenate([[0.0], np.cumsum(durations[:-1])])
        self.fps = len(frames) / sum(durations)
        self.height, self.width = self._pixels.shape[1:3]

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; see `FrameSource.get`."""
        self.check(indices)
        pixels = room((len(indices), *self._pixels.shape[1:]), out)
        return np.take(
            self._pixels, list(indices), axis=0, out=pixels, mode="clip"
        )  # checked; "raise" copies


class ArraySource(FrameSource):
    """A `.npy` file: uint8 [N, H, W, 3]. Mapped, not read as a whole."""

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path, self.backend, self.rotation = path, f"numpy {np.__version__}", 0
        try:
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise bad_file(
                path, "not an array of numbers that NumPy can map", "write uint8 frames with numpy.save"
            ) from error
        shape = self._array.shape
        if self._array.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise MediaError(
                f"{path}: the array is {self._array.dtype} {list(shape)}, wanted uint8 [frames, height, "
                "width, 3]; convert it before saving"
            )
        self.fps = fps or FOLDER_FPS
        self.pts = np.arange(shape[0]) / self.fps
        self.height, self.width = shape[1:3]
        self.fps = average_fps(self.pts, self.fps)

    def get(self, indices: Sequence[int], out: Pixels | None = None) -> Pixels:
        """RGB frames, uint8 [T, H, W, 3]; see `FrameSource.get`."""
        self.check(indices)
        pixels = room((len(indices), *self._array.shape[1:]), out)
        for row, i in enumerate(indices):  # whatever their order in the file, no more is read than these
            pixels[row] = self._array[i]
        return pixels
