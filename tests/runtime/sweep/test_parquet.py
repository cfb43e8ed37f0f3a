"""Rows as Parquet."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from tokenloom import sweep
from tokenloom.runtime.errors import SweepError
from tokenloom.runtime.sweep.parquet import check_parquet, write_parquet

from .toy import DATA, toy


def test_columns_and_facts_come_back(tmp_path: Path) -> None:
    """Nested fields by dotted names; what the rows were made of in the metadata."""
    from pyarrow import parquet

    rows = sweep(toy(), {"late": [1, 2]}, DATA, cache=False)
    write_parquet(rows, tmp_path / "new" / "rows.parquet", {"graph_hash": rows[0]["graph_hash"]})
    table = parquet.read_table(tmp_path / "new" / "rows.parquet")
    found = table.to_pydict()
    assert found["params.late"] == [1, 2, 1, 2]
    assert found["answer"] == ["12", "13", "13", "14"]
    assert found["correct"] == [False, True, False, True]
    assert found["expected"][2] == ["14", "fourteen"]
    assert found["stages.first.seconds"] == [row["stages"]["first"]["seconds"] for row in rows]
    facts = json.loads(table.schema.metadata[b"tokenloom"])
    assert facts == {"graph_hash": found["graph_hash"][0]}


def test_values_of_several_types_are_json(tmp_path: Path) -> None:
    """A parameter that takes a number or a text; one that some rows lack."""
    from pyarrow import parquet

    rows: list[dict[str, Any]] = [{"params": {"row": 1}}, {"params": {"row": "x"}}, {"error": "no"}]
    write_parquet(rows, tmp_path / "rows.parquet", {})
    found = parquet.read_table(tmp_path / "rows.parquet").to_pydict()
    assert found == {"params.row": ["1", '"x"', None], "error": [None, None, "no"]}


def test_without_pyarrow_it_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SweepError) as error:
        check_parquet(Path("a.parquet"))
    assert str(error.value) == "--parquet a.parquet: needs pyarrow; pip install 'tokenloom[report]'"
