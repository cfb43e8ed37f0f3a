"""What steps took when they were measured, by cache key: a value from the cache is charged with that.

Kept in `measured.jsonl` in the cache's folder. Only comparisons write it: other runs do not
load models before they measure, nor count memory anew for each step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..cache import Cache
from ..result import Result
from ..sweep.ledger import append_line

FILE = "measured.jsonl"


class Cost(NamedTuple):
    """One step's work. flops: None where the node does not say. tokens_in: None where inputs hold none.

    tokens_out: by output name. peak: bytes by which memory rose, at most.
    """

    seconds: float
    flops: int | None
    tokens_in: int | None
    tokens_out: Mapping[str, int]
    bytes: int
    peak: int


class Costs:
    """Of steps that were measured in this process or in an earlier one. cache None: in this run alone."""

    def __init__(self, cache: Cache | None) -> None:
        folder = None if cache is None or cache.disk is None else cache.disk.folder
        self._path = None if folder is None else folder / FILE
        self._known = {} if self._path is None else _read(self._path)

    def take(self, result: Result) -> dict[str, Cost]:
        """By step, what it took, now or when its value was made; where nobody knows it, nothing."""
        done = {
            row.id: Cost(row.seconds, row.flops, row.tokens_in, row.tokens_out, row.bytes, row.peak)
            for row in result.report
            if not row.cached
        }
        out: dict[str, Cost] = {}
        for planned in result.plan.steps:
            cost = done.get(planned.id)
            if cost is not None and not planned.volatile:
                self._note(planned.key, cost)
            cost = cost or self._known.get(planned.key)
            if cost is not None:
                out[planned.id] = cost
        return out

    def _note(self, key: str, cost: Cost) -> None:
        self._known[key] = cost
        if self._path is not None:
            with suppress(OSError):  # the cache may be read-only; then the next process measures again
                append_line(self._path, json.dumps([key, *cost]))


def _read(path: Path) -> dict[str, Cost]:
    """What the file holds, the latest of a key; a line that was cut short is passed by."""
    out: dict[str, Cost] = {}
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return out
    for line in lines:
        with suppress(ValueError, TypeError):
            found: list[Any] = json.loads(line)
            key, seconds, flops, tokens_in, tokens_out, size, peak = found
            out[str(key)] = Cost(float(seconds), flops, tokens_in, dict(tokens_out), int(size), int(peak))
    return out
