"""What the README shows is true: its graphs, its Python, its messages and its names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom import load, run
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import VisualTokens

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order; "" for those without one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def test_the_first_block_holds_two_command_lines() -> None:
    """One that runs the main job, one that passes the tests, each from a fresh clone."""
    lines = [line for line in blocks("bash")[0].splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ") for line in lines)


def test_the_yaml_shown_is_the_bundled_graph() -> None:
    """Letter by letter: all of VisionZip's, and the part of FastV's that lies behind place_tokens."""
    whole, part = blocks("yaml")
    assert whole == (ROOT / "graphs" / "visionzip.yaml").read_text()
    assert part in (ROOT / "graphs" / "fastv.yaml").read_text()


def test_the_error_shown_is_the_error_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt node in that graph gives the message, place and caret that the README prints."""
    monkeypatch.chdir(tmp_path)
    text = blocks("yaml")[0].replace("_dominant", "_dominent")
    Path("mine.yaml").write_text(text)
    with pytest.raises(GraphError) as error:
        load("mine.yaml")
    shown = next(block for block in blocks("") if block.startswith("mine.yaml"))
    assert shown.strip() in str(error.value)


def test_the_graph_in_python_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """20 + 4 tokens that together stand for every patch."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    scope: dict[str, Any] = {}
    exec(blocks("python")[0], scope)
    tokens = scope["result"]["tokens"]
    assert len(tokens) == 24
    assert torch.equal(tokens.member.sort().values, torch.arange(len(tokens.source)))


def test_selection_after_projection_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its tokens are the language model's, as many as the comment says, and stand for every patch."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path))
    scope: dict[str, Any] = {}
    exec(blocks("python")[0] + blocks("python")[1], scope)
    result = run(scope["late"], image=ROOT / "examples" / "media" / "shapes.png")
    assert type(result["visual"]) is VisualTokens
    assert len(result["visual"]) == 24
    assert torch.equal(result["visual"].member.sort().values, torch.arange(len(result["visual"].source)))


def test_the_node_shown_is_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """It registers under its name, with its setting and tooltip, and does what it says."""
    scope: dict[str, Any] = {"torch": torch, "__name__": "readme_nodes"}
    exec(compile(blocks("python")[2], "readme_nodes", "exec", dont_inherit=True), scope)
    made = scope["every_nth"]
    assert made.widgets["n"].help == "distance between two tokens that stay."
    assert made.summary == "Every n-th token, in source order."


def test_every_graph_in_the_table_exists() -> None:
    """Each name in the first column is a bundled graph."""
    table = README[README.index("| graph |") : README.index("## Inside")]
    rows = [row for row in table.splitlines()[2:] if row.startswith("|")]
    names = [name for row in rows for name in re.findall(r"`([\w/]+)`", row.split("|")[1])]
    assert names
    for name in names:
        load(name).check()


def test_nodes_named_in_code_exist() -> None:
    """`nodes.x(...)` in the README's Python is a node."""
    named = set(re.findall(r"nodes\.(\w+)\(", README))
    assert named <= set(all_nodes())


def test_the_table_of_nodes_is_complete() -> None:
    """Every built-in node stands in it once, and nothing else does."""
    table = README[README.index("| stage | nodes |") : README.index("`tokenloom nodes NAME`")]
    named = re.findall(r"`(\w+)`", table)
    built_in = [n for n, node in all_nodes().items() if node.fn.__module__.startswith("tokenloom.nodes")]
    assert sorted(named) == sorted(built_in)
