"""The model cards say what is committed beside the weights, and the weights are what was promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from examples.tiny.card import WHAT, card
from tokenloom import nodes
from tokenloom.runtime.models.hub import BUNDLED
from tokenloom.runtime.tiny.recipe_file import read_recipe

RECIPES = Path(__file__).parents[3] / "examples" / "tiny"
LEAST = {
    "colour": 0.95,
    "shape": 0.95,
    "digit": 0.95,
    "count": 0.95,
    "where": 0.85,
    "size": 0.85,
    "exist": 0.85,
}
LEAST_CLIPS = {"event": 0.85, "moving": 0.8}
NAMES = sorted(WHAT)


def read(name: str, file: str) -> Any:
    return json.loads((BUNDLED / name / file).read_text(encoding="utf-8"))


def shares(name: str, medium: str) -> dict[str, Any]:
    """Right answers of the uncompressed model on the test split, by kind."""
    (full,) = read(name, "accuracy.json")["test"]["media"][medium]["settings"]
    found: dict[str, Any] = full["shares"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_written_from_the_records(name: str) -> None:
    """Otherwise run `python examples/tiny/card.py FOLDER`."""
    text = (BUNDLED / name / "README.md").read_text(encoding="utf-8")
    assert text == card(name, read(name, "accuracy.json"), read(name, "training.json"))


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_is_the_one_in_the_repository(name: str) -> None:
    """Letter by letter, so that `tokenloom train` makes them again."""
    recipe = read_recipe(RECIPES / f"{name.removeprefix('tiny-')}.yaml")
    assert read(name, "training.json")["recipe"] == recipe.text


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_these_weights(name: str) -> None:
    """What was asked had the fingerprints of tower, projector and language model that lie here."""
    model = nodes.load_model(checkpoint=name)
    prints = "-".join(part.fingerprint[:12] for part in (model.vision, model.projector, model.llm))
    assert {read(name, "accuracy.json")[split]["fingerprint"] for split in ("test", "pairs")} == {prints}


def test_tiny_llava_is_as_good_as_promised() -> None:
    """On at least 500 questions about pictures, and as many about clips of 8 frames."""
    pictures, clips = shares("tiny-llava", "pictures"), shares("tiny-llava", "clips")
    assert min(pictures["overall"]["asked"], clips["overall"]["asked"]) >= 500
    assert {k: v for k, v in LEAST.items() if pictures[k]["accuracy"] < v} == {}
    assert {k: v for k, v in LEAST_CLIPS.items() if clips[k]["accuracy"] < v} == {}


@pytest.mark.parametrize("name", ["tiny-tokenpacker", "tiny-pvc"])
@pytest.mark.parametrize("medium", ["pictures", "clips"])
def test_the_others_are_within_five_points(name: str, medium: str) -> None:
    """Of tiny-llava overall; and they read the digit."""
    mine, base = shares(name, medium), shares("tiny-llava", medium)
    assert mine["overall"]["accuracy"] > base["overall"]["accuracy"] - 0.05
    assert mine["digit"]["accuracy"] >= 0.85


def test_all_of_it_is_small() -> None:
    """24 MB, as the wheel carries them."""
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < 24e6
