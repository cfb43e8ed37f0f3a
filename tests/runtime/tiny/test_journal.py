"""What a run says of itself."""

from __future__ import annotations

import io
from pathlib import Path

from tokenloom.runtime.tiny.journal import CURVE_POINTS, Journal, clock, line

ENTRY = {
    "stage": "all",
    "step": 10,
    "of": 30,
    "losses": {"lm": 1.0, "lm@8": 2.0, "patch": 0.25},
    "right": {"digit": 40.0, "digit@8": 60.0},
}


def test_a_line_of_the_console() -> None:
    """Pictures and clips together, and the time left."""
    assert line(ENTRY, 75.2) == "all 10/30  1:15 left  lm 1.500  patch 0.250\n    right tokens, %: digit 50"
    assert line({**ENTRY, "right": {}}, None) == "all 10/30  lm 1.500  patch 0.250"


def test_clock() -> None:
    """Hours only when there are any."""
    assert (clock(5), clock(65.4), clock(3723)) == ("0:05", "1:05", "1:02:03")


def test_lines_of_steps_to_come_are_dropped(tmp_path: Path) -> None:
    """A line that a kill cut off, and those after the checkpoint, are not kept."""
    journal = Journal(tmp_path, quiet=True)
    for step in (1, 2, 3):
        journal.write({"step": step})
    with journal.path.open("a") as file:
        file.write('{"step": 4')
    journal.keep(lambda entry: entry["step"] <= 2)
    assert journal.path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_curves_are_thinned_out(tmp_path: Path) -> None:
    """A long stage leaves a curve of at most 60 points that ends where it ended."""
    journal = Journal(tmp_path, quiet=True)
    for step in range(1, 101):
        journal.write({"stage": "a", "step": step, "losses": {}, "right": {}, "seconds": 0.0})
    steps = [entry["step"] for entry in journal.curve("a")]
    assert len(steps) <= CURVE_POINTS
    assert steps[-3:] == [96, 98, 100]
    assert journal.curve("b") == []


def test_no_bar_without_a_terminal(tmp_path: Path) -> None:
    """Into a file go lines alone."""
    file = io.StringIO()
    journal = Journal(tmp_path, file=file)
    with journal.progress("all", 10, 0):
        journal.advance(3)
        journal.say("here")
    assert file.getvalue() == "here\n"
