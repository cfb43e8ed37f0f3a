"""The benchmark as a whole: bad words, going on after a stop, tuning, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.accuracy.chart import chart
from tokenloom.runtime.accuracy.data import scenes
from tokenloom.runtime.accuracy.draft import Parts
from tokenloom.runtime.accuracy.job import ROWS, Job, answers
from tokenloom.runtime.accuracy.markdown import markdown
from tokenloom.runtime.accuracy.suite import Setting
from tokenloom.runtime.accuracy.tuning import Asked, tuned
from tokenloom.runtime.errors import BenchError
from tokenloom.runtime.rows import read_rows

from ...checkpoints import RANDOM
from .small import CHECKPOINT, QUESTIONS, asking, run, summed

FEW = {"methods": ("full", "random", "uniform"), "budgets": (0.5, 0.25)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"methods": ("vizionzip",)},
            "--methods: no method is called 'vizionzip'; did you mean 'visionzip'?",
        ),
        (
            {"budgets": (0.5, 0.0)},
            "--budgets: 0 is no part of the tokens; wanted above 0 and up to 1, such as 0.25",
        ),
        (
            {"budgets": (1.5,)},
            "--budgets: 1.5 is no part of the tokens; wanted above 0 and up to 1, such as 0.25",
        ),
        ({"budgets": ()}, "--budgets: none is given; wanted parts of the tokens, such as .5,.25,.1"),
        ({"number": 5}, "--n: 5 questions say nothing; wanted at least 20, and 500 for a table"),
        ({"split": "tset"}, "--split: no split is called 'tset'; did you mean 'test'?"),
        ({"frames": 1}, "--frames: 1 is no clip; wanted at least 2"),
    ],
)
def test_what_is_refused_at_once(given: dict[str, Any], told: str) -> None:
    """Before the checkpoint is looked at."""
    with pytest.raises(BenchError) as refused:
        asking(**given)
    assert str(refused.value) == told


def test_a_method_for_other_media(tmp_path: Path) -> None:
    """It is not left out in silence."""
    with pytest.raises(BenchError) as refused:
        Job.of(asking(methods=("prunevid",)), tmp_path)
    assert str(refused.value) == "--methods: prunevid is for clips only, which are not asked for"


def test_all_methods_of_a_checkpoint_are_those_that_fit(tmp_path: Path) -> None:
    """The others are named with the reason."""
    asked = asking(checkpoint=str(RANDOM / "tiny-random-tokenpacker"), budgets=(0.5,), split="pairs")
    (work,) = Job.of(asked, tmp_path).works
    assert {"random", "visionzip", "prumerge"} <= set(work.left_out)
    assert {"full", "fastv@50", "fastv_random@50"} <= {setting.id for setting in work.settings}


def test_going_on(tmp_path: Path) -> None:
    """Rows that are there are not made again; a further method is asked the same questions."""
    job, rows, made = run(tmp_path, asking(**FEW))
    asked = len(job.works[0].questions)
    assert made == asked == len(rows) >= QUESTIONS
    lines = (tmp_path / ROWS).read_text().splitlines(keepends=True)
    (tmp_path / ROWS).write_text("".join(lines[:-3]) + lines[-3][:40])  # killed in the middle of a line
    _, rows, made = run(tmp_path, asking(**FEW))
    assert (made, len(rows)) == (3, asked)
    _, rows, made = run(tmp_path, asking(**FEW | {"methods": ("full", "random", "uniform", "fastv")}))
    assert made == asked
    assert set(answers(rows)[rows[0]["id"]]) == {
        "full", "random@50", "random@25", "uniform@50", "uniform@25", "fastv@50", "fastv@25"
    }  # fmt: skip
    with pytest.raises(BenchError) as refused:
        run(tmp_path, asking(**FEW, seed=1))
    assert str(refused.value) == (
        f"{tmp_path / ROWS}: holds rows of another benchmark, seed 0 instead of 1; choose another folder (-o)"
    )


def test_an_interrupted_run_gives_the_same(tmp_path: Path) -> None:
    """Answers do not depend on what was done before in the same process."""
    _, whole, _ = run(tmp_path / "a", asking(**FEW))
    _, first, _ = run(tmp_path / "b", asking(**FEW | {"methods": ("uniform",)}))
    _, both, _ = run(tmp_path / "b", asking(**FEW))
    assert len(first) < len(both)
    assert answers(whole) == answers(both)


def test_files_of_something_else(tmp_path: Path) -> None:
    """Rows that no benchmark wrote are left alone."""
    (tmp_path / ROWS).write_text('{"id": "1", "answer": "red"}\n')
    with pytest.raises(BenchError) as refused:
        run(tmp_path, asking(**FEW))
    assert str(refused.value) == (
        f"{tmp_path / ROWS}: holds rows of something else; choose another folder (-o)"
    )
    assert len(read_rows(tmp_path / ROWS)) == 1


def test_tuning_meets_the_budget(tmp_path: Path) -> None:
    """LOOK-M's ratios are such that a quarter of the visual keys stays, up to a key."""
    parts = Parts(CHECKPOINT)
    found = scenes(tmp_path, "image", split="validation", seed=0, frames=4, least=10)
    asked = [Asked(scene.file, scene.questions[0]["question"]) for scene in found]
    (setting,) = tuned([Setting("lookm", 0.25)], parts, "image", 4, asked)
    assert setting.knob is not None
    made = summed(tmp_path, asking(methods=("full", "lookm"), budgets=(0.25,)))
    kept = made["media"]["pictures"]["settings"][1]["kept_of_full"]
    assert abs(kept - 0.25) < 0.03


def test_summary_tables_and_plot_say_the_same(tmp_path: Path) -> None:
    """Shares lie in their intervals, gaps are differences, tables have the summary's numbers."""
    given = {"methods": ("full", "visionzip", "random", "uniform"), "budgets": (0.5, 0.25)}
    made = summed(tmp_path, asking(**given))
    pictures = made["media"]["pictures"]
    by_id = {s["id"]: s for s in pictures["settings"]}
    assert list(by_id) == [
        "full", "visionzip@50", "visionzip@25", "random@50", "random@25", "uniform@50", "uniform@25"
    ]  # fmt: skip
    for setting in by_id.values():
        one = setting["shares"]["overall"]
        assert one["low"] <= one["accuracy"] <= one["high"]
        assert one["asked"] == pictures["questions"]
    assert by_id["full"]["kept_of_full"] == by_id["full"]["flops_of_full"] == 1
    for gap in pictures["gaps"]:
        mine, other = (by_id[gap[name]]["shares"]["overall"]["accuracy"] for name in ("id", "against"))
        assert gap["gap"]["overall"]["gap"] == pytest.approx(mine - other)
    assert {(g["id"], g["against"]) for g in pictures["gaps"] if g["id"] == "visionzip@25"} == {
        ("visionzip@25", "random@25"), ("visionzip@25", "uniform@25"), ("visionzip@25", "full")
    }  # fmt: skip
    text = markdown(made)
    assert f"{pictures['questions']} questions about {pictures['scenes']} pictures." in text
    share = by_id["visionzip@25"]["shares"]["overall"]["accuracy"]
    assert "| **VisionZip** | before the language model | " in text
    assert f" | {100 * share:.1f} [" in text
    figure = chart(made)
    assert len(figure.axes) == 3
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {"VisionZip", "random tokens", "evenly spaced tokens", "every token"} <= set(labels)
