"""Rows as a Parquet file (pyarrow): nested fields become columns such as `params.keep`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SweepError
from ..files import write_whole
from ..rows import Row

KEYWORD = "tokenloom"  # of the file's metadata: what the rows were made of, as JSON


def check_parquet(path: Path, where: str = "--parquet") -> None:
    """Errors: SweepError without pyarrow. Called before any work."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise SweepError(f"{where} {path}: needs pyarrow; pip install 'tokenloom[report]'") from None


def write_parquet(rows: Sequence[Row], path: Path, facts: Mapping[str, Any]) -> None:
    """Write the rows, whole or not at all. facts: what they were made of, kept in the file's metadata.

    A column whose values are of several types holds them as JSON text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    columns = {name: _column(pa, [row.get(name) for row in flat]) for name in names}
    table = pa.table(columns).replace_schema_metadata({KEYWORD: json.dumps(facts, default=str)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise SweepError(f"{path}: cannot be written: {error.strerror}") from None


def _flat(row: Mapping[str, Any], before: str = "") -> Row:
    """`{"params": {"keep": 16}}` as `{"params.keep": 16}`."""
    out: Row = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{before}{name}.")
        else:
            out[f"{before}{name}"] = value
    return out


def _column(pa: Any, values: Iterable[Any]) -> Any:
    held = list(values)
    try:
        return pa.array(held)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if one is None else json.dumps(one) for one in held])
