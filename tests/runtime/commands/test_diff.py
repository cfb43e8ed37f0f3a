"""`tokenloom diff`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime.cli import app
from tokenloom.runtime.commands.diff import compare

MEDIA = Path(__file__).parents[3] / "examples" / "media"
GRAPH = """
tokenloom: 1
title: Mine
extends: visionzip.yaml
nodes:
  dominant: {score: received}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a graph of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(GRAPH)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["diff", *words])


def test_different_graphs_end_with_one() -> None:
    """As `diff` does; the lines say what is different."""
    result = run("visionzip", "mine.yaml")
    assert result.exit_code == 1
    assert result.stdout == (
        "--- visionzip: VisionZip on LLaVA-1.5\n"
        "+++ mine.yaml: Mine\n"
        "nodes\n"
        "  ~ dominant: score cls -> received\n"
        "1 node differs\n"
    )


def test_equal_graphs_say_so_and_end_with_zero() -> None:
    """One line."""
    result = run("visionzip", "visionzip.yaml")
    assert (result.exit_code, result.stdout) == (0, "the same graph\n")


def test_json_is_one_object() -> None:
    """With both names, and whether they are the same."""
    result = run("visionzip", "mine.yaml", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (facts["ok"], facts["same"], facts["b"]["title"]) == (True, False, "Mine")


@pytest.mark.parametrize("name", ["d.svg", "d.html"])
def test_a_drawing_is_written(name: str) -> None:
    """By the file's ending; nothing is printed then."""
    result = run("visionzip", "mine.yaml", "-o", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "<svg" in Path(name).read_text(encoding="utf-8")


def test_another_ending_is_refused_before_anything_is_read() -> None:
    """The message names the two."""
    result = run("nothing", "mine.yaml", "-o", "d.png")
    assert result.exit_code == 2
    assert result.stderr == "error: -o d.png: wants a file name that ends in .svg or .html\n"


def test_what_cannot_be_written_is_told() -> None:
    """As a mistake of the user's, not as a difference."""
    result = run("visionzip", "mine.yaml", "-o", "no/d.svg")
    assert result.exit_code == 2
    assert result.stderr == "error: -o no/d.svg: cannot be written: No such file or directory\n"


def test_an_unknown_graph_is_trouble() -> None:
    """Exit code 2, and a suggestion."""
    result = run("visionzip", "visonzip")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: visonzip: no such graph file, and no built-in graph is called that; "
        "did you mean 'visionzip'?\n"
    )


def test_a_folder_is_no_graph() -> None:
    """Said in words."""
    result = run("visionzip", ".")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: .: a folder; wanted a graph file, a built-in graph, or a PNG or result file\n"
    )


def test_one_name_alone_is_bad_usage() -> None:
    """Exit code 2."""
    assert run("visionzip").exit_code == 2


def test_a_failure_is_not_taken_for_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong ends with 2."""

    def broken(*_: object, **__: object) -> bool:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("tokenloom.runtime.commands.diff.compare", broken)
    assert run("visionzip", "mine.yaml").exit_code == 2


def test_a_result_file_holds_a_graph_and_its_values(folder: Path) -> None:
    """The graph of a run is compared like any other; what the run was given counts where defaults differ."""
    import torch

    from tokenloom.runtime.pictures import write_png
    from tokenloom.runtime.plan import plan
    from tokenloom.runtime.report.recipe import recipe_text
    from tokenloom.runtime.values import Picture
    from tokenloom.runtime.yamlfile import load

    made = plan(load("visionzip"), {"image": MEDIA / "shapes.png", "keep": 5})
    black = Picture(torch.zeros(2, 2, 3, dtype=torch.uint8), "")
    write_png(black, Path("run.png"), recipe_text(made, "x"))
    result = run("visionzip", "run.png")
    assert result.exit_code == 1
    given = result.stdout.partition("given\n")[2]
    assert given.endswith("shapes.png\n  ~ keep null -> 5\n2 given values differ\n")
    assert compare("run.png", "run.png")
