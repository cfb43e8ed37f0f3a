"""Questions about a scene, with the one right answer of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .render import moments
from .scene import COLOURS, DIRECTIONS, HELD_OUT, MOST_OBJECTS, SHAPES, SIDE, SIZES, Scene, Split, Thing

_MARGIN = 7  # pixels around the middle lines where `where` is not asked
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")

OPTIONS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "digit": tuple(str(d) for d in range(10)),
    "count": tuple(str(n) for n in range(1, MOST_OBJECTS + 1)),
    "size": tuple(SIZES),
    "exist": ("yes", "no"),
    "where": QUADRANTS,
    "event": ("moves", "stays", "appears", "disappears", "flashes"),
    "motion": (*DIRECTIONS, "nowhere"),
    "mover": tuple(COLOURS),
}
"""Every kind of question and its possible answers."""
IMAGE_KINDS = ("colour", "shape", "digit", "count", "size", "exist", "where")
CLIP_KINDS = ("colour", "shape", "digit", "event", "motion", "mover")


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one kind, and its answer, one of `OPTIONS[kind]`."""

    kind: str
    text: str
    answer: str


def all_questions(
    scene: Scene, rng: np.random.Generator, split: Split, *, frames: int
) -> dict[str, list[Question]]:
    """Every question that a picture (`frames` 1) or a clip of so many frames answers without doubt, by kind.

    What is in none of the frames is not asked for; kinds without any question are left out.
    """
    clip, at = frames > 1, moments(frames)
    things = tuple(t for t in scene.things if any(map(t.visible, at)))
    once = [t for t in things if sum(o.shape == t.shape for o in things) == 1]
    digits = [str(scene.digit)] if any(map(scene.shows_tag, at)) else []
    asked = {
        "colour": [Question("colour", f"What colour is the {t.shape}?", t.colour) for t in once],
        "shape": [Question("shape", f"What shape is the {t.colour} object?", t.shape) for t in things],
        "digit": [Question("digit", "Which digit is shown?", digit) for digit in digits],
        **(_of_clip(things) if clip else _of_picture(things, rng, split)),
    }
    return {kind: questions for kind, questions in asked.items() if questions}


def ask(
    scene: Scene, rng: np.random.Generator, split: Split, *, frames: int, number: int | None = None
) -> list[Question]:
    """Questions in random order: one of each kind, or `number` of them, kinds as even as the scene allows.

    There are fewer than `number` when the scene has no more.
    """
    pools = all_questions(scene, rng, split, frames=frames)
    for pool in pools.values():
        rng.shuffle(pool)
    if number is None:
        chosen = [pool[0] for pool in pools.values()]
        return [chosen[i] for i in rng.permutation(len(chosen))]
    chosen = []
    while len(chosen) < number and any(pools.values()):
        kinds = [kind for kind, pool in pools.items() if pool]
        for i in rng.permutation(len(kinds))[: number - len(chosen)]:
            chosen.append(pools[kinds[i]].pop())
    return chosen


def _of_picture(
    things: tuple[Thing, ...], rng: np.random.Generator, split: Split
) -> dict[str, list[Question]]:
    placed = [(t, quadrant) for t in things if (quadrant := _quadrant(t))]
    return {
        "count": [Question("count", "How many objects are there?", str(len(things)))],
        "size": [Question("size", f"Is the {_name(t)} small or large?", t.size) for t in things],
        "exist": _exist(things, rng, split),
        "where": [Question("where", f"Where is the {_name(t)}?", quadrant) for t, quadrant in placed],
    }


def _of_clip(things: tuple[Thing, ...]) -> dict[str, list[Question]]:
    movers = [t for t in things if t.fate == "moves"]
    steady = [t for t in things if t.fate in ("moves", "stays")]
    only = movers if len(movers) == 1 else []
    return {
        "event": [Question("event", f"What happens to the {_name(t)}?", t.fate) for t in things],
        "motion": [Question("motion", f"Where does the {_name(t)} move?", t.direction) for t in steady],
        "mover": [Question("mover", "What colour is the object that moves?", t.colour) for t in only],
    }


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _quadrant(thing: Thing) -> str | None:
    x, y = (c - SIDE / 2 for c in thing.start)
    if min(abs(x), abs(y)) < _MARGIN:
        return None
    return f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"


def _exist(things: tuple[Thing, ...], rng: np.random.Generator, split: Split) -> list[Question]:
    """One question answered yes and one answered no.

    Of the latter about 40 % take colour and shape from two objects that are there, 40 % one of the two.
    """
    here = {(t.colour, t.shape) for t in things}
    colours, shapes = {t.colour for t in things}, {t.shape for t in things}
    never = here if split == "pairs" else here | HELD_OUT
    allowed = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in never]
    crossed = [(c, s) for c, s in allowed if c in colours and s in shapes]
    near = [(c, s) for c, s in allowed if c in colours or s in shapes]
    draw = rng.random()
    pool = crossed if crossed and draw < 0.4 else near if near and draw < 0.8 else allowed
    absent = pool[int(rng.integers(len(pool)))]
    present = things[int(rng.integers(len(things)))]
    return [
        Question("exist", f"Is there a {_name(present)}?", "yes"),
        Question("exist", f"Is there a {' '.join(absent)}?", "no"),
    ]
