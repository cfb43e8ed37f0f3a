"""`tokenloom train`: what it prints, and its exit codes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenloom.runtime.cli import app
from tokenloom.runtime.tiny.journal import Journal

SMOKE = Path(__file__).resolve().parents[3] / "examples" / "tiny" / "smoke.yaml"


def test_a_recipe_to_a_checkpoint(tmp_path: Path) -> None:
    """The folder of the checkpoint is printed, and nothing else, on stdout."""
    text = SMOKE.read_text().replace("steps: 20", "steps: 5").replace("steps: 30", "steps: 5")
    (tmp_path / "r.yaml").write_text(text)
    done = CliRunner().invoke(app, ["train", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/run/model\n")
    assert "eyes 5/5  0:00 left" in done.stderr
    assert "all: done in 0:0" in done.stderr


def test_a_bad_recipe_is_bad_usage(tmp_path: Path) -> None:
    """Exit code 2, the mistake at its place, and nothing is written."""
    (tmp_path / "r.yaml").write_text(SMOKE.read_text().replace("muon: 0.02", "moun: 0.02", 1))
    done = CliRunner().invoke(app, ["train", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "'moun' is not known in a stage; did you mean 'muon'?" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_is_a_failed_run(tmp_path: Path) -> None:
    """Exit code 1, and what happened."""
    (tmp_path / "r.yaml").write_text(SMOKE.read_text().replace("muon: 0.02", "muon: 1e38"))
    done = CliRunner().invoke(app, ["train", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run"), "-q"])
    assert done.exit_code == 1
    assert done.stderr == (
        "error: stage eyes, step 2: the loss is nan, wanted a finite number; there is no checkpoint of this "
        "stage yet. Lower muon (1e+38), adamw (0.001) or clip (1), and train anew\n"
    )


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, a checkpoint, and the command that goes on."""
    advance = Journal.advance

    def stop(self: Journal, step: int) -> None:
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "advance", stop)
    done = CliRunner().invoke(app, ["train", str(SMOKE), "-o", str(tmp_path / "run")])
    assert done.exit_code == 130
    assert done.stderr.splitlines() == [
        "stopping after this step; once more: at once, back to the last checkpoint",
        "stopped",
        f"  the last checkpoint is {tmp_path}/run/checkpoints/eyes/checkpoint-3",
        f"  go on with: tokenloom train {SMOKE} -o {tmp_path}/run --resume",
    ]
