"""Files of rows: appended whole, mended after a kill, one writer."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tokenloom.runtime.errors import RowsError
from tokenloom.runtime.rows import RowFile, read_rows


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    """What one process appends, the next reads, and appends to; folders are made."""
    path = tmp_path / "out" / "rows.jsonl"
    with RowFile(path) as file:
        file.append({"a": 1})
        file.append({"a": 2, "text": "zwölf\n"})
    with RowFile(path) as file:
        assert file.rows == [{"a": 1}, {"a": 2, "text": "zwölf\n"}]
        file.append({"a": 3})
    assert [row["a"] for row in read_rows(path)] == [1, 2, 3]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("tail", [b'{"a": 2, "te', b"{", b"\0\0\0", b'{"a": 2\n', b'{"a": 2}\n{"a'])
def test_a_torn_last_line_is_cut_off(tail: bytes, tmp_path: Path) -> None:
    """A kill or a power cut in the middle of a row costs that row only, and only once more is written."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + tail)
    whole = [1, 2] if b"}" in tail else [1]
    with RowFile(path) as file:
        assert [row["a"] for row in file.rows] == whole
        assert file.torn
        assert path.read_bytes().endswith(tail)  # reading changes nothing
        file.append({"a": 9})
        assert not file.torn
    assert [row["a"] for row in read_rows(path)] == [*whole, 9]


def test_a_whole_row_without_its_line_end_stays(tmp_path: Path) -> None:
    """Editors leave the last line end off; the next row begins on a line of its own."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    with RowFile(path) as file:
        file.append({"a": 3})
    assert [row["a"] for row in read_rows(path)] == [1, 2, 3]


@pytest.mark.parametrize("text", ["# Readme\n", "hello", '{"a": 1}\nhello\n{"a": 2}\n', "[1]\n{}\n"])
def test_other_files_are_refused_and_stay_as_they_are(text: str, tmp_path: Path) -> None:
    """A wrong -o must not cost anyone a file."""
    path = tmp_path / "notes.md"
    path.write_text(text)
    with pytest.raises(RowsError, match=re.escape("wanted a row of results, a JSON object, got")):
        RowFile(path)
    assert path.read_text() == text


def test_the_error_says_where(tmp_path: Path) -> None:
    """File and line, and what stands there."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\nno row\n{}\n")
    with pytest.raises(RowsError) as error:
        read_rows(path)
    assert str(error.value) == f"{path}:2: wanted a row of results, a JSON object, got 'no row'"


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second is refused until the first is done."""
    path = tmp_path / "rows.jsonl"
    with RowFile(path), pytest.raises(RowsError) as error:
        RowFile(path)
    assert str(error.value) == (
        f"{path}: another process writes rows to it; wait for it, or choose another file"
    )
    RowFile(path).close()


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of the row is taken back, and the rows before it stay."""
    path = tmp_path / "rows.jsonl"
    write = os.write

    def half(handle: int, data: bytes) -> int:
        return write(handle, data[: len(data) // 2])

    with RowFile(path) as file:
        file.append({"a": 1})
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(RowsError) as error:
            file.append({"a": 2})
    assert str(error.value) == f"{path}: a row cannot be written: the disk took only a part of it"
    assert path.read_text() == '{"a": 1}\n'


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    """Every JSON reader takes the file."""
    path = tmp_path / "rows.jsonl"
    with RowFile(path) as file:
        file.append({"kl": float("nan"), "deep": {"x": [float("inf"), 1.5]}})
    assert json.loads(path.read_text()) == {"kl": None, "deep": {"x": [None, 1.5]}}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Said as one sentence."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "rows.jsonl"
    with pytest.raises(RowsError, match=rf"^{re.escape(str(path))}: cannot be written: "):
        RowFile(path)
    with pytest.raises(RowsError, match=rf"^{re.escape(str(path))}: cannot be read: "):
        read_rows(path)
