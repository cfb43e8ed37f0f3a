"""What is in a scene: objects with looks, place and motion, a tag with a digit; drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ShapesError, did_you_mean

Fate = Literal["stays", "moves", "appears", "disappears", "flashes"]
Split = Literal["train", "validation", "test", "pairs"]
Box = tuple[float, float, float, float]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 48, 48),
    "green": (52, 178, 72),
    "blue": (62, 96, 232),
    "yellow": (244, 222, 58),
    "purple": (152, 62, 190),
    "orange": (246, 138, 34),
    "cyan": (66, 218, 222),
    "white": (246, 246, 246),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES: dict[str, tuple[int, int]] = {"small": (12, 14), "large": (20, 23)}
"""Least and greatest diameter, in pixels."""
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
HELD_OUT = frozenset({("red", "ring"), ("blue", "triangle"), ("yellow", "cross"), ("purple", "square")})
"""Pairs of colour and shape that only the split `pairs` shows."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "pairs")
LEAST_TOO_LARGE = 2**32
"""Seeds and numbers of scenes are below it."""
SIDE = 112
"""Width and height of every picture, in pixels."""
TAG = (14, 18)
"""Width and height of the tag that carries the digit."""
MOST_OBJECTS = 4
TRAVEL = (30, 74)
"""Least and greatest way of a moving object over a whole clip, in pixels."""
BRIEF = (0.25, 0.4)
"""How long what is there only for a while is there, as a part of the clip."""
_GAP = 3  # pixels between two objects, at any time
_EDGE = 2

