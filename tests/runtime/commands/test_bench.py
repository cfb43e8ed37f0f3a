"""`tokenloom bench accuracy`: what it writes and shows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime.accuracy.job import ROWS
from tokenloom.runtime.cli import app
from tokenloom.runtime.commands.bench import PLOT, SUMMARY, TABLES
from tokenloom.runtime.rows import read_rows

SMALL = ("--checkpoint", "tiny-random", "--images", "--n", "20")


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", "accuracy", *words])


def test_rows_summary_tables_and_plot(tmp_path: Path) -> None:
    """All four are written, the table is shown; again, nothing is left to do, and JSON says the same."""
    words = (*SMALL, "--methods", "full,random,uniform", "--budgets", ".5", "-o", str(tmp_path / "out"))
    done = call(*words)
    assert done.exit_code == 0, done.stderr
    files = [tmp_path / "out" / name for name in (ROWS, SUMMARY, TABLES, PLOT)]
    for file in files:
        assert f"{file} written" in done.stdout
    asked = len(read_rows(files[0]))
    assert f"{asked} questions about 3 pictures: right, % [95 % interval]" in done.stdout
    assert "evenly spaced tokens" in done.stdout
    assert files[3].read_bytes().startswith(b"\x89PNG")
    made = json.loads(files[1].read_text())
    assert [s["id"] for s in made["media"]["pictures"]["settings"]] == ["full", "random@50", "uniform@50"]

    again = call(*words, "--json")
    told = json.loads(again.stdout)
    assert (told["ok"], told["files"]) == (True, list(map(str, files)))
    assert told["media"] == made["media"]
    assert len(read_rows(files[0])) == asked

    other = call(*words, "--seed", "3", "-q")
    assert other.exit_code == 2
    assert other.stderr == (
        f"error: {files[0]}: holds rows of another benchmark, seed 0 instead of 3; choose another folder "
        "(-o)\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--methods", "vizionzip"), "no method is called 'vizionzip'; did you mean 'visionzip'?"),
        (("--methods", ","), "--methods: none is given; wanted names such as visionzip,random, or all"),
        (("--budgets", "half"), "--budgets: 'half' is no number; wanted parts such as .5,.25,.1"),
        (("--budgets", "25"), "--budgets: 25 is no part of the tokens; wanted above 0 and up to 1"),
        (("--n", "3"), "--n: 3 questions say nothing; wanted at least 20, and 500 for a table"),
        (("--jobs", "0"), "--jobs: 0; wanted 1 or more"),
        (("--rule", "exac"), "--rule: 'exac' is none of exact, option"),
        (("--no-images", "--no-clips"), "--no-images --no-clips: nothing is left to ask about"),
        (
            ("--methods", "visionzip", *SMALL[:-1], "20", "--checkpoint", "tiny-random-tokenpacker"),
            "does not fit",
        ),
    ],
)
def test_bad_words(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    """Exit code 2, and one sentence; no row is begun."""
    done = call(*words, "-o", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert not (tmp_path / "out" / ROWS).exists()


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    """It is left alone."""
    (tmp_path / "out").write_text("mine")
    done = call(*SMALL, "-o", str(tmp_path / "out"))
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: -o {tmp_path / 'out'}: is a file, wanted a folder\n",
    )
