"""Folders of the benchmark: files that hold their answers, whole or not at all, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from itertools import pairwise
from pathlib import Path

import av
import decord
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tokenloom import load
from tokenloom.runtime.cli import app
from tokenloom.runtime.errors import ShapesError
from tokenloom.runtime.pictures import read_picture
from tokenloom.runtime.shapes import make as making
from tokenloom.runtime.shapes.card import markdown_table
from tokenloom.runtime.shapes.items import Settings, items, make_item
from tokenloom.runtime.shapes.make import make
from tokenloom.runtime.shapes.render import sprite, tag_sprite
from tokenloom.runtime.shapes.scene import COLOURS
from tokenloom.runtime.shapes.score import read_questions
from tokenloom.runtime.sweep.items import read_items
from tokenloom.runtime.sweep.problems import Problems

ROOT = Path(__file__).parents[3]
PICTURES, CLIPS = Settings(number=6), Settings(number=6, frames=7, fps=5.0)


def nearest_colour(pixels: NDArray[np.uint8], shape: str, box: list[int]) -> str:
    left, top, right, bottom = box
    whole = sprite(shape, right - left) == 1
    mean = pixels[top:bottom, left:right][whole].mean(0)
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


def likest_digit(pixels: NDArray[np.uint8], box: list[int]) -> int:
    left, top, right, bottom = box
    seen = pixels[top:bottom, left:right].mean(-1)
    return min(range(10), key=lambda digit: float(np.abs(seen - tag_sprite(digit)).sum()))


def test_pictures_are_kept_to_the_bit(tmp_path: Path) -> None:
    """Every question's picture is there and is what was drawn."""
    make(tmp_path / "out", PICTURES)
    for item in items(PICTURES):
        np.testing.assert_array_equal(read_picture(tmp_path / "out" / item.file), item.pixels()[0])


def test_clips_keep_their_frames_and_answers(tmp_path: Path) -> None:
    """decord and PyAV read as many frames as were drawn; colours, places and digits can be told from them."""
    make(tmp_path / "out", CLIPS)
    for item in items(CLIPS):
        path = tmp_path / "out" / item.file
        with av.open(str(path)) as container:
            read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
            assert float(container.streams.video[0].average_rate or 0) == 5.0
        again = decord.VideoReader(str(path)).get_batch(range(7)).asnumpy()
        assert len(decord.VideoReader(str(path))) == len(read) == 7
        assert np.abs(again.astype(int) - read).max() <= 2
        assert np.abs(read.astype(int) - item.pixels()).mean() < 4
        facts = item.facts()
        for t, pixels in enumerate(read):
            for one in facts["objects"]:
                if one["boxes"][t] is not None:
                    assert nearest_colour(pixels, one["shape"], one["boxes"][t]) == one["colour"]
            if facts["digit"] is not None and facts["digit"]["boxes"][t] is not None:
                assert likest_digit(pixels, facts["digit"]["boxes"][t]) == facts["digit"]["value"]


def test_what_a_line_says(tmp_path: Path) -> None:
    """A question is one object with its medium, options and scene, and its id is its own."""
    make(tmp_path / "out", CLIPS)
    rows = read_questions(tmp_path / "out")
    names = ["id", "video", "question", "answer", "kind", "options", "split", "scene"]
    assert {tuple(row) for row in rows} == {tuple(names)}
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(
        (tmp_path / "out" / row["video"]).is_file() and row["answer"] in row["options"] for row in rows
    )
    assert rows[0]["id"] == "video-test-000000-0"
    assert (rows[0]["scene"]["frames"], rows[0]["scene"]["fps"]) == (7, 5.0)


def test_the_same_settings_write_the_same_folder(tmp_path: Path) -> None:
    """Bytes of every file, whatever the folder is called."""
    for name in ("a", "b"):
        make(tmp_path / name, CLIPS)
    for file in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes() == file.read_bytes()


def test_more_scenes_begin_with_the_same(tmp_path: Path) -> None:
    """The first of 12 are those of 6."""
    few, many = (list(items(Settings(number=number))) for number in (6, 12))
    assert [item.scene for item in many[:6]] == [item.scene for item in few]


def test_two_frames_may_show_nothing_and_are_left_out() -> None:
    """Numbers go on; every scene that is made has a question."""
    made = list(items(Settings(number=200, frames=2)))
    assert all(item.questions for item in made)
    assert len(made) == 200
    assert any(b.index > a.index + 1 for a, b in pairwise(made))


