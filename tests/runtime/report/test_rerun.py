"""`tokenloom rerun`: the same results from a picture or a result file, or what is not as it was."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.runtime.report.toys import call, forget_plugins, mine
from tokenloom.runtime.report.recipe import checksum
from tokenloom.runtime.versions import versions

SHAPES = Path(__file__).parents[3] / "examples" / "media" / "shapes.png"


def ran(*args: str) -> dict[str, Any]:
    """The outputs of a run, which leaves `r.json` and, when it paints, `seen.png` behind."""
    assert mine("run", *args, "--result", "r.json", "-q").exit_code == 0
    facts = json.loads(Path("r.json").read_text())
    for name, shown in facts["pictures"].items():
        Path(f"{name}.png").write_bytes(base64.b64decode(shown["png"]))
    return dict(facts["outputs"])


def outputs_of(*args: str) -> dict[str, Any]:
    done = mine(*args, "--json", "--no-cache")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout)["outputs"])


def edit(**parts: Any) -> None:
    """Another recipe in `r.json`, as another machine would have written it."""
    facts = json.loads(Path("r.json").read_text())
    recipe = {**facts["recipe"], **parts}
    recipe["checksum"] = checksum(recipe)
    Path("r.json").write_text(json.dumps({**facts, "recipe": recipe}))


@pytest.mark.parametrize("file", ["r.json", "seen.png"])
def test_a_rerun_gives_the_same(folder: Path, file: str) -> None:
    """From a result file and from a picture: `extends`, parameters and --set are all in it."""
    before = ran("words.yaml", "words=hi.txt", "times=3", "ends=.inf", "--set", "seen.side=4")
    assert before["answer"] == "hihihi!"
    for name in ("words.yaml", "base.yaml"):
        os.remove(name)
    assert outputs_of("rerun", file) == before
    names = "answer, seen, counts" if file == "r.json" else "seen"
    assert mine("rerun", file, "--no-cache").stderr == f"the same as in {file}: {names}\n"


def test_what_the_cache_holds_is_not_said_to_be_the_same(folder: Path) -> None:
    """Nothing was computed that could have come out differently."""
    ran("words.yaml", "words=hi.txt")
    assert mine("rerun", "r.json").stderr == (
        "from the cache, not computed again, as in r.json: answer, seen, counts; --no-cache computes all\n"
    )


def test_a_rerun_works_in_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are written down whole."""
    before = ran("words.yaml", "words=hi.txt")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    done = call("rerun", "../r.json", "--plugin", "../mine.py", "--json")
    assert json.loads(done.stdout)["outputs"] == before


def test_words_of_the_command_line_replace_recorded_ones(folder: Path) -> None:
    """Parameters and settings; what comes out differently is told."""
    ran("words.yaml", "words=hi.txt", "times=2")
    assert outputs_of("rerun", "r.json", "times=4")["answer"] == "hihihihi"
    assert outputs_of("rerun", "r.json", "--set", "many.times=1")["answer"] == "hi"
    told = mine("rerun", "r.json", "--set", "seen.side=2", "--no-cache").stderr
    assert told == "the same as in r.json: answer, counts\nother than in r.json: seen\n"


def test_a_rerun_goes_as_far_as_the_run(folder: Path) -> None:
    """--until is part of the recipe, and may be said anew."""
    ran("words.yaml", "words=hi.txt", "--until", "many")
    assert outputs_of("rerun", "r.json") == {"many": "hihi"}
    assert outputs_of("rerun", "r.json", "--until", "read") == {"read": "hi"}


def test_a_rerun_can_be_rerun(folder: Path) -> None:
    """Its own result file has a recipe of its own, also when it is written over the first."""
    before = ran("words.yaml", "words=hi.txt")
    done = mine("rerun", "r.json", "times=3", "--result", "r.json")
    assert done.stderr == "other than in r.json: answer, seen, counts\n"
    assert outputs_of("rerun", "r.json")["answer"] == "hihihi"
    assert before["answer"] == "hihi"


