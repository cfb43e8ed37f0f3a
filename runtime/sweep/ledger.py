"""What every step took when it was done: a sweep tells the cost of stages that came from the cache, too.

Kept by cache key, in memory and in `costs.jsonl` in the cache's folder, for the next process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..cache import Cache
from ..plan import Plan
from ..result import Result

FILE = "costs.jsonl"
MOST_BYTES = 64 << 20  # a file that has grown beyond begins anew
MOST = 200_000  # steps that are remembered; the oldest are forgotten, and measured again if they are needed


class Spent(NamedTuple):
    """One step's work. flops: None where the node does not say. tokens: what it gave, by output name."""

    seconds: float
    flops: int | None
    tokens: Mapping[str, int]


def ledger_of(cache: Cache | None) -> Ledger:
    """The ledger beside a cache: one per cache and process."""
    if cache is None:
        return Ledger(None)
    if cache not in _ledgers:
        _ledgers[cache] = Ledger(cache)
    return _ledgers[cache]


class Ledger:
    """What steps took, by key."""

    def __init__(self, cache: Cache | None) -> None:
        folder = None if cache is None or cache.disk is None else cache.disk.folder
        self._path = None if folder is None else folder / FILE
        self._known: dict[str, Spent] = {} if self._path is None else _read(self._path)

    def take(self, result: Result) -> dict[str, Spent] | None:
        """By step id, what each step of the plan took, now or when its value was made; None: not known.

        Not known is what another program made and left in the cache; run it again without the cache.
        """
        done = {
            row.id: Spent(row.seconds, row.flops, row.tokens_out) for row in result.report if not row.cached
        }
        self._note(result.plan, done)
        out: dict[str, Spent] = {}
        for planned in result.plan.steps:
            spent = done.get(planned.id) or self._known.get(planned.key)
            if spent is None:
                return None
            out[planned.id] = spent
        return out

    def __len__(self) -> int:
        return len(self._known)

    def _note(self, plan: Plan, done: Mapping[str, Spent]) -> None:
        new = {
            planned.key: done[planned.id]
            for planned in plan.steps
            if planned.id in done and not planned.volatile and planned.key not in self._known
        }
        self._known |= new
        if len(self._known) > MOST:
            self._known = dict(islice(self._known.items(), len(self._known) - MOST // 2, None))
        if new and self._path is not None:
            text = "\n".join(json.dumps([key, *spent]) for key, spent in new.items())
            with suppress(OSError):  # the cache may be read-only; then the next process measures again
                append_line(self._path, text)


_ledgers: WeakKeyDictionary[Cache, Ledger] = WeakKeyDictionary()


def append_line(path: Path, text: str) -> None:
    """In one write, so that several processes do not mix their lines. Errors: OSError as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MOST_BYTES:
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Spent]:
    """What the file holds; a line that was cut short is passed by."""
    out: dict[str, Spent] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return out
    for line in lines[-MOST:]:
        with suppress(ValueError, TypeError):
            found: list[Any] = json.loads(line)
            key, seconds, flops, tokens = found
            out[str(key)] = Spent(float(seconds), None if flops is None else int(flops), dict(tokens))
    return out
