"""mypy --strict and pyright strict find every wrong wire before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("wrong_wiring.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which this checkout is the package `tokenloom`, whatever it is called."""
    (tmp_path / "tokenloom").symlink_to(ROOT)
    (tmp_path / "wiring.py").write_text(SOURCE.read_text())
    return tmp_path


def deliberate() -> list[int]:
    return [n for n, line in enumerate(SOURCE.read_text().splitlines(), 1) if line.endswith("# wrong")]


def test_there_are_eight_mistakes() -> None:
    """Socket, widget type, literal, output name, missing input, widget name; class of tokens, twice."""
    assert len(deliberate()) == 8


@pytest.mark.timeout(600)
def test_mypy_reports_exactly_the_mistakes(folder: Path) -> None:
    """With the project's own settings, strict."""
    cache = os.environ.get("TOKENLOOM_MYPY_CACHE", str(ROOT / ".mypy_cache" / "wiring"))
    options = ["--strict", "--no-pretty", "--no-color-output", "--follow-imports=silent"]
    options += ["--cache-dir", cache, "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "wiring.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert sorted(found) == deliberate(), done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_pyright_reports_exactly_the_mistakes(folder: Path) -> None:
    """In strict mode, which also refuses unknown types."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(folder)], "include": ["wiring.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    found = {item["range"]["start"]["line"] + 1 for item in report if item["severity"] == "error"}
    assert sorted(found) == deliberate(), done.stdout + done.stderr
