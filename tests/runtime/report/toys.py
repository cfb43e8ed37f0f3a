"""A working folder with a plug-in, graphs and a file to read, for tests of recipes, results and reruns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime import registry
from tokenloom.runtime.cli import app

PLUGIN = '''
from pathlib import Path
import torch
from tokenloom import node
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.values import Picture, Table

@node
def toy_read(*, path: Path) -> str:
    """What a file says.

    path: the file.
    """
    return path.read_text()

@node
def toy_repeat(text: str, *, times: int = 1, ends: float = 0.0) -> str:
    """A text, several times."""
    return text * times + ("!" if ends == float("inf") else "")

@node
def toy_paint(text: str, *, side: int = 8) -> Picture:
    """A picture that the text decides."""
    return Picture(torch.full((side, side, 3), len(text), dtype=torch.uint8), f"<{text}>")

@node
def toy_count(text: str) -> Table:
    """A table of letters."""
    rows = tuple((letter, text.count(letter)) for letter in sorted(set(text)))
    return Table(("letter", "count"), rows, "letters & counts")

@node
def toy_fail(text: str, *, why: str = "no luck") -> str:
    """Fails."""
    if why == "stop":
        raise KeyboardInterrupt
    raise MediaError(f"{why}; try another")
'''
BASE = """
tokenloom: 1
title: Words
params:
  words: {type: path, help: a file}
  times: {type: int, default: 1, min: 1}
nodes:
  read: {node: toy_read, path: $words}
  many: {node: toy_repeat, text: $read, times: $times}
outputs: {answer: $many}
"""
GRAPH = """
tokenloom: 1
extends: base.yaml
title: Words & <pictures>
params: {times: {default: 2}, ends: {type: float, default: 0.0}}
nodes:
  many: {ends: $ends}
  seen: {node: toy_paint, text: $many}
  counts: {node: toy_count, text: $many}
outputs: {seen: $seen, counts: $counts}
"""
FAILING = """
tokenloom: 1
extends: base.yaml
params: {why: {type: str, default: no luck}}
nodes:
  broken: {node: toy_fail, text: $many, why: $why}
  after: {node: toy_repeat, text: $broken}
outputs: {answer: $after}
"""


@contextmanager
def working_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, entered: `mine.py`, `base.yaml`, `words.yaml`, `failing.yaml`, `hi.txt`; no traces left."""
    files = {"mine.py": PLUGIN, "base.yaml": BASE, "words.yaml": GRAPH, "failing.yaml": FAILING}
    for name, text in (files | {"hi.txt": "hi"}).items():
        (path / name).write_text(text)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(path / "cache"))
    monkeypatch.chdir(path)
    registry.load_builtin()
    nodes, loaded = dict(registry._nodes), set(registry._loaded)
    yield path
    registry._nodes.clear()
    registry._nodes.update(nodes)
    registry._loaded.clear()
    registry._loaded.update(loaded)


def forget_plugins() -> None:
    """As a new process would be: the toy nodes are not known."""
    for name in [name for name in registry._nodes if name.startswith("toy_")]:
        del registry._nodes[name]
    registry._loaded.intersection_update({"builtin"})


def call(*args: str) -> Result:
    """A command, as it is typed."""
    return CliRunner().invoke(app, args)


def mine(*args: str) -> Result:
    """A command with the plug-in."""
    return call(*args, "--plugin", "mine.py")