def test_a_saved_picture_is_rerun(folder: Path) -> None:
    """What `--save` writes has the recipe inside; the rerun saves the same file."""
    assert mine("run", "words.yaml", "words=hi.txt", "--save", "seen=a.png").exit_code == 0
    done = mine("rerun", "a.png", "--save", "seen=b.png", "--no-cache")
    assert done.stderr == "the same as in a.png: seen\n"
    with Image.open("a.png") as first, Image.open("b.png") as second:
        assert first.tobytes() == second.tobytes()
    assert mine("rerun", "b.png", "-q").stdout.startswith("answer: hihi\n")


def test_a_failed_run_is_rerun(folder: Path) -> None:
    """The same error, and a line that goes on from there."""
    mine("run", "failing.yaml", "words=hi.txt", "--result", "r.json")
    done = mine("rerun", "r.json")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "error: no luck; try another"
    assert lines[1].startswith("  in node broken (toy_fail), r.json: recipe:")
    assert lines[-1] == (
        f"  to go on from here: tokenloom rerun r.json words={folder / 'hi.txt'} --from broken "
        "--plugin mine.py"
    )


def test_a_moved_file_is_an_error_that_names_the_parameter(folder: Path) -> None:
    """Its new place is taken without a word, for its bytes are the same."""
    before = ran("words.yaml", "words=hi.txt")
    os.rename("hi.txt", "moved.txt")
    done = mine("rerun", "r.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: params.words: {folder / 'hi.txt'}, which r.json was made from, is not there any more; if it "
        "was moved, say words=FILE\n"
    )
    done = mine("rerun", "r.json", "words=moved.txt", "--json")
    assert (json.loads(done.stdout)["outputs"], done.stderr) == (before, "")


def test_a_changed_file_is_an_error_that_names_the_parameter(folder: Path) -> None:
    """Said on purpose it is taken as it is, with a warning."""
    ran("words.yaml", "words=hi.txt")
    Path("hi.txt").write_text("ho")
    done = mine("rerun", "r.json")
    whole = folder / "hi.txt"
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: params.words: {whole} has changed since r.json was made (its bytes differ); put the old "
        f"file back, or say words={whole} to take it as it is\n"
    )
    done = mine("rerun", "r.json", "words=hi.txt", "-q")
    assert done.stdout.startswith("answer: hoho\n")
    assert done.stderr == (
        "warning: words: its bytes are not those that r.json was made from: results will differ\n"
    )


def test_a_file_that_the_graph_names_is_replaced_by_a_setting(folder: Path) -> None:
    """It has no parameter."""
    ran("words.yaml", "words=mine.py", "--set", "read.path=hi.txt")
    os.rename("hi.txt", "moved.txt")
    done = mine("rerun", "r.json")
    assert done.stderr == (
        f"error: read.path: {folder / 'hi.txt'}, which r.json was made from, is not there any more; if it "
        "was moved, say --set read.path=FILE\n"
    )
    assert outputs_of("rerun", "r.json", "--set", "read.path=moved.txt")["answer"] == "hihi"


def test_code_is_never_fetched(folder: Path) -> None:
    """A recipe names the file of a plug-in; only a person says that it is to be run."""
    ran("words.yaml", "words=hi.txt")
    forget_plugins()
    done = call("rerun", "r.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: r.json: it was made with the nodes toy_read, toy_repeat, toy_paint, toy_count of "
        f"{folder / 'mine.py'}; a recipe holds no code: if you trust that file, say --plugin "
        f"{folder / 'mine.py'}\n"
    )


def test_other_code_is_told(folder: Path) -> None:
    """The nodes by name."""
    ran("words.yaml", "words=hi.txt")
    forget_plugins()
    time.sleep(0.02)
    text = Path("mine.py").read_text()
    Path("mine.py").write_text(text.replace("text * times", "text * times * 2"))
    done = mine("rerun", "r.json", "-q")
    assert done.stdout.startswith("answer: hihihihi\n")
    assert done.stderr == (
        "warning: the code of toy_repeat has changed since r.json was made: results may differ\n"
    )


