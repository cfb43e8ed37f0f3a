"""Result files: all of a run that went well, and of one that did not."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.report.toys import call, mine
from tokenloom import run
from tokenloom.runtime.registry import load_plugin
from tokenloom.runtime.report.reading import read_recipe, read_result
from tokenloom.runtime.report.thumbnails import FRAMES, SIDE, shown

MEDIA = Path(__file__).parents[3] / "examples" / "media"


def result_of(*args: str) -> dict[str, Any]:
    mine("run", *args, "--result", "r.json", "-q")
    return read_result(Path("r.json"))


def test_a_result_file_holds_what_came_out(folder: Path) -> None:
    """Outputs as `--json` has them, with their kinds, stages, the command, the recipe, the drawing."""
    facts = result_of("words.yaml", "words=hi.txt", "--set", "many.times=3")
    assert (facts["ok"], facts["title"], facts["error"], facts["left"]) == (
        True,
        "Words & <pictures>",
        None,
        [],
    )
    assert facts["outputs"]["answer"] == "hihihi"
    assert facts["outputs"]["counts"]["rows"] == [["h", 3], ["i", 3]]
    assert facts["kinds"] == {"answer": "str", "seen": "Picture", "counts": "Table"}
    assert [stage["node"] for stage in facts["stages"]] == ["read", "many", "seen", "counts"]
    assert facts["command"] == ("tokenloom run words.yaml words=hi.txt --set many.times=3 --plugin mine.py")
    assert facts["drawing"].startswith("<svg ")
    assert "hi.txt" in facts["drawing"]


def test_pictures_lie_inside_with_their_own_recipe(folder: Path) -> None:
    """Whoever takes one out can still rerun it."""
    facts = result_of("words.yaml", "words=hi.txt")
    data = base64.b64decode(facts["pictures"]["seen"]["png"])
    assert facts["pictures"]["seen"]["caption"] == "<hihi>"
    with Image.open(io.BytesIO(data)) as picture:
        assert np.asarray(picture).tolist() == np.full((8, 8, 3), 4).tolist()
    Path("out.png").write_bytes(data)
    assert read_recipe(Path("out.png")).output == "seen"


def test_a_failed_run_is_put_down(folder: Path) -> None:
    """Error, node, what to do, the stages that were done, and those that never ran; the exit code stays."""
    done = mine("run", "failing.yaml", "words=hi.txt", "--result", "r.json")
    assert done.exit_code == 1
    facts = read_result(Path("r.json"))
    assert (facts["ok"], facts["outputs"]) == (False, {})
    error = facts["error"]
    assert (error["type"], error["message"]) == ("MediaError", "no luck; try another")
    assert (error["node"], error["node_type"]) == ("broken", "toy_fail")
    assert error["notes"][0] == "in node broken (toy_fail), failing.yaml:6:3"
    assert error["notes"][-1].startswith("to go on from here: tokenloom run failing.yaml ")
    assert [stage["node"] for stage in facts["stages"]] == ["read", "many"]
    assert facts["left"] == ["broken", "after"]
    assert read_recipe(Path("r.json")).params["why"] == "no luck"


def test_a_stopped_run_is_put_down(folder: Path) -> None:
    """With how to go on; the exit code is that of Ctrl-C."""
    done = mine("run", "failing.yaml", "words=hi.txt", "why=stop", "--result", "r.json")
    assert done.exit_code == 130
    error = read_result(Path("r.json"))["error"]
    assert (error["type"], error["message"], error["node"]) == ("KeyboardInterrupt", "stopped", "broken")
    assert error["notes"][-1].startswith("to go on from here: ")


def test_a_run_that_was_never_planned_is_put_down(folder: Path) -> None:
    """Instead of an older result that would be taken for it."""
    Path("r.json").write_text("old")
    done = mine("run", "words.yaml", "words=hi.txt", "times=0", "--result", "r.json")
    assert done.exit_code == 2
    facts = read_result(Path("r.json"))
    assert (facts["ok"], facts["graph"], facts["stages"]) == (False, "words.yaml", [])
    assert facts["error"]["message"] == "params.times: 0 is below 1"
    done = mine("rerun", "r.json")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: r.json: holds no recipe: the run that it tells of failed before it was planned\n",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r.txt", "--result r.txt: wants a file name that ends in .json"),
        ("no/r.json", "--result no/r.json: cannot be written: there is no folder no"),
        ("taken.json", "--result taken.json: cannot be written: it is a folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_told_before_anything_runs(
    folder: Path, name: str, message: str
) -> None:
    """Not after an hour of work."""
    Path("taken.json").mkdir()
    done = mine("run", "words.yaml", "words=hi.txt", "--result", name)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_python_writes_result_files_too(folder: Path) -> None:
    """`run(...).save(path)`."""
    load_plugin(Path("mine.py"))
    run("words.yaml", words="hi.txt").save("r.json")
    assert read_result(Path("r.json"))["outputs"]["answer"] == "hihi"
    assert [p.name for p in folder.glob("r.json*")] == ["r.json"]


def test_the_command_line_has_no_result_file_unless_asked(folder: Path) -> None:
    """And `--json` prints what it did before."""
    done = mine("run", "words.yaml", "words=hi.txt", "--json")
    assert json.loads(done.stdout)["outputs"]["answer"] == "hihi"
    assert not list(folder.glob("*.json"))
    assert call("run", "--help").stdout.count("--result") == 1


def test_pictures_are_shown_small() -> None:
    """No side longer than asked, with the true size in words."""
    made = shown("image", MEDIA / "shapes.png")
    assert (made.about, made.problem) == ("640 x 480", "")
    with Image.open(io.BytesIO(made.jpegs[0])) as picture:
        assert picture.size == (SIDE, SIDE * 3 // 4)


def test_clips_are_shown_as_frames() -> None:
    """Evenly spread, the first and the last among them."""
    made = shown("video", MEDIA / "shapes.mp4")
    assert (made.about, len(made.jpegs)) == ("320 x 240, 75 frames, 5.0 s", FRAMES)


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    """A preview never costs a result."""
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    made = shown("image", tmp_path / "bad.png")
    assert made.jpegs == ()
    assert made.problem.startswith(f"{tmp_path / 'bad.png'}: ")
