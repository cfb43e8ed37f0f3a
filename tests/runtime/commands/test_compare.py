"""`tokenloom compare`: exit codes, files, JSON, and refusals before work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime.cli import app

PICTURE = str(Path(__file__).parents[3] / "examples" / "media" / "shapes.png")
GIVEN = (f"image={PICTURE}", "checkpoint=tiny-random", "question=What is it?", "max_new_tokens=3")
PLUGIN = """
from tokenloom import node
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.values import Tokens

@node
def cmd_broken(tokens: Tokens) -> Tokens:
    \"\"\"Fails.\"\"\"
    raise MediaError("cmd_broken: no luck")
"""
BROKEN = """
tokenloom: 1
title: Broken
extends: visionzip.yaml
nodes:
  broken: {node: cmd_broken, tokens: $merged}
  visual: {tokens: $broken}
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def told(*words: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(app, ["compare", *words, "--no-cache"])


def test_a_table_and_a_page() -> None:
    """One line per graph; the page is written and named."""
    result = told("visionzip:keep=3,5:targets=2", *GIVEN, "-o", "page.html")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "What is it?"
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "base/llava15", "visionzip keep=3 targets=2", "visionzip keep=5 targets=2",
    ]  # fmt: skip
    assert "page.html written" in lines
    assert Path("page.html").read_text().startswith("<!DOCTYPE html>")


def test_json_alone() -> None:
    """One object, nothing else on stdout."""
    result = told("fastv", "--no-base", "--json", *GIVEN)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [column["name"] for column in found["columns"]] == ["fastv"]
    assert found["columns"][0]["kl"] is None


def test_a_failure_is_exit_code_1() -> None:
    """The others are in the table, and the page is written."""
    Path("plug.py").write_text(PLUGIN)
    Path("broken.yaml").write_text(BROKEN)
    result = told("broken.yaml", "fastv", "--plugin", "plug.py", *GIVEN, "-o", "page.html")
    assert result.exit_code == 1
    assert "failed: MediaError: cmd_broken: no luck" in result.stdout
    assert "broken.yaml failed: MediaError: cmd_broken: no luck" in result.stderr
    assert "in node broken.yaml/broken" in result.stderr or "in node broken_yaml/broken" in result.stderr
    assert "fastv" in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("visionzip", "-o", "page.txt"), "error: -o page.txt: wants a file name that ends in .html\n"),
        (
            ("visionzip", "-o", "no/page.html"),
            "error: -o no/page.html: cannot be written: there is no folder no\n",
        ),
        (("visionzip", "image=a", "image=b"), "error: params.image is given twice\n"),
        (
            ("visionzip", "image=a", "--base", "llava15", "--no-base"),
            "error: --base and --no-base: say one of them\n",
        ),
        ((), "error: nothing to compare: name graphs, or give image=FILE or video=FILE for those that fit\n"),
    ],
)
def test_bad_words_are_exit_code_2(words: tuple[str, ...], message: str) -> None:
    """Nothing is run."""
    result = told(*words)
    assert result.exit_code == 2
    assert result.stderr == message


def test_help_tells_the_syntax() -> None:
    """How a graph gets values of its own."""
    result = CliRunner().invoke(app, ["compare", "--help"])
    assert "tokenloom compare visionzip:keep=16,32 fastv image=cat.jpg -o page.html" in result.stdout
