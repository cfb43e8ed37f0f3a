"""Data files: what a line may say, and every mistake with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tokenloom import Graph, load, sweep
from tokenloom.runtime.errors import SweepError
from tokenloom.runtime.sweep.items import Item, read_items
from tokenloom.runtime.sweep.problems import Problems

from .toy import lines


def items(data: Any, graph: Graph) -> list[Item]:
    problems = Problems()
    found = read_items(data, graph, problems)
    problems.stop()
    return found


def test_a_line_gives_parameters_and_what_is_expected(tmp_path: Path) -> None:
    """Paths start at the file's folder; without an id the line's number counts; blank lines do not."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").touch()
    file = lines(
        tmp_path / "items.jsonl",
        '{"image": "media/a.png", "question": "What?", "answer": "cat", "kind": "thing", "id": 7}',
        "",
        '{"image": ["media/a.png", "media/a.png"], "answer": ["a", 2, true], "keep": 5}',
    )
    first, second = items(file, load("visionzip"))
    assert (first.id, first.kind, first.expected, first.where) == ("7", "thing", ("cat",), f"{file}:1")
    assert first.params == {"image": tmp_path / "media" / "a.png", "question": "What?"}
    assert first.given == {"image": "media/a.png", "question": "What?"}
    assert (second.id, second.where) == ("2", f"{file}:3")
    assert second.expected == ("a", "2", "yes")
    assert second.params == {"image": (tmp_path / "media" / "a.png",) * 2, "keep": 5}


def test_a_file_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paths start there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    lines(tmp_path / "items.jsonl", '{"image": "a.png"}')
    assert items(Path("items.jsonl"), load("visionzip"))[0].params == {"image": tmp_path / "a.png"}


@pytest.mark.parametrize(
    ("graph", "column", "parameter"),
    [
        ("pvc", "image", "media"),
        ("pvc", "video", "media"),
        ("prunevid", "media", "video"),
        ("visionzip", "media", "image"),
    ],
)
def test_media_by_any_of_its_names(graph: str, column: str, parameter: str, tmp_path: Path) -> None:
    """`media` stands for a picture or a clip, so that one file serves many graphs."""
    (tmp_path / "a").touch()
    file = lines(tmp_path / "items.jsonl", f'{{"{column}": "a"}}')
    assert items(file, load(graph))[0].params == {parameter: tmp_path / "a"}


def test_a_clip_is_no_picture() -> None:
    """A graph of pictures does not take clips unasked."""
    with pytest.raises(SweepError) as error:
        items([{"video": "a.mp4"}], load("visionzip"))
    assert str(error.value) == (
        "data[0]: no parameter of the graph is called 'video'; known: answer, checkpoint, id, image, keep, "
        "kind, max_new_tokens, question, targets"
    )


def test_every_mistake_has_its_place(tmp_path: Path) -> None:
    """File and line; missing files with their whole path."""
    file = lines(
        tmp_path / "items.jsonl",
        '{"image": "a.png", "quesion": "What?"}',
        '{"image": 3}',
        "[1]",
        '{"image": ',
        '{"question": "What?", "answer": []}',
    )
    with pytest.raises(SweepError) as error:
        items(file, load("visionzip"))
    found = str(error.value).split("\n")
    assert found[:2] == [
        f'{file}:3: wanted an object such as {{"question": ...}}, got [1]',
        f"{file}:4: is no JSON (Expecting value: line 1 column 11 (char 10)); wanted one object per line",
    ]
    assert found[2:] == [
        f"{file}:1.image: {tmp_path / 'a.png'}: no such file",
        f"{file}:1: no parameter of the graph is called 'quesion'; did you mean 'question'?",
        f"{file}:2.image: 3 is an int, wanted path or list of path",
        f"{file}:5.answer: wanted a text or a list of texts, got []",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--data {}: cannot be read: No such file or directory"),
        (b"", "{}: holds no items; wanted at least one"),
        (b"\n \n", "{}: holds no items; wanted at least one"),
        (b"\xff\xfe{", "--data {}: is no UTF-8 text; wanted JSON lines, one object per line"),
    ],
)
def test_files_that_hold_nothing(content: bytes | None, message: str, tmp_path: Path) -> None:
    """Missing, empty, blank, binary."""
    file = tmp_path / "items.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SweepError, match=f"^{re.escape(message.format(file))}$"):
        items(file, load("visionzip"))


def test_a_parameter_may_be_called_like_a_column_of_ours() -> None:
    """`kind` and `answer` of the graph are the graph's."""
    with Graph() as g:
        g.param("kind", str)
        g.param("answer", str)
    (item,) = items([{"kind": "x", "answer": "y"}], g)
    assert item.params == {"kind": "x", "answer": "y"}
    assert (item.kind, item.expected) == ("", None)


def test_lines_without_a_picture_among_lines_with_one(tmp_path: Path) -> None:
    """Are not asked about the sample; a file without any picture is."""
    (tmp_path / "a.png").touch()
    data = [{"image": str(tmp_path / "a.png")}, {"question": "Why?"}, {"question": "How?"}]
    with pytest.raises(SweepError) as error:
        sweep("visionzip", {"keep": 2}, data)
    assert str(error.value) == (
        "data[1]: no image (the picture to ask about, or a list of pictures; without one, a sample), and 1 "
        "more lines"
    )
    assert len(sweep("visionzip", {"keep": 2}, data[1:2])) == 1
