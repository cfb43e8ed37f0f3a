"""`tokenloom run --save`: pictures among the results as files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tokenloom.runtime import registry
from tokenloom.runtime.cli import app

PLUGIN = """
import torch
from tokenloom import node
from tokenloom.runtime.values import Picture

@node
def test_paint(*, height: int = 4, width: int = 6) -> Picture:
    \"\"\"A black picture.\"\"\"
    return Picture(torch.zeros(height, width, 3, dtype=torch.uint8), f"{width} by {height}")

@node
def test_word(*, path: str = "") -> str:
    \"\"\"A word.\"\"\"
    return "ran"
"""
GRAPH = """
tokenloom: 1
title: Pictures
params: {picture: {type: str, default: ""}}
nodes:
  small: {node: test_paint}
  wide: {node: test_paint, width: 20}
  word: {node: test_word, path: $picture}
outputs: {small: $small, wide: $wide, word: $word}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plug-in, a graph, an own cache; and no node of theirs afterwards."""
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plug.py").write_text(PLUGIN)
    (tmp_path / "g.yaml").write_text(GRAPH)
    registry.load_builtin()
    before, loaded = dict(registry._nodes), set(registry._loaded)
    yield tmp_path
    registry._nodes.clear()
    registry._nodes.update(before)
    registry._loaded.intersection_update(loaded)


def run(*words: str, graph: str = "g.yaml") -> Result:
    return CliRunner().invoke(app, ["run", graph, "--plugin", "plug.py", *words])


def test_one_picture_into_a_file(folder: Path) -> None:
    """Said where, with the caption and the recipe of the run inside; nothing else is written."""
    done = run("--save", "wide=w.png", "-q")
    assert done.exit_code == 0, done.output
    assert "wide: Picture[20x4] '20 by 4', saved as w.png" in done.output
    with Image.open(folder / "w.png") as opened:
        assert opened.size == (20, 4)
        assert opened.info["Title"] == "20 by 4"
        assert json.loads(opened.info["tokenloom"])["output"] == "wide"
    assert sorted(file.name for file in folder.glob("*.png")) == ["w.png"]


def test_all_pictures_into_a_folder(folder: Path) -> None:
    """It is made, and each is called like its result."""
    assert run("-o", "out/pictures").exit_code == 0
    assert sorted(file.name for file in (folder / "out" / "pictures").iterdir()) == ["small.png", "wide.png"]


def test_a_file_beside_the_folder(folder: Path) -> None:
    """Both are written, and a second run writes over them."""
    for _ in range(2):
        assert run("-o", "out", "-o", "small=mine.png").exit_code == 0
    assert (folder / "mine.png").read_bytes()[:8] == (folder / "out" / "small.png").read_bytes()[:8]


def test_json_has_the_path(folder: Path) -> None:
    """Of saved pictures alone."""
    outputs = json.loads(run("--json", "-o", "wide=w.png").stdout)["outputs"]
    assert outputs["wide"] == {"type": "Picture", "text": "Picture[20x4] '20 by 4'", "path": "w.png"}
    assert "path" not in outputs["small"]


def test_the_node_of_until_can_be_saved(folder: Path) -> None:
    """It is the result then."""
    assert run("--until", "small", "-o", "small=s.png").exit_code == 0
    assert (folder / "s.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wide=w.jpg"], "wide=w.jpg: wants a file name that ends in .png, or a folder without NAME="),
        (["w.png"], "w.png: wants NAME=FILE.png, with the name of a result, or a folder"),
        (["wid=w.png"], "wid=w.png: no result is called 'wid'; did you mean 'wide'?"),
        (["word=w.png"], "word=w.png: word is no picture; pictures are small, wide"),
        (["wide=no/w.png"], "wide=no/w.png: cannot be written: there is no folder no"),
        (["wide=d.png"], "wide=d.png: cannot be written: d.png is a folder"),
        (["g.yaml"], "g.yaml: cannot be a folder: File exists"),
        (["wide=w.png", "small=./w.png"], "small=./w.png: w.png is given for another picture already"),
        (["wide=in.png"], "wide=in.png: in.png is read by this run (picture); save to another file"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(folder: Path, words: list[str], message: str) -> None:
    """Exit code 2, one sentence, no file and no cache entry."""
    (folder / "d.png").mkdir()
    (folder / "in.png").write_bytes(b"a picture")
    done = run("picture=in.png", *[part for word in words for part in ("--save", word)])
    assert (done.exit_code, done.stderr) == (2, f"error: --save {message}\n")
    assert (folder / "in.png").read_bytes() == b"a picture"
    assert not (folder / "w.png").exists()
    assert not list((folder / "cache").rglob("*.safetensors"))


def test_a_graph_without_pictures(folder: Path) -> None:
    """What to do about it."""
    (folder / "p.yaml").write_text("tokenloom: 1\nnodes: {word: {node: test_word}}\noutputs: {word: $word}\n")
    done = run("-o", "out", graph="p.yaml")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: --save out: none of the results (word) is a picture; add a node such as overlay_tokens to "
        "the graph, and make it an output\n"
    )


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before work."""
    readable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and readable(path, mode))
    for word in ("wide=w.png", "out"):
        done = run("-o", word)
        assert (done.exit_code, done.stderr) == (
            2,
            f"error: --save {word}: cannot be written: Permission denied\n",
        )


def test_a_disk_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed run: one sentence, and nothing half written."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = run("--no-cache", "-o", "wide=w.png")
    assert done.exit_code == 1
    assert done.stderr.endswith("error: --save wide=w.png: cannot be written: No space left on device\n")
    assert not list(folder.glob("w.png*"))
