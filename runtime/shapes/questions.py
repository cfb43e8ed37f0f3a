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


def all_questions(scene: Scene, rng: np.random.Generator, split: Split, *, frames: int) -> dict[str, list[Question]]:
    """Every question that a picture (`frames` 1) or a clip of so many frames answers without doubt, by kind.

    What is in none of the frames is not asked for; kinds without any question are left out.
    """
    clip, at = frames > 1, moments(frames)
    things = tuple(t for t in scene.things if any(map(t.visible, at)))
    asked: dict[str, list[Question]] = {
        "colour": [
            Question("colour", f"What colour is the {t.shape}?", t.colour)
            for t in things
            if sum(o.shape == t.shape for o in things) == 1
        ],
        "shape": [Question("shape", f"What shape is the {t.colour} object?", t.shape) for t in things],
        "digit": [] if not any(map(scene.shows_tag, at)) else [Question("digit", "Which digit is shown?", str(scene.digit))],
    }
    if clip:
        asked["event"] = [Question("event", f"What happens to the {_name(t)}?", t.fate) for t in things]
        asked["motion"] = [
            Question("motion", f"Where does the {_name(t)} move?", t.direction) for t in things if t.fate in ("moves", "stays")
        ]
        movers = [t for t in things if t.fate == "moves"]
        if len(movers) == 1:
            asked["mover"] = [Question("mover", "What colour is the object that moves?", movers[0].colour)]
    else:
        asked["count"] = [Question("count", "How many objects are there?", str(len(things)))]
        asked["size"] = [Question("size", f"Is the {_name(t)} small or large?", t.size) for t in things]
        asked["exist"] = _exist(things, rng, split)
        asked["where"] = [Question("where", f"Where is the {_name(t)}?", q) for t in things if (q := _quadrant(t))]
    return {kind: questions for kind, questions in asked.items() if questions}


def ask(
    scene: Scene, rng: np.random.Generator, split: Split, *, frames: int, number: int | None = None
) -> list[Question]:
    """Questions about the scene in random order: one of each kind, or `number` of them, kinds as even as the scene allows."""
    pools = all_questions(scene, rng, split, frames=frames)
    for pool in pools.values():
        rng.shuffle(pool)  # type: ignore[arg-type]
    if number is None:
        chosen = [pool[0] for pool in pools.values()]
        return [chosen[i] for i in rng.permutation(len(chosen))]
    chosen = []
    while len(chosen) < number and any(pools.values()):
        kinds = [kind for kind, pool in pools.items() if pool]
        for i in rng.permutation(len(kinds))[: number - len(chosen)]:
            chosen.append(pools[kinds[i]].pop())
    return chosen


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _quadrant(thing: Thing) -> str | None:
    x, y = (c - SIDE / 2 for c in thing.start)
    if min(abs(x), abs(y)) < _MARGIN:
        return None
    return f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"


def _exist(things: tuple[Thing, ...], rng: np.random.Generator, split: Split) -> list[Question]:
    """One question answered yes and one answered no; half of the latter take colour and shape from two objects that are there."""
    here = {(t.colour, t.shape) for t in things}
    allowed = [
        (c, s) for c in COLOURS for s in SHAPES if (c, s) not in here and (split == "pairs" or (c, s) not in HELD_OUT)
    ]
    crossed = [(c, s) for c, s in allowed if any(t.colour == c for t in things) and any(t.shape == s for t in things)]
    near = [(c, s) for c, s in allowed if any(t.colour == c for t in things) or any(t.shape == s for t in things)]
    draw = rng.random()
    pool = crossed if crossed and draw < 0.4 else near if near and draw < 0.8 else allowed
    absent = pool[int(rng.integers(len(pool)))]
    present = things[int(rng.integers(len(things)))]
    both = [
        Question("exist", f"Is there a {_name(present)}?", "yes"),
        Question("exist", f"Is there a {' '.join(absent)}?", "no"),
    ]
    return both
