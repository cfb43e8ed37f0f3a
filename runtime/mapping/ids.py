"""Ids that were seen, however many: in a temporary database on disk, so that memory does not grow."""

from __future__ import annotations

import sqlite3
from typing import Self


class Ids:
    """`with Ids() as ids: ids.before(id, where)`; the file goes with the block."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)  # "": on disk, removed when it is closed
        self._base.execute("CREATE TABLE ids (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def before(self, id: str, place: str) -> str:
        """Where this id was seen first; "" for one that is new."""
        key = id.encode("utf-8", "surrogatepass")
        try:
            self._base.execute("INSERT INTO ids VALUES (?, ?)", (key, place))
        except sqlite3.IntegrityError:
            found = self._base.execute("SELECT place FROM ids WHERE id = ?", (key,)).fetchone()
            return str(found[0])
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
