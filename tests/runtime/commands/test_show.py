"""Tables and values as text and as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom.runtime.commands.show import as_json, fitting, plain_table, seconds_text, size_text
from tokenloom.runtime.values import Answer, Slot, Source, Table, Tile, Tokens


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (131_072, "131 kB"),
        (1_234_567, "1.2 MB"),
        (6.31e9, "6.3 GB"),
        (2e12, "2000 GB"),
    ],
)
def test_bytes_for_people(count: float, text: str) -> None:
    """Two or three digits and a unit."""
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.00042, "0.0004"), (0.0317, "0.0317"), (0.5, "0.500"), (1.524, "1.52"), (83.14, "83.1")],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    """Three digits or so."""
    assert seconds_text(seconds) == text


def test_a_plain_table_is_aligned() -> None:
    """Numbers right, text left, no trailing blanks, no colour."""
    text = plain_table(("stage", "seconds"), [("tiles", "1.5"), ("a", "10.25")], right=("seconds",))
    assert text == "stage  seconds\ntiles      1.5\na        10.25"


TOKENS = Tokens.of_patches(Source((Tile(frame=0, box=(0, 0, 1, 1)),), 1, 2), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("x", "x"),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (math.nan, None),
        (Path("a/b"), "a/b"),
        ((1, "a"), [1, "a"]),
        ({"a": (1,)}, {"a": [1]}),
        (TOKENS, {"type": "Tokens", "shape": [2, 3], "dtype": "float32"}),
        (torch.zeros(2, dtype=torch.long), {"type": "Tensor", "shape": [2], "dtype": "int64"}),
        (Table(("a",), ((1,),), "t"), {"columns": ["a"], "rows": [[1]], "title": "t"}),
        (Slot(), {"type": "Slot", "text": "Slot"}),
    ],
)
def test_values_as_json(value: Any, plain: Any) -> None:
    """Texts and numbers as they are, tensors by shape."""
    assert as_json(value) == plain


def test_an_answer_as_json_has_all_its_fields() -> None:
    """Ids, finish and counts too."""
    answer = Answer(text="a", ids=(1, 2), finish="stop", prompt_tokens=3, visual_tokens=2)
    assert as_json(answer)["ids"] == [1, 2]
    assert as_json(answer)["finish"] == "stop"


@pytest.mark.parametrize(
    ("width", "columns"),
    [(67, ["node", "why", "device", "freed"]), (66, ["node", "why", "freed"]), (57, ["node", "why"])],
)
def test_a_narrow_terminal_gets_fewer_columns(width: int, columns: list[str]) -> None:
    """The spare ones go, the first named first; a long cell counts as 40 characters, for it is wrapped."""
    table = (["node", "why", "device", "freed"], [["a", "x" * 99, "cpu", "b"]])
    shown, rows = fitting(*table, ("device", "freed"), width)
    assert list(shown) == columns
    assert [len(row) for row in rows] == [len(columns)]
