"""Decoders that do what real ones do on bad days, as requests; the worker imports this module by its name."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenloom.runtime.media import Request
from tokenloom.runtime.media.desk import Desk
from tokenloom.runtime.media.wire import Answer
from tokenloom.runtime.video.source import PartialDecode, Pixels


@dataclass(frozen=True)
class Told(Request[object]):
    """A request that gives its facts."""

    def doing(self) -> str:
        return "read 16 frames"

    def answer(self, path: Path, desk: Desk) -> Answer:
        raise NotImplementedError

    def result(self, path: Path, answer: Answer) -> object:
        return answer.facts.get("value")


@dataclass(frozen=True)
class Signal(Told):
    """Ends by a signal, as a crash in C code does."""

    number: int = signal.SIGSEGV

    def answer(self, path: Path, desk: Desk) -> Answer:
        os.kill(os.getpid(), self.number)
        raise AssertionError("still here")


@dataclass(frozen=True)
class ReadsNull(Told):
    """Reads address 0, inside C code."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        import ctypes

        return Answer({"value": ctypes.string_at(0)})


@dataclass(frozen=True)
class Hang(Told):
    """Does not come back."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        time.sleep(60)
        return Answer({})


@dataclass(frozen=True)
class Leave(Told):
    """Ends the process, as libraries that call exit() do."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        os._exit(3)


@dataclass(frozen=True)
class Number(Told):
    """The worker's pid."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        return Answer({"value": os.getpid()})


@dataclass(frozen=True)
class Modules(Told):
    """What the worker has imported."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        return Answer({"value": sorted(sys.modules)})


@dataclass(frozen=True)
class Raise(Told):
    """Raises an error by name, as Python code does."""

    kind: str = "ZeroDivisionError"

    def answer(self, path: Path, desk: Desk) -> Answer:
        if self.kind == "UnicodeDecodeError":
            b"\xff".decode("utf-8")
        if self.kind == "PermissionError":
            raise PermissionError(13, "Permission denied", str(path))
        if self.kind == "PartialDecode":
            raise PartialDecode(f"{path}: half", {2: np.full((2, 3, 3), 7, np.uint8)})
        raise ZeroDivisionError("by zero")


@dataclass(frozen=True)
class Spoil(Told):
    """Leaves the worker in a state in which it crashes at the next file that asks for it."""

    def answer(self, path: Path, desk: Desk) -> Answer:
        if hasattr(sys, "spoilt"):
            os.kill(os.getpid(), signal.SIGSEGV)
        sys.spoilt = True  # type: ignore[attr-defined]
        return Answer({"value": os.getpid()})


@dataclass(frozen=True)
class Large(Request[Pixels]):
    """An array of so many bytes, in shared memory."""

    count: int
    fill: int = 3

    def doing(self) -> str:
        return "read it"

    def answer(self, path: Path, desk: Desk) -> Answer:
        array = desk.empty((self.count,))
        array[:] = self.fill
        return Answer({}, array)

    def result(self, path: Path, answer: Answer) -> Pixels:
        assert answer.array is not None
        return answer.array
