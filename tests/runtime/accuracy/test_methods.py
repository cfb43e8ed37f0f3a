"""The table of methods, and what their branches keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.runtime.accuracy.answers import Outcome
from tokenloom.runtime.accuracy.data import scenes
from tokenloom.runtime.accuracy.draft import Medium, Parts
from tokenloom.runtime.accuracy.methods import METHODS, Budget
from tokenloom.runtime.accuracy.suite import Setting, Suite
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import BenchError
from tokenloom.runtime.sweep.ledger import Ledger

from ...checkpoints import RANDOM
from .small import CHECKPOINT

FRAMES = 4
KNOBS = {"prunevid_merge": 0.3, "prunevid": 0.3, "prunevid_random": 0.3, "prunevid_seated": 0.3}


@pytest.fixture(scope="module", params=["image", "video"])
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Suite, dict[str, Outcome]]:
    """Every method at a quarter of the tokens, on one question about a picture or a clip of 4 frames."""
    medium: Medium = request.param
    folder = tmp_path_factory.mktemp("methods")
    scene = scenes(folder, medium, split="test", seed=0, frames=FRAMES, least=1)[0]
    settings = [
        Setting(m.name, 0.25 if m.budgets else None, None if m.knob is None else KNOBS.get(m.name, 0.4))
        for m in METHODS.values()
        if medium in m.media
    ]
    suite = Suite(Parts(CHECKPOINT), medium, settings, FRAMES)
    ids = [setting.id for setting in settings]
    question = scene.questions[0]["question"]
    return suite, suite.answer(scene.file, question, 3, ids, Cache(None), Ledger(None))


def test_the_table_names_what_it_has() -> None:
    """Controls and methods to be tuned as are there, for the same media."""
    for name, method in METHODS.items():
        assert name == method.name
        for other in (*method.controls, *filter(None, [method.tuned_as])):
            assert set(METHODS[other].media) >= set(method.media), (name, other)
        assert (method.knob is None) or method.budgets


def test_a_part_of_the_tokens() -> None:
    """Rounded down, at least one, whatever floating point makes of the product."""
    assert [Budget(p).of(64) for p in (0.5, 0.25, 0.1, 0.001)] == [32, 16, 6, 1]
    assert Budget(0.29).of(100) == 29


def test_pictures_are_encoded_once(outcomes: tuple[Suite, dict[str, Outcome]]) -> None:
    """One tower step for all methods; dropping frames before it takes one more."""
    suite, _ = outcomes
    encoded = [step for step in suite.graph.steps.values() if step.type.name == "encode_vision"]
    assert len(encoded) == (1 if suite.medium == "image" else 2)


@pytest.mark.parametrize("name", ["random", "uniform", "visionzip", "prumerge", "visionzip_seated"])
def test_budgets_before_the_language_model(outcomes: tuple[Suite, dict[str, Outcome]], name: str) -> None:
    """A quarter of every tile's patches is in the prompt and in every layer."""
    suite, found = outcomes
    whole = found["full"].placed
    kept = found[f"{name}@25"]
    assert whole == suite.parts.places * (1 if suite.medium == "image" else FRAMES)
    assert kept.placed == kept.last == whole // 4 == kept.mean == kept.cached


@pytest.mark.parametrize("name", ["fastv", "fastv_random", "fastv_uniform"])
def test_budgets_inside_the_language_model(outcomes: tuple[Suite, dict[str, Outcome]], name: str) -> None:
    """Two of four layers see every token, the others a quarter."""
    _, found = outcomes
    whole, kept = found["full"].placed, found[f"{name}@25"]
    assert (kept.placed, kept.last) == (whole, whole // 4)
    assert kept.mean == (2 * whole + 2 * (whole // 4)) / 4


@pytest.mark.parametrize("name", ["kv_random", "kv_uniform"])
def test_budgets_of_the_caches(outcomes: tuple[Suite, dict[str, Outcome]], name: str) -> None:
    """The prompt is computed whole, and a quarter of its visual keys stays."""
    _, found = outcomes
    whole, kept = found["full"].placed, found[f"{name}@25"]
    assert (kept.placed, kept.mean, kept.cached) == (whole, whole, whole // 4)
    assert kept.prompt == found["full"].prompt


def test_fewer_tokens_cost_less(outcomes: tuple[Suite, dict[str, Outcome]]) -> None:
    """Before the language model less than inside it, and that less than every token."""
    _, found = outcomes
    costs = [found[name].flops for name in ("visionzip@25", "fastv@25", "full")]
    assert costs == sorted(costs)
    assert costs[0] < costs[2]


def test_what_does_not_fit_the_checkpoint(tmp_path: Path) -> None:
    """A projector that takes whole windows refuses chosen patches, before anything runs."""
    parts = Parts(str(RANDOM / "tiny-random-tokenpacker"))
    scene = scenes(tmp_path, "image", split="test", seed=0, frames=FRAMES, least=1)[0]
    Suite(parts, "image", [Setting("full")], FRAMES).check(scene.file)
    with pytest.raises(BenchError) as refused:
        Suite(parts, "image", [Setting("random", 0.5)], FRAMES).check(scene.file)
    told = str(refused.value)
    assert told.startswith(f"random@50: does not fit {parts.checkpoint}: project_tokenpacker.tokens: ")
    assert told.endswith("; leave it out (--methods), or use another checkpoint")
