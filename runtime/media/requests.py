"""What can be asked of a worker about one file. Each says how it is answered there, and read here.

A request is a frozen dataclass of plain fields; it travels as the place of its class and its fields, so a
class of one's own works too, in a module that the worker can import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..pictures import picture_count, picture_size, read_picture
from ..video.choose import glance
from ..video.source import Backend, FrameSource, Pixels
from .wire import Answer

if TYPE_CHECKING:
    from .desk import Desk

T_co = TypeVar("T_co", covariant=True)


class Request(ABC, Generic[T_co]):
    """One question about a file, with an answer of type T."""

    @abstractmethod
    def doing(self) -> str:
        """What the worker did when it ended, for messages: `read 16 frames`."""

    @abstractmethod
    def answer(self, path: Path, desk: Desk) -> Answer:
        """In the worker: the answer. Errors: whatever the decoder raises; they reach who asked."""

    @abstractmethod
    def result(self, path: Path, answer: Answer) -> T_co:
        """In the process that asked: what the answer says."""


def packed(request: Request[Any]) -> dict[str, Any]:
    """The request as JSON can hold it."""
    kind = type(request)
    values = {field.name: getattr(request, field.name) for field in fields(request)}  # type: ignore[arg-type]
    return {"module": kind.__module__, "name": kind.__qualname__, "fields": values}


@dataclass(frozen=True)
class Glance(Request[None]):
    """Nothing; a MediaError for what is missing, empty, a still picture or no clip."""

    def doing(self) -> str:
        """For messages."""
        return "read its header"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """See `video.choose.glance`."""
        glance(path)
        return Answer({})

    def result(self, path: Path, answer: Answer) -> None:
        """Nothing."""


@dataclass(frozen=True)
class PictureSize(Request[tuple[int, int]]):
    """(width, height) of a picture after EXIF rotation."""

    def doing(self) -> str:
        """For messages."""
        return "read its header"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """See `pictures.picture_size`."""
        return Answer({"size": picture_size(path)})

    def result(self, path: Path, answer: Answer) -> tuple[int, int]:
        """(width, height)."""
        width, height = answer.facts["size"]
        return width, height


@dataclass(frozen=True)
class PictureCount(Request[int]):
    """How many pictures a file holds."""

    def doing(self) -> str:
        """For messages."""
        return "read its header"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """See `pictures.picture_count`."""
        return Answer({"count": picture_count(path)})

    def result(self, path: Path, answer: Answer) -> int:
        """How many."""
        return int(answer.facts["count"])


@dataclass(frozen=True)
class ReadPicture(Request[Pixels]):
    """A picture: RGB uint8 [H, W, 3]."""

    def doing(self) -> str:
        """For messages."""
        return "read the picture"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """See `pictures.read_picture`."""
        return Answer({}, read_picture(path))

    def result(self, path: Path, answer: Answer) -> Pixels:
        """The pixels."""
        assert answer.array is not None
        return answer.array


@dataclass(frozen=True)
class ClipFacts:
    """What an open clip tells of itself; see `FrameSource`. pts: [N] float64."""

    backend: str
    pts: Any
    fps: float
    rotation: int
    width: int
    height: int
    first: int

    @classmethod
    def of(cls, source: FrameSource) -> ClipFacts:
        """Of a clip that is open here."""
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class OpenClip(Request[ClipFacts]):
    """The facts of a clip, opened as `video.open_source` does; the worker keeps it open for a while."""

    backend: Backend | str = "auto"
    fps: float | None = None

    def doing(self) -> str:
        """For messages."""
        return "opened the clip"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """Facts, and the frames' times as the array."""
        facts = vars(ClipFacts.of(desk.source(path, self.backend, self.fps))).copy()
        times = facts.pop("pts")
        return Answer(
            {name: getattr(value, "item", lambda v=value: v)() for name, value in facts.items()}, times
        )

    def result(self, path: Path, answer: Answer) -> ClipFacts:
        """The facts."""
        return ClipFacts(pts=answer.array, **answer.facts)


@dataclass(frozen=True)
class ReadFrames(Request[Pixels]):
    """Frames of a clip by number: RGB uint8 [T, H, W, 3]. A PartialDecode when some cannot be decoded."""

    indices: Sequence[int]
    backend: Backend | str = "auto"
    fps: float | None = None

    def doing(self) -> str:
        """For messages."""
        return f"read {len(self.indices)} frame{'s' if len(self.indices) > 1 else ''}"

    def answer(self, path: Path, desk: Desk) -> Answer:
        """The frames, decoded into shared memory."""
        source = desk.source(path, self.backend, self.fps)
        source.check(self.indices)
        out = desk.empty((len(self.indices), source.height, source.width, 3))
        return Answer({}, source.get(self.indices, out))

    def result(self, path: Path, answer: Answer) -> Pixels:
        """The pixels."""
        assert answer.array is not None
        return answer.array
