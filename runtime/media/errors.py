"""Errors of a worker: those that cross from it as they are, and those that tell how it ended."""

from __future__ import annotations

import builtins
import signal
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from .. import errors
from ..errors import DecoderError
from ..video.source import PartialDecode
from .wire import Answer


def as_answer(error: Exception) -> tuple[Answer, dict[str, Any]]:
    """In the worker: what a PartialDecode could decode, and the error as JSON can hold it."""
    told: dict[str, Any] = {"type": type(error).__name__, "text": str(error)}
    if isinstance(error, PartialDecode):
        pixels = np.stack(list(error.got.values())) if error.got else None
        return Answer({"got": list(error.got)}, pixels), told
    if isinstance(error, OSError) and error.errno is not None:
        told["system"] = [error.errno, error.strerror, error.filename]
    if not isinstance(error, errors.LoomError):
        told["trace"] = "".join(traceback.format_exception(error))
    return Answer({}), told


def as_error(path: Path, answer: Answer, told: dict[str, Any]) -> Exception:
    """Where it was asked: the error of a worker, of the type it had there if that can be made from a text."""
    name, text = told["type"], told["text"]
    if name == "PartialDecode":
        pixels = () if answer.array is None else answer.array
        return PartialDecode(text, dict(zip(answer.facts["got"], pixels, strict=True)))
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    try:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(name)
        error: Exception = OSError(*told["system"]) if "system" in told else kind(text)
    except TypeError:
        error = DecoderError(
            f"{path}: its decoder failed ({name}: {text}); convert the file, or leave it out", path=str(path)
        )
    if "trace" in told:
        error.add_note(f"in a decode worker:\n{told['trace'].rstrip()}")
    return error


def hung(path: Path, doing: str, seconds: float) -> DecoderError:
    """Of a worker that was stopped because it gave no answer."""
    return DecoderError(
        f"{path}: its decoder gave no answer for {seconds:g} s (it {doing}) and was stopped; leave the file "
        "out, or give it longer by TOKENLOOM_DECODE_TIMEOUT=SECONDS",
        path=str(path),
        seconds=seconds,
    )


def died(path: Path, doing: str, status: int) -> DecoderError:
    """Of a worker that ended by itself. status: of the process, -N for signal N."""
    if status >= 0:
        what = f"its decoder ended its process with status {status} (it {doing})"
        return DecoderError(f"{path}: {what}; convert the file, or leave it out", path=str(path))
    name = signal_name(-status)
    if -status in (signal.SIGKILL, signal.SIGTERM):
        text = (
            f"its decoder was killed by {name} (it {doing}), by the system if memory ran out; take fewer "
            "frames or fewer workers, or leave the file out"
        )
    else:
        text = f"its decoder crashed with {name} (it {doing}); convert the file, or leave it out"
    return DecoderError(f"{path}: {text}", path=str(path), signal=-status)


def unstarted(status: int | None, seconds: float) -> DecoderError:
    """Of a worker that did not come up. status: how its process ended; None: it hung."""
    if status is None:
        how = f"was not up after {seconds:g} s"
    else:
        how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return DecoderError(
        f"a decode worker {how} before it could read anything (its stderr says why); read without workers by "
        "TOKENLOOM_DECODE=inline"
    )


def signal_name(number: int) -> str:
    """`SIGSEGV (signal 11)`."""
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
