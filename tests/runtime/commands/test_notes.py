"""What a plan and a checkpoint take on trust, as the commands print it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tokenloom.runtime.cli import app

PICTURE = Path(__file__).parents[3] / "examples" / "media" / "shapes.png"
TRUST = "scale_factor 2, from scale_factor of config.json; no weight can confirm it"
OTHER = "scale_factor 3, as set here, where the checkpoint has 2"


MADE = "tiny-random-tokenpacker"
LEVELS = "levels 12, 16, 22, 23: the layers that the projector reads"


def said(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_plan_prints_notes() -> None:
    """Below the table, each with the node that it is about; nothing for models that leave no doubt."""
    words = ("plan", "tokenpacker", f"image={PICTURE}", f"checkpoint={MADE}", "scale_factor=3", "--no-cache")
    notes = [f"model: {TRUST}", f"visual: {OTHER}", f"visual: {LEVELS}"]
    assert said(*words).splitlines()[-3:] == [f"note: {note}" for note in notes]
    assert json.loads(said(*words, "--json"))["notes"] == notes
    assert "note:" not in said("plan", "llava15", f"image={PICTURE}", "--no-cache")


def test_doctor_looks_at_checkpoints() -> None:
    """Instead of at the installation."""
    lines = said("doctor", "tiny-random-tokenpacker").splitlines()
    assert [line.split()[0] for line in lines[:-2]] == [
        "tiny-random-tokenpacker", "tower", "projector", "on", "language",
    ]  # fmt: skip
    assert lines[3].endswith(TRUST)
    assert lines[-1] == "all is well"


def test_doctor_marks_what_is_wrong() -> None:
    """And leaves with 1."""
    done = CliRunner().invoke(app, ["doctor", "nowhere"])
    assert done.exit_code == 1
    assert done.stdout.startswith("! nowhere  nowhere: no such folder, ")
