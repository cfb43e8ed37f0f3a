"""Scenes, pixels and questions: the same on every machine, splits apart, one right answer to each."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.runtime.errors import ShapesError
from tokenloom.runtime.shapes.items import Item, Settings, items, make_item
from tokenloom.runtime.shapes.questions import OPTIONS, all_questions, ask
from tokenloom.runtime.shapes.render import box, moments, patch_labels, render
from tokenloom.runtime.shapes.scene import (
    HELD_OUT,
    SIDE,
    SPLITS,
    TAG,
    Scene,
    Split,
    draw_scene,
    generator,
    known_split,
)
from tokenloom.runtime.shapes.score import MOVING, majority_baseline

GOLDEN = {
    "train": "0454c7500a71be51",
    "validation": "697bef0c0aeba237",
    "test": "de6a101e31083c91",
    "pairs": "1b025f1a9936fda2",
}
"""A change to any scene, pixel or question changes these; then trained models no longer fit the benchmark."""

scenes = st.builds(
    lambda index, split, clip: draw_scene(generator(5, split, index), split, clip=clip),
    st.integers(0, 10_000),
    st.sampled_from(SPLITS),
    st.booleans(),
)


def sample(split: Split, number: int, frames: int | None = None) -> list[Item]:
    return list(items(Settings(split=split, number=number, frames=frames)))


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_and_questions_are_the_same_everywhere(split: Split) -> None:
    """Ten pictures and ten clips of each split, to the last bit of the last pixel."""
    digest = hashlib.sha256()
    for frames in (1, 8):
        for index in range(10):
            rng = generator(0, split, index)
            scene = draw_scene(rng, split, clip=frames > 1)
            digest.update(render(scene, frames).tobytes())
            digest.update(patch_labels(scene, frames, 8).tobytes())
            for question in ask(scene, rng, split, frames=frames):
                digest.update(f"{question.kind}|{question.text}|{question.answer}\n".encode())
    assert digest.hexdigest()[:16] == GOLDEN[split]


def test_a_scene_does_not_depend_on_what_else_is_made() -> None:
    """Number 7 is the same alone and after the others."""
    made = Settings(split="test", number=8)
    alone, among = make_item(made, 7), list(items(made))[7]
    assert alone == among
    np.testing.assert_array_equal(alone.pixels(), among.pixels())


@pytest.mark.parametrize("frames", [None, 4])
def test_no_two_scenes_of_any_splits_look_alike(frames: int | None) -> None:
    """Hashes of the rendered pixels are all different, within splits and across them."""
    seen = Counter(
        hashlib.sha256(item.pixels().tobytes()).digest()
        for split in SPLITS
        for item in sample(split, 100, frames)
    )
    assert len(seen) == 400
    assert max(seen.values()) == 1


@pytest.mark.parametrize("clip", [False, True])
def test_held_out_pairs_are_shown_in_their_split_only(clip: bool) -> None:
    """Every scene of `pairs` has one; neither things nor questions of the others do."""
    for split in SPLITS:
        for item in sample(split, 100, 8 if clip else None):
            held = [(t.colour, t.shape) for t in item.scene.things if (t.colour, t.shape) in HELD_OUT]
            named = any(f"{colour} {shape}" in q.text for colour, shape in HELD_OUT for q in item.questions)
            assert bool(held) == (split == "pairs")
            assert not named or split == "pairs"


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@settings(max_examples=100, deadline=None)
@given(scenes)
def test_objects_never_touch(scene: Scene) -> None:
    """At no moment do two boxes, or a box and the tag, share a pixel; all lie in the picture."""
    x, y = scene.tag
    tag = [(x, y, x + TAG[0], y + TAG[1])] if scene.digit is not None else []
    for moment in moments(9):
        boxes = [box(thing, moment) for thing in scene.things] + tag
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
        assert all(0 <= b[0] < b[2] <= SIDE and 0 <= b[1] < b[3] <= SIDE for b in boxes)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SPLITS), st.sampled_from([1, 2, 4, 8]))
def test_a_question_has_one_right_answer(index: int, split: Split, frames: int) -> None:
    """No text has two answers, each is an option, and named objects are unique and in the frames."""
    scene = draw_scene(generator(5, split, index), split, clip=frames > 1)
    pools = all_questions(scene, np.random.default_rng(0), "pairs", frames=frames)
    answers: dict[str, str] = {}
    for kind, questions in pools.items():
        for question in questions:
            assert question.answer in OPTIONS[kind]
            assert answers.setdefault(question.text, question.answer) == question.answer
    shown = [t for t in scene.things if any(map(t.visible, moments(frames)))]
    colours = [t.colour for t in shown]
    assert len(set(colours)) == len(colours)
    for question in pools.get("colour", []):
        shape = question.text.removeprefix("What colour is the ").rstrip("?")
        assert [t.colour for t in shown if t.shape == shape] == [question.answer]


@settings(max_examples=60, deadline=None)
@given(scenes)
def test_the_answers_follow_from_the_boxes(scene: Scene) -> None:
    """What the boxes of 8 frames show is what `event` and `motion` say."""
    at = moments(8)
    for question in all_questions(scene, np.random.default_rng(0), "pairs", frames=8).get("event", []):
        thing = next(t for t in scene.things if f"{t.colour} {t.shape}" in question.text)
        there = [thing.visible(moment) for moment in at]
        first, last = box(thing, 0.0), box(thing, 1.0)
        said = {
            (True, True): "stays" if first == last else "moves",
            (False, True): "appears",
            (True, False): "disappears",
            (False, False): "flashes",
        }[there[0], there[-1]]
        assert said == question.answer
        assert any(there)


def test_a_patch_belongs_to_what_covers_it() -> None:
    """The middle of every object's box is its own, corners of the picture are background."""
    for item in sample("test", 20):
        labels = patch_labels(item.scene, 1, 112)[0]
        for number, thing in enumerate(item.scene.things, start=1):
            left, top, right, bottom = box(thing, 0.0)
            inside = labels[top:bottom, left:right]
            assert set(np.unique(inside)) <= {0, number}
            assert number in inside