FATES: tuple[Fate, ...] = ("moves", "moves", "stays", "appears", "disappears", "flashes")
"""What befalls an object of a clip, each entry as likely as any other."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: looks, centre at the first and the last moment in pixels, and when it is there (0 to 1)."""

    colour: str
    shape: str
    size: str
    diameter: int
    start: tuple[float, float]
    end: tuple[float, float]
    fate: Fate = "stays"
    there: tuple[float, float] = (0.0, 1.0)

    @property
    def direction(self) -> str:
        """Where it moves: `left`, `right`, `up`, `down`, or `nowhere`."""
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        if not dx and not dy:
            return "nowhere"
        return next(name for name, (x, y) in DIRECTIONS.items() if x * dx + y * dy > 0)

    def visible(self, moment: float) -> bool:
        """Whether it is in the picture at that moment of the clip (0 to 1)."""
        return self.there[0] <= moment <= self.there[1]

    def centre(self, moment: float) -> tuple[float, float]:
        """Where its centre is at that moment, in pixels from the top left."""
        (x, y), (u, v) = self.start, self.end
        return x + (u - x) * moment, y + (v - y) * moment


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects of pairwise different colours, a digit on a tag (or none), and a background."""

    things: tuple[Thing, ...]
    digit: int | None
    tag: tuple[int, int]
    """Top left corner of the tag, in pixels."""
    background: tuple[float, float, float]
    slope: tuple[float, float]
    """Change of brightness from left to right and from top to bottom."""
    grain: int
    """Seed of the noise."""
    tag_there: tuple[float, float] = (0.0, 1.0)
    """From when to when of a clip the tag is shown."""

    def shows_tag(self, moment: float) -> bool:
        """Whether the digit is in the picture at that moment of the clip (0 to 1)."""
        return self.digit is not None and self.tag_there[0] <= moment <= self.tag_there[1]


def known_split(name: str) -> Split:
    """The split of that name. Errors: ShapesError."""
    for split in SPLITS:
        if split == name:
            return split
    raise ShapesError(f"no split is called {name!r}{did_you_mean(name, SPLITS)}")


def generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """The random numbers of one scene: the same for the same (seed, split, index) on every machine.

    Raises:
        ShapesError: an unknown split, or a number outside 0 to 2**32 - 1 (beyond it streams would coincide).
    """
    known_split(split)
    for name, number in (("seed", seed), ("index", index)):
        if not 0 <= number < LEAST_TOO_LARGE:
            raise ShapesError(f"{name}: {number} is outside 0..{LEAST_TOO_LARGE - 1}")
    return np.random.default_rng([seed, SPLITS.index(split), index])


def draw_scene(rng: np.random.Generator, split: Split, *, clip: bool) -> Scene:
    """A scene of 1 to 4 objects (a clip: 1 to 3), none of which ever touches another or the tag.

    In every split but `pairs` no object is one of `HELD_OUT`; in `pairs` the first one always is.
    """
    number = int(rng.integers(1, MOST_OBJECTS if clip else MOST_OBJECTS + 1))
    names = list(COLOURS)
    colours = [names[i] for i in rng.permutation(len(names))[:number]]
    if split == "pairs":
        colours[0] = sorted(HELD_OUT)[int(rng.integers(len(HELD_OUT)))][0]
        rest = [name for name in names if name != colours[0]]
        colours[1:] = [rest[i] for i in rng.permutation(len(rest))[: number - 1]]
    taken: list[Box] = []
    digit = int(rng.integers(10)) if rng.random() < 0.75 else None
    tag = (0, 0)
    if digit is not None:
        left = int(rng.integers(_EDGE, SIDE - TAG[0] - _EDGE))
        tag = (left, int(rng.integers(_EDGE, SIDE - TAG[1] - _EDGE)))
        taken.append((tag[0], tag[1], tag[0] + TAG[0], tag[1] + TAG[1]))
    things = []
    for nth, colour in enumerate(colours):
        shape = _shape(rng, colour, held_out=split == "pairs" and nth == 0, any_pair=split == "pairs")
        thing = _place(rng, colour, shape, taken, clip=clip)
        if thing is not None:
            things.append(thing)
    tag_there = (0.0, 1.0)
    if clip:
        length = float(rng.uniform(*BRIEF))
        tag_there = _span(float(rng.uniform(0, 1 - length)), length)
    return Scene(
        tuple(things),
        digit,
        tag,
        tuple(float(c) for c in rng.uniform(35, 105) + rng.uniform(-14, 14, 3)),  # type: ignore[arg-type]
        (float(rng.uniform(-24, 24)), float(rng.uniform(-24, 24))),
        int(rng.integers(2**31)),
        tag_there,
    )


def _shape(rng: np.random.Generator, colour: str, *, held_out: bool, any_pair: bool) -> str:
    if held_out:
        return next(shape for c, shape in sorted(HELD_OUT) if c == colour)
    free = [shape for shape in SHAPES if any_pair or (colour, shape) not in HELD_OUT]
    return free[int(rng.integers(len(free)))]


def _place(
    rng: np.random.Generator, colour: str, shape: str, taken: list[Box], *, clip: bool
) -> Thing | None:
    """An object whose swept box is free, or none after many tries: a crowded scene has one object fewer."""
    fate: Fate = FATES[int(rng.integers(len(FATES)))] if clip else "stays"
    for _ in range(60):
        size = list(SIZES)[int(rng.integers(2))]
        low, high = SIZES[size]
        diameter = int(rng.integers(low, high + 1))
        half = diameter / 2
        x, y = (float(v) for v in rng.uniform(half + _EDGE, SIDE - half - _EDGE, 2))
        u, v = x, y
        if fate == "moves":
            dx, dy = DIRECTIONS[list(DIRECTIONS)[int(rng.integers(4))]]
            way = float(rng.uniform(*TRAVEL))
            u, v = x + dx * way, y + dy * way
            if not all(half + _EDGE <= end <= SIDE - half - _EDGE for end in (u, v)):
                continue
        box = (min(x, u) - half, min(y, v) - half, max(x, u) + half, max(y, v) + half)
        if any(_touch(box, other) for other in taken):
            continue
        taken.append(box)
        return Thing(colour, shape, size, diameter, (x, y), (u, v), fate, _there(rng, fate))
    if not taken:
        raise AssertionError("an empty scene has room for an object")
    return None


def _there(rng: np.random.Generator, fate: Fate) -> tuple[float, float]:
    """From when to when an object of that fate is there."""
    when = float(rng.uniform(0.3, 0.7))
    if fate == "flashes":
        length = float(rng.uniform(*BRIEF))
        return _span(float(rng.uniform(0.12, 0.88 - length)), length)
    return {"appears": (when, 1.0), "disappears": (0.0, when)}.get(fate, (0.0, 1.0))


def _span(start: float, length: float) -> tuple[float, float]:
    return start, start + length


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] + _GAP and b[0] < a[2] + _GAP and a[1] < b[3] + _GAP and b[1] < a[3] + _GAP
