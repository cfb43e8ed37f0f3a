"""Which rows are done already, and whether a file's rows are those of this sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SweepError
from ..rows import Row

SHARED = {
    "graph_hash": "graph",
    "data_hash": "data",
    "device": "device",
    "dtype": "dtype",
    "score": "score",
    "base_hash": "base",
}


def row_key(row: Row) -> str:
    """What a row is known by: its item and its parameters."""
    return key_of(str(row.get("item")), row.get("params", {}))


def finished(row: Row, *, kl: bool = False) -> bool:
    """Whether a row need not be made again: it has no error, and the KL that is asked for."""
    return "error" not in row and (not kl or row.get("kl") is not None)


def check_resumed(rows: Sequence[Row], common: Mapping[str, Any], path: Path) -> None:
    """Errors: SweepError when rows of a file are not of this graph, data, device, dtype, score and base.

    Rows without KL fit any base; they are made again where it is asked for.
    """
    for number, row in enumerate(rows, start=1):
        for name, word in SHARED.items():
            if name not in row:
                raise SweepError(f"{path}:{number}: is no row of a sweep; choose another file with -o")
            if row[name] != common[name] and not (name == "base_hash" and None in (row[name], common[name])):
                raise SweepError(
                    f"{path}: holds rows of another {word} ({row[name]}, this sweep's is {common[name]}); "
                    "choose another file with -o, or remove it"
                )


def key_of(item: str, params: Mapping[str, Any]) -> str:
    """The same, for the parts."""
    return json.dumps([item, params], sort_keys=True, default=str)
