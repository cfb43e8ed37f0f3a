"""One scene of the benchmark, and its lines in `questions.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapesError
from .questions import OPTIONS, Question, ask
from .render import box, moments, render
from .scene import LEAST_TOO_LARGE, SIDE, TAG, Scene, Split, Thing, draw_scene, generator

MOST_FRAMES = 512


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made. frames: None for pictures. questions: per scene; None: one of each kind.

    number: of scenes. fps: of clips. Errors: ShapesError for values that nothing can be made of.
    """

    split: Split = "test"
    number: int = 400
    seed: int = 0
    frames: int | None = None
    questions: int | None = None
    fps: float = 4.0

    def __post_init__(self) -> None:
        generator(self.seed, self.split, 0)
        if not 1 <= self.number <= LEAST_TOO_LARGE // 2:
            raise ShapesError(f"n: {self.number} is outside 1..{LEAST_TOO_LARGE // 2}")
        if self.frames is not None and not 2 <= self.frames <= MOST_FRAMES:
            raise ShapesError(
                f"frames: {self.frames} is outside 2..{MOST_FRAMES}; pictures are made without clips"
            )
        if self.questions is not None and self.questions < 1:
            raise ShapesError(f"questions: {self.questions} is too few; wanted at least 1 per scene")
        if not 0.1 <= self.fps <= 240:
            raise ShapesError(f"fps: {self.fps:g} is outside 0.1..240")

    @property
    def medium(self) -> str:
        """`image` or `video`: what a question's column of the file is called."""
        return "image" if self.frames is None else "video"


@dataclass(frozen=True)
class Item:
    """A scene with its questions."""

    index: int
    scene: Scene
    questions: list[Question]
    settings: Settings

    @property
    def file(self) -> str:
        """Where its picture or clip lies in the folder."""
        made = self.settings
        return f"images/{self.index:06}.png" if made.frames is None else f"clips/{self.index:06}.mp4"

    def pixels(self) -> NDArray[np.uint8]:
        """Frames, uint8 [T, 112, 112, 3]; of a picture one."""
        return render(self.scene, self.settings.frames or 1)

    def rows(self) -> list[dict[str, Any]]:
        """A JSON object for every question."""
        made = self.settings
        facts = self.facts()
        return [
            {
                "id": f"{made.medium}-{made.split}-{self.index:06}-{nth}",
                made.medium: self.file,
                "question": question.text,
                "answer": question.answer,
                "kind": question.kind,
                "options": list(OPTIONS[question.kind]),
                "split": made.split,
                "scene": facts,
            }
            for nth, question in enumerate(self.questions)
        ]

    def facts(self) -> dict[str, Any]:
        """The scene for JSON; a box is [left, top, right, bottom] in pixels, null in frames that hide it."""
        made = self.settings
        at = moments(made.frames or 1)
        x, y = self.scene.tag
        tag = [[x, y, x + TAG[0], y + TAG[1]] if self.scene.shows_tag(moment) else None for moment in at]
        return {
            "seed": made.seed,
            "index": self.index,
            "width": SIDE,
            "height": SIDE,
            "frames": len(at),
            **({} if made.frames is None else {"fps": made.fps}),
            "objects": [_object(thing, at, clip=made.frames is not None) for thing in self.scene.things],
            "digit": None if self.scene.digit is None else {"value": self.scene.digit, "boxes": tag},
        }


def make_item(settings: Settings, index: int) -> Item:
    """The scene of that number, the same every time, whatever else is made."""
    rng = generator(settings.seed, settings.split, index)
    clip = settings.frames is not None
    scene = draw_scene(rng, settings.split, clip=clip)
    asked = ask(scene, rng, settings.split, frames=settings.frames or 1, number=settings.questions)
    return Item(index, scene, asked, settings)


def items(settings: Settings) -> Iterator[Item]:
    """As many scenes as asked for, from number 0 on.

    A short clip may show nothing that can be asked for: its number is left out.
    """
    found = index = 0
    while found < settings.number:
        item = make_item(settings, index)
        index += 1
        if item.questions:
            found += 1
            yield item


def _object(thing: Thing, at: tuple[float, ...], *, clip: bool) -> dict[str, Any]:
    boxes = [list(box(thing, moment)) if thing.visible(moment) else None for moment in at]
    looks = {"colour": thing.colour, "shape": thing.shape, "size": thing.size}
    fate = {"event": thing.fate, "motion": thing.direction} if clip else {}
    return {**looks, **fate, "boxes": boxes}
