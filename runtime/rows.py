"""Rows of results as JSON lines: appended whole or not at all, one writer at a time, mended after a kill.

A run that is killed in the middle of a line leaves a last line that is no JSON. It is noticed when the file
is opened and cut off when the next row is written; nothing is changed before that, so a file that turns out
not to be one of rows stays as it is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from .errors import RowsError
from .locks import take

Row = dict[str, Any]


class RowFile:
    """The rows of a file, and more of them: `with RowFile(path) as file: file.append(row)`.

    rows: what was in the file. torn: bytes of a last line that was cut short; the next `append` removes them.
    Errors: RowsError for a file that holds anything else, that another process writes to, or that the disk
    refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise RowsError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            if not take(self._handle):
                raise RowsError(
                    f"{path}: another process writes rows to it; wait for it, or choose another file"
                )
            self.rows, self.torn, self._ending = _parsed(path, _content(self._handle))
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and wait until it is on disk. Numbers that are none (nan, inf) become null."""
        line = row_bytes(row)
        try:
            size = os.fstat(self._handle).st_size
            if self.torn:
                size -= self.torn
                os.ftruncate(self._handle, size)
            line, self.torn, self._ending = self._ending + line, 0, b""
            try:
                done = os.write(self._handle, line)
                if done < len(line):
                    raise OSError(28, "the disk took only a part of it")
                os.fsync(self._handle)
            except BaseException:
                os.ftruncate(self._handle, size)
                raise
        except OSError as error:
            raise RowsError(f"{self.path}: a row cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Let others write."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def row_bytes(row: Mapping[str, Any]) -> bytes:
    """A row as its line; halves of surrogate pairs, which are no UTF-8, stay escaped."""
    finite = _finite(row)
    try:
        return (json.dumps(finite, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(finite) + "\n").encode()


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, without a last line that was cut short. Errors: RowsError."""
    try:
        return _parsed(path, path.read_bytes())[0]
    except OSError as error:
        raise RowsError(f"{path}: cannot be read: {error.strerror}") from None


def _content(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        return file.read()


def _parsed(path: Path, data: bytes) -> tuple[list[Row], int, bytes]:
    """The rows, the bytes of a torn last line, and what a whole last line lacks at its end."""
    lines = data.split(b"\n")
    ended = lines[-1] == b""
    if ended:
        lines.pop()
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is not None:
            rows.append(row)
        elif number == len(lines) and line[:1] in (b"{", b"\0", b""):
            return rows, len(line) + ended, b""
        elif line.strip():
            raise RowsError(f"{path}:{number}: wanted a row of results, a JSON object, got {_shown(line)}")
    return rows, 0, b"" if ended or not data else b"\n"


def _row(line: bytes) -> Row | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _finite(value: Any) -> Any:
    """The value with null for every number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