def test_a_sweep_reads_the_questions(tmp_path: Path) -> None:
    """`questions.jsonl` is a data file of `tokenloom sweep` as it is."""
    make(tmp_path / "out", PICTURES)
    problems = Problems()
    found = read_items(tmp_path / "out" / "questions.jsonl", load("visionzip"), problems)
    problems.stop()
    rows = read_questions(tmp_path / "out")
    assert [(one.id, one.kind, one.expected) for one in found] == [
        (row["id"], row["kind"], (row["answer"],)) for row in rows
    ]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """It takes --force to replace what was made, and nothing replaces what was not."""
    out = tmp_path / "out"
    out.mkdir()
    make(out, Settings(number=1))
    with pytest.raises(ShapesError) as caught:
        make(out, PICTURES)
    assert (
        str(caught.value)
        == f"{out}: holds something already; choose another folder, or say --force to replace"
    )
    make(out, PICTURES, force=True)
    assert len(list((out / "images").iterdir())) == 6
    (out / "thesis.tex").touch()
    with pytest.raises(ShapesError) as caught:
        make(out, PICTURES, force=True)
    assert str(caught.value) == (
        f"{out}: holds 'thesis.tex', which `shapes make` did not write; choose another folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder stays as it was, and no temporary one is left."""
    out = tmp_path / "out"
    make(out, Settings(number=1))

    def full(path: Path, pixels: NDArray[np.uint8]) -> None:
        if path.name == "000002.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.touch()

    monkeypatch.setattr(making, "write_png", full)
    with pytest.raises(ShapesError) as caught:
        make(out, PICTURES, force=True)
    assert str(caught.value) == (f"{out}: cannot be written: No space left on device; nothing of it was kept")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (out / "images").iterdir()] == ["000000.png"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """The next call clears it away; what a living process writes stays."""
    dead, alive = tmp_path / ".out.4194304.abc", tmp_path / f".out.{os.getpid()}.abc"
    dead.mkdir()
    alive.mkdir()
    make(tmp_path / "out", Settings(number=1))
    assert (dead.exists(), alive.exists()) == (False, True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--n", "0"], "n: 0 is outside 1..2147483648"),
        (["--n", "-5"], "n: -5 is outside 1..2147483648"),
        (["--split", "tests"], "no split is called 'tests'; did you mean 'test'?"),
        (["--clips", "--frames", "1"], "frames: 1 is outside 2..512; pictures are made without clips"),
        (["--questions", "0"], "questions: 0 is too few; wanted at least 1 per scene"),
        (["--clips", "--fps", "0"], "fps: 0 is outside 0.1..240"),
        (["--seed", "-1"], "seed: -1 is outside 0..4294967295"),
    ],
)
def test_settings_that_make_nothing(tmp_path: Path, words: list[str], text: str) -> None:
    """Refused before a folder is made: exit code 2."""
    done = CliRunner().invoke(app, ["shapes", "make", str(tmp_path / "out"), *words])
    assert (done.exit_code, done.stderr) == (2, f"error: {text}\n")
    assert not any(tmp_path.iterdir())


def test_more_than_the_disk_holds(tmp_path: Path) -> None:
    """A huge number is refused at once, with what it would need."""
    done = CliRunner().invoke(app, ["shapes", "make", str(tmp_path / "out"), "--n", "2000000000"])
    assert done.exit_code == 2
    assert "2000000000 scenes need about 47,000.0 GB, and the disk has" in done.stderr


def test_from_the_command_line_and_back(tmp_path: Path) -> None:
    """make, describe and score speak of the same questions."""
    out, run = str(tmp_path / "out"), CliRunner()
    done = run.invoke(app, ["shapes", "make", out, "--n", "3", "--clips", "--frames", "5"])
    rows = read_questions(tmp_path / "out")
    assert done.stdout == f"{out}: 3 clips of 5 frames, {len(rows)} questions\n"
    described = json.loads(run.invoke(app, ["shapes", "describe", out, "--json"]).stdout)
    assert described[out][-1]["questions"] == len(rows)
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(f'{{"id": "{row["id"]}", "answer": "{row["answer"]}"}}\n' for row in rows))
    scored = json.loads(run.invoke(app, ["shapes", "score", out, str(answers), "--json"]).stdout)
    assert scored["shares"]["overall"]["accuracy"] == 1
    shown = run.invoke(app, ["shapes", "score", out, str(answers)]).stdout.splitlines()
    assert shown[-1].split()[:5] == ["overall", "100.0", "100.0", "to", "100.0"]
    bad = run.invoke(app, ["shapes", "score", out, str(answers), "--rule", "exakt"])
    assert (bad.exit_code, bad.stderr) == (
        2,
        "error: --rule: no rule is called 'exakt'; did you mean 'exact'?\n",
    )


@pytest.mark.parametrize("frames", [None, 8])
def test_the_tables_of_the_docs_are_measured(frames: int | None) -> None:
    """docs/shapes.md shows the baselines that 1000 scenes of the test split have."""
    made = Settings(number=1000, frames=frames)
    asked = [{"kind": q.kind, "answer": q.answer} for item in items(made) for q in item.questions]
    assert markdown_table(asked) in (ROOT / "docs" / "shapes.md").read_text("utf-8")


def test_the_sample_media_are_scenes_of_the_test_split() -> None:
    """graphs/media/scene.json says which, and what the right answers are."""
    media = ROOT / "graphs" / "media"
    told = json.loads((media / "scene.json").read_text("utf-8"))
    for name, fact in told.items():
        clip = name.endswith(".mp4")
        made = Settings(
            number=1, frames=fact["frames"] if clip else None, fps=fact.get("fps", 4.0), questions=99
        )
        item = make_item(made, fact["index"])
        asked = [{"question": q.text, "answer": q.answer, "kind": q.kind} for q in item.questions]
        assert {**json.loads(json.dumps(item.facts())), "split": "test", "questions": asked} == fact
        if not clip:
            np.testing.assert_array_equal(read_picture(media / name), item.pixels()[0])