def test_a_recipe_that_names_a_device_does_not_hang(folder: Path) -> None:
    """/dev/zero never ends."""
    ran("words.yaml", "words=hi.txt")
    edit(files=[{"at": "words", "path": "/dev/zero", "fingerprint": "0"}])
    assert mine("rerun", "r.json").stderr.startswith("error: params.words: /dev/zero, which r.json was made")


def test_a_recipe_cannot_command_the_terminal(folder: Path) -> None:
    """Control characters in messages are replaced."""
    ran("words.yaml", "words=hi.txt")
    edit(files=[{"at": "\x1b[2Jwords", "path": "\x07x", "fingerprint": "0"}], versions={"\x1b[31m": "1"})
    done = mine("rerun", "r.json")
    assert done.stderr.startswith("error: params.\ufffd[2Jwords: \ufffdx, which ")


def test_other_versions_are_told(folder: Path) -> None:
    """Only those that differ, in one line."""
    ran("words.yaml", "words=hi.txt")
    edit(versions={**json.loads(Path("r.json").read_text())["recipe"]["versions"], "torch": "2.9.0"})
    line = mine("rerun", "r.json", "-q").stderr
    assert line.startswith("warning: made with torch 2.9.0; here is torch 2.")
    assert line.endswith(": results may differ\n")
    assert line.count("\n") == 1


def test_a_device_that_is_not_here_is_told(folder: Path) -> None:
    """The run goes on where it can."""
    ran("words.yaml", "words=hi.txt")
    edit(device="cuda:7")
    assert mine("rerun", "r.json", "-q", "--dtype", "bfloat16").stderr == (
        "warning: device: made with cuda:7, this run has cpu: results may differ\n"
        "warning: dtype: made with float32, this run has bfloat16: results may differ\n"
    )


def test_values_that_only_python_can_give_are_told(folder: Path) -> None:
    """Before anything runs."""
    ran("words.yaml", "words=hi.txt")
    edit(params={}, lost="words was given in Python, and is not written down")
    assert mine("rerun", "r.json").stderr == (
        "error: r.json: words was given in Python, and is not written down; run it in Python again\n"
    )


def test_a_parameter_that_the_graph_has_not_is_refused(folder: Path) -> None:
    """Recipes that tokenloom writes agree with their graphs."""
    ran("words.yaml", "words=hi.txt")
    edit(params={"sord": 3})
    assert mine("rerun", "r.json").stderr == (
        "error: r.json: the recipe gives sord, which is no parameter of its graph\n"
    )


@pytest.mark.timeout(180)
def test_a_sampled_answer_comes_out_again(folder: Path) -> None:
    """A model's graph that extends a built-in one, sampling from a seed: word for word."""
    graph = "tokenloom: 1\nextends: visionzip.yaml\nparams: {keep: {default: 20}}\n"
    graph += "nodes: {answer: {temperature: 0.8, top_k: 50, seed: 7}}\n"
    Path("mine.yaml").write_text(graph)
    words = ("mine.yaml", f"image={SHAPES}", "max_new_tokens=12", "--set", "merged.targets=5")
    before = ran(*words)
    assert outputs_of("rerun", "r.json") == before
    assert before["tokens"]["shape"][0] == 25


@pytest.mark.timeout(180)
def test_another_checkpoint_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is named on purpose, or tokenloom itself is another."""
    ran("visionzip", f"image={SHAPES}", "checkpoint=tiny-random", "--until", "prompt")
    edit(models={"model": ["other"]})
    done = mine("rerun", "r.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: model: tiny-random is not the checkpoint that r.json was made with (its files differ); give "
        "the old one as checkpoint=..., or say checkpoint=tiny-random to take it as it is\n"
    )
    assert mine("rerun", "r.json", "checkpoint=tiny-random").exit_code == 0
    newer = {**versions(), "tokenloom": "9.9"}
    monkeypatch.setattr("tokenloom.runtime.report.again.versions", lambda: newer)
    done = mine("rerun", "r.json")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[1] == (
        "warning: model: tiny-random is not the checkpoint that r.json was made with, or another tokenloom "
        "sees it otherwise: results may differ"
    )
