"""Sweep files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.runtime.excerpt import GraphFileError
from tokenloom.runtime.sweep.file import is_sweep_file, read_sweep_file

GOOD = """\
tokenloom: 1
title: Few tokens
graph: visionzip
data: items.jsonl
params: {keep: [16, 32], question: "What, then?"}
kl: true
base: llava15
score: contains
limit: 5
outputs: {rows: out/a.jsonl, parquet: a.parquet, plot: a.png}
plot: {x: flops, y: kl}
"""


def written(folder: Path, text: str) -> str:
    (folder / "sweep.yaml").write_text(text)
    return str(folder / "sweep.yaml")


def test_everything_that_a_file_may_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths start at the file's folder; graphs may be built in or lie beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "llava15.yaml").write_text("tokenloom: 1\n")
    (tmp_path / "sub" / "sweep.yaml").write_text(GOOD.replace("llava15", "llava15.yaml"))
    told = read_sweep_file("sub/sweep.yaml")
    assert told.graph.endswith("graphs/visionzip.yaml")
    assert told.base == "sub/llava15.yaml"
    assert (told.title, told.kl, told.score, told.limit) == ("Few tokens", True, "contains", 5)
    assert told.params == {"keep": [16, 32], "question": "What, then?"}
    assert told.data == Path("sub/items.jsonl")
    assert (told.rows, told.parquet) == (Path("sub/out/a.jsonl"), Path("sub/a.parquet"))
    assert (told.plot, told.x, told.y) == (Path("sub/a.png"), "flops", "kl")


def test_the_shortest_file(tmp_path: Path) -> None:
    """A graph; the rest may be said on the command line."""
    told = read_sweep_file(written(tmp_path, "tokenloom: 1\ngraph: visionzip\n"))
    assert (told.params, told.data, told.kl, told.score, told.x, told.y) == (
        {},
        None,
        False,
        "exact",
        "tokens",
        None,
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("prams: {}", "3:1: 'prams' is not known at the top of a sweep file; did you mean 'params'?"),
        ("outputs: {row: a}", "3:11: 'row' is not known in outputs; did you mean 'rows'?"),
        ("outputs: a.jsonl", "3:10: outputs: wants a mapping by name, got 'a.jsonl'"),
        ("params: {keep: {a: 1}}", "3:16: params.keep: wants a value or a list of values, got a mapping"),
        ("kl: 1", "3:5: kl: wants true or false, got 1"),
        ("limit: 0", "3:8: limit: wants a number of items, got 0"),
        ("score: exat", "3:8: score: 'exat' is not one of exact, contains, choice; did you mean 'exact'?"),
        ("plot: {y: bleu}", "3:11: y: 'bleu' is not one of accuracy, kl"),
        (
            "base: visionzp",
            "3:7: visionzp: no such graph file, and no built-in graph is called that; "
            "did you mean 'visionzip'?",
        ),
        ("data: *x", "3:7: *x is an alias; write the value out, or make it a parameter"),
    ],
)
def test_mistakes_have_a_place_and_a_caret(line: str, message: str, tmp_path: Path) -> None:
    """As in graph files."""
    path = written(tmp_path, f"tokenloom: 1\ngraph: visionzip\n{line}\n")
    with pytest.raises(GraphFileError) as error:
        read_sweep_file(path)
    said = str(error.value).split("\n")
    assert said[0] == f"{path}:{message}"
    assert said[1] == f"    {line}"
    assert said[2].endswith("^")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Version, graph, type."""
    path = written(tmp_path, "tokenloom: 2\ngraph: [a]\ndata: 5\n")
    with pytest.raises(GraphFileError) as error:
        read_sweep_file(path)
    assert [problem.message for problem in error.value.problems] == [
        "the version is missing or unknown: a sweep file starts with 'tokenloom: 1'",
        "graph: wants a graph file or a built-in graph, got a list",
        "data: wants the name of a file, got 5",
    ]


@pytest.mark.parametrize(
    ("text", "is_one"), [(GOOD, True), ("tokenloom: 1\nnodes: {}\n", False), ("- a\n", False), ("{", False)]
)
def test_sweep_files_are_told_from_graphs(text: str, is_one: bool, tmp_path: Path) -> None:
    """By `graph` at the top; what cannot be read is left to the reader of graphs."""
    assert is_sweep_file(written(tmp_path, text)) is is_one
    assert not is_sweep_file("visionzip")
