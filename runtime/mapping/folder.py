"""The folder of a map: one writer, rows in parts of bounded size, and files beside them.

    manifest.json       what all rows were made of
    part-00000.jsonl    rows in the order of the items, each appended whole and synced
    files/00000/...     what was saved of each item, written before its row
    .lock               locked by the process that writes; the lock goes with it

A row is there when its line is whole: that is the only commit. Rows are appended in the order of the items,
so what is there is a beginning of them, and resuming is walking both side by side. A kill leaves at most a
torn last line, which the next append cuts off, and files without a row, which are written anew. Appending
costs one sync per row, and every finished row can be read at once; whole parts that are renamed into place
would lose up to a part of work, or need a journal beside them, which is what this is. Only rows that are made
again rewrite their part: whole, under another name, then renamed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ..errors import MapError, RowsError
from ..files import write_whole
from ..locks import take
from ..rows import Row, RowFile, read_rows, row_bytes

MANIFEST, LOCK, FILES = "manifest.json", ".lock", "files"
ROWS = 1000  # of a part
BYTES = 32 << 20  # after which a part is full, too
_PART = re.compile(r"part-(\d{5,})\.jsonl")
_OWN = re.compile(rf"{re.escape(MANIFEST)}|{re.escape(LOCK)}|{FILES}|{_PART.pattern}|.*\.tmp")


class Folder:
    """`with Folder(path) as folder:` the only writer to it. Made if it is missing, and gone again if it stays
    empty.

    Errors: MapError for a folder that holds something else, that another process writes to, or that cannot be
    written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = not path.exists()
        self._tail: RowFile | None = None
        self._in_tail = 0
        self._firsts: list[int] = []  # the index of every part's first row
        self.count = 0  # rows that are there
        self._handle = self._locked()
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        """Hold the lock of the folder; its file tells who does."""
        lock = self.path / LOCK
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            while True:
                handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
                if not take(handle):
                    holder = os.read(handle, 20).decode(errors="replace").strip()
                    os.close(handle)
                    who = f" (number {holder})" if holder.isdigit() else ""
                    raise MapError(
                        f"{self.path}: another process{who} writes to it; wait for it, or choose another "
                        "folder"
                    )
                if lock.exists() and os.path.samestat(os.fstat(handle), os.stat(lock)):
                    break
                os.close(handle)  # removed by its holder, in between
            with suppress(OSError):  # a full disk: the name is missing, the lock is there
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise MapError(f"{self.path}: cannot be written: {error.strerror}") from None
        return handle

    def _check(self) -> None:
        names = os.listdir(self.path)
        foreign = sorted(name for name in names if not _OWN.fullmatch(name))
        ours = MANIFEST in names
        if not ours and (foreign or any(_PART.fullmatch(name) for name in names)):
            raise MapError(
                f"{self.path}: holds {foreign[0] if foreign else 'rows'} and no {MANIFEST}, so it is no "
                "folder of a map; choose another folder"
            )
        if not os.access(self.path, os.W_OK):
            raise MapError(f"{self.path}: cannot be written: Permission denied")

    def manifest(self) -> Mapping[str, Any] | None:
        """What the rows were made of; None in a new folder."""
        path = self.path / MANIFEST
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise MapError(f"{path}: is damaged ({error}); choose another folder") from None
        if not isinstance(found, dict):
            raise MapError(f"{path}: is damaged (no object); choose another folder")
        return found

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Put down the manifest of a new folder; in an old one, remove what a kill left."""
        if self.manifest() is None:
            text = json.dumps(manifest, indent=1, sort_keys=True, default=str)
            self._write(self.path / MANIFEST, f"{text}\n".encode())
        for place in (self.path, *(self.path / FILES).glob("*/")):
            for left in place.glob("*.tmp"):
                left.unlink(missing_ok=True)

    # -- rows ----------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """All rows, in order, reading a part at a time; `count` is theirs afterwards.

        Errors: RowsError for a file of something else; MapError for rows that are missing or there twice.
        """
        self._firsts, number = [], 0
        for path in parts(self.path):
            self._firsts.append(number)
            for line, row in enumerate(read_rows(path), start=1):
                if row.get("index") != number or not isinstance(row.get("id"), str):
                    raise MapError(
                        f"{path}:{line}: holds the row of item {row.get('index')}, wanted that of {number}; "
                        "the folder was changed by something else: choose another"
                    )
                yield row
                number += 1
        self.count = number

    def put(self, row: Mapping[str, Any]) -> None:
        """Append the next row, or put one in the place of an earlier one, and wait until it is on disk.

        Earlier rows, if any, come first. Errors: RowsError.
        """
        if row["index"] < self.count:
            assert self._tail is None
            self._replace(row)
            return
        assert row["index"] == self.count
        tail = self._end()
        tail.append(row)
        self.count += 1
        self._in_tail += 1

    def _end(self) -> RowFile:
        """The last part; a new one, if that is full."""
        if self._tail is None:
            found = parts(self.path)
            self._open(found[-1] if found else self.path / _name(0))
        assert self._tail is not None
        if self._in_tail >= ROWS or self._tail.path.stat().st_size >= BYTES:
            path = self._tail.path
            self._tail.close()
            self._open(self.path / _name(int(path.stem.removeprefix("part-")) + 1))
        return self._tail

    def _open(self, path: Path) -> None:
        self._tail = None
        new = not path.exists()
        self._tail = RowFile(path)
        self._in_tail = len(self._tail.rows)
        self._tail.rows.clear()  # they are in the file
        if new:
            _sync(self.path)

    def _replace(self, row: Mapping[str, Any]) -> None:
        number = max(i for i, first in enumerate(self._firsts) if first <= row["index"])
        path = parts(self.path)[number]
        rows = read_rows(path)
        rows[row["index"] - self._firsts[number]] = dict(row)
        try:
            write_whole(path, b"".join(map(row_bytes, rows)))
        except OSError as error:
            raise RowsError(f"{path}: a row cannot be written: {error.strerror}") from None

    # -- files ---------------------------------------------------------------------------------------------

    def save(self, index: int, name: str, data: bytes) -> str:
        """Write a file of an item, whole or not at all; its path from the folder. Errors: MapError."""
        within = f"{FILES}/{index // ROWS:05}/{index:08}.{name}"
        self._write(self.path / within, data)
        return within

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise MapError(f"{path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Let others write. A folder that was made for nothing is removed."""
        if self._tail is not None:
            self._tail.close()
        if self._made and os.listdir(self.path) == [LOCK]:
            (self.path / LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                self.path.rmdir()
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parts(folder: Path) -> list[Path]:
    """The files of rows, in order."""
    found = {int(m[1]): path for path in folder.glob("part-*.jsonl") if (m := _PART.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _name(number: int) -> str:
    return f"part-{number:05}.jsonl"


def _sync(folder: Path) -> None:
    """A new file's name outlives a power cut; systems that cannot sync folders go without."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
