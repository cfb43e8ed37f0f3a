"""Recipes are read whole, or refused with every mistake at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.excerpt import GraphFileError
from tokenloom.runtime.tiny.recipe import differences
from tokenloom.runtime.tiny.recipe_file import read_recipe

from .recipes import EXAMPLES, TELL, but

GOOD = """\
tokenloom: 1
stages:
  - name: eyes
    steps: 10
    batch: 8
    losses: {patch: 1}
    muon: 0.02
    adamw: 1e-3
"""


def refused(folder: Path, text: str) -> list[str]:
    """The messages about a recipe, without their excerpts."""
    path = folder / "r.yaml"
    path.write_text(text)
    with pytest.raises(GraphFileError) as e:
        read_recipe(path)
    return [f"{p.at.line}:{p.at.column}: {p.message}" for p in e.value.problems]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_sound(path: Path) -> None:
    """Every recipe in examples/tiny can be read."""
    assert read_recipe(path).stages


def test_defaults(tmp_path: Path) -> None:
    """What a stage leaves out: pictures, all parts, a short warm-up, 256 pictures to evaluate on."""
    (tmp_path / "r.yaml").write_text(GOOD)
    recipe = read_recipe(tmp_path / "r.yaml")
    (stage,) = recipe.stages
    assert (recipe.kind, recipe.seed, recipe.precision, recipe.threads, recipe.workers) == (
        "llava",
        0,
        "bf16",
        1,
        0,
    )
    assert (stage.frames, stage.train) == ({1: 1.0}, ("vision", "projector", "llm", "heads"))
    assert (stage.warmup, stage.floor, stage.clip, stage.evaluate) == (10, 0.05, 1.0, {1: 256})


def test_clips_come_in_smaller_batches() -> None:
    """A batch of clips holds fewer, for about the same work, but at least 4."""
    clips = but(TELL, batch=32)
    assert [clips.size(frames) for frames in (1, 2, 8, 16)] == [32, 20, 5, 4]


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    """Named with file, line, source line and the key that was meant."""
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "    warmupp: 3\n")
    with pytest.raises(GraphFileError) as e:
        read_recipe(path)
    assert str(e.value) == (
        f"{path}:9:5: 'warmupp' is not known in a stage; did you mean 'warmup'?\n"
        "        warmupp: 3\n"
        "        ^"
    )


def test_every_mistake_at_once(tmp_path: Path) -> None:
    """Top, sizes, losses and stages are all read before anything is refused."""
    text = """\
tokenloom: 2
kind: llaba
seed: -1
start: nowhere
sizes: {width: 130, dept: 3}
precision: fp16
stages:
  - name: a b
    steps: 0
    batch: 8
    frames: {one: 1, 2: -1}
    train: [eyes]
    losses: {patch: 1, clas: 2, change: 1}
    muon: fast
    cls_warmup: 1.5
  - 7
"""
    assert refused(tmp_path, text) == [
        "1:12: the version is missing or unknown: a recipe starts with 'tokenloom: 1'",
        "2:7: kind: 'llaba' is not one of llava, tokenpacker, pvc; did you mean 'llava'?",
        "3:7: seed: wants a whole number from 0 on, got -1",
        "5:16: sizes: width is no multiple of 4 times heads",
        "5:21: 'dept' is not known in sizes; known: heads, layers, mlp, motion_layer, patch, side, "
        "vision_heads, vision_layers, vision_width, width",
        "6:12: precision: 'fp16' is not one of bf16, fp32; did you mean 'bf16'?",
        "8:5: this stage does not say 'adamw'",
        "8:11: name: 'a b' names files; wanted letters, digits, - and _",
        "9:12: steps: wants a whole number from 1 on, got 0",
        "11:14: frames: 'one' is no number of frames from 1 to 64",
        "11:25: frames.2: wants a number 0 or more, got -1",
        "12:13: train: llava has no part 'eyes'; known: heads, llm, projector, vision",
        "13:13: change: the language model tells it, which runs only with lm above 0",
        "13:24: 'clas' is not known in losses; did you mean 'cls'?",
        "14:11: muon: wants a number above 0, got 'fast'",
        "15:17: cls_warmup: wants a number 0 or more, at most 1, got 1.5",
        "16:5: stages: wants a mapping for each stage, got 7",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "1:1: a recipe is a mapping that starts with 'tokenloom: 1'"),
        ("tokenloom: 1\n", "1:1: stages: wants a list of stages, got nothing"),
        (GOOD + GOOD[21:], "9:11: name: 'eyes' is the name of an earlier stage"),
        (GOOD.replace("patch: 1", "patch: 0"), "6:13: losses: all weights are 0, so nothing would be learnt"),
        (GOOD.replace("{patch: 1}", "[patch]"), "6:13: losses: wants a mapping by name, got a list"),
        (
            GOOD + "kind: pvc\nsizes: {vision_layers: 2}\n",
            "10:24: sizes: a tower for pvc has at least 3 layers",
        ),
        (GOOD + "    frames: {1: 0}\n", "9:13: frames: all are 0"),
        (GOOD + "    warmup: 11\n", "9:13: warmup: wants a whole number from 0 to 10, got 11"),
        (
            GOOD.replace("patch: 1", "lm: 1, change: 1"),
            "6:13: change: nothing changes in pictures; leave it out, or add clips to frames",
        ),
    ],
)
def test_single_mistakes(tmp_path: Path, text: str, message: str) -> None:
    """Each is said at its place."""
    assert refused(tmp_path, text) == [message]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The reason is the system's."""
    with pytest.raises(GraphError) as e:
        read_recipe(tmp_path / "none.yaml")
    assert str(e.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"


def test_the_hash_is_of_what_is_learnt(tmp_path: Path) -> None:
    """Threads and the like leave it as it is; rates do not."""
    path = tmp_path / "r.yaml"

    def hashed(text: str) -> str:
        path.write_text(text)
        return read_recipe(path).hash()

    plain = hashed(GOOD)
    assert hashed(GOOD + "threads: 4\nlog_every: 7\ntitle: A\n") == plain
    assert hashed(GOOD.replace("0.02", "0.03")) != plain


def test_differences_up_to_a_stage(tmp_path: Path) -> None:
    """Stages that have not begun do not count."""
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    old = read_recipe(path).values()
    path.write_text(GOOD.replace("0.02", "0.03") + "seed: 3\n")
    new = read_recipe(path).values()
    assert differences(old, new, stages=1) == ["seed: 0 -> 3", "stage 1.muon: 0.02 -> 0.03"]
    assert differences(old, new, stages=0) == ["seed: 0 -> 3"]