@pytest.mark.parametrize(
    ("frames", "most"),
    [
        (
            None,
            {
                "colour": 0.2,
                "shape": 0.32,
                "digit": 0.2,
                "count": 0.36,
                "size": 0.65,
                "exist": 0.6,
                "where": 0.36,
            },
        ),
        (
            8,
            {
                "colour": 0.2,
                "shape": 0.32,
                "digit": 0.2,
                "event": 0.42,
                "motion": 0.4,
                "mover": 0.25,
                MOVING: 0.36,
            },
        ),
    ],
)
def test_no_answer_is_much_commoner_than_the_others(frames: int | None, most: dict[str, float]) -> None:
    """The commonest answer of each kind stays below a bound, and every option is some answer."""
    asked = [
        {"kind": q.kind, "answer": q.answer} for item in sample("test", 400, frames) for q in item.questions
    ]
    base = majority_baseline(asked)
    assert set(base) == {*most, "overall"}
    assert {kind: base[kind].share for kind in most if base[kind].share > most[kind]} == {}
    for kind in {row["kind"] for row in asked}:
        assert {row["answer"] for row in asked if row["kind"] == kind} == set(OPTIONS[kind])


def test_kinds_are_as_even_as_scenes_allow() -> None:
    """Asked for six questions, no kind has a third before every kind that can has two."""
    for index in range(30):
        rng = generator(0, "test", index)
        scene = draw_scene(rng, "test", clip=False)
        room = {
            k: len(v) for k, v in all_questions(scene, np.random.default_rng(0), "test", frames=1).items()
        }
        asked = Counter(q.kind for q in ask(scene, rng, "test", frames=1, number=6))
        assert asked.total() == min(6, sum(room.values()))
        assert all(asked[kind] >= min(room[kind], max(asked.values()) - 1) for kind in room)


@pytest.mark.parametrize(
    ("split", "seed", "index", "text"),
    [
        ("tset", 0, 0, "no split is called 'tset'; did you mean 'test'?"),
        ("test", -1, 0, "seed: -1 is outside 0..4294967295"),
        ("test", 0, 2**32, "index: 4294967296 is outside 0..4294967295"),
    ],
)
def test_numbers_whose_streams_would_coincide_are_refused(
    split: str, seed: int, index: int, text: str
) -> None:
    """A number of more than 32 bits takes two words of the seed, and could be another split's."""
    with pytest.raises(ShapesError) as caught:
        generator(seed, known_split(split), index)
    assert str(caught.value) == text
