"""One training sample: a rendered scene, its questions as packed token ids, and what every patch shows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..shapes.questions import OPTIONS, ask
from ..shapes.render import moments, patch_labels, render
from ..shapes.scene import COLOURS, DIRECTIONS, SHAPES, SIDE, SIZES, Scene, Split, draw_scene, generator
from .words import ASKED, OPENING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_COLOUR, _SHAPE, _SIZE = (list(names) for names in (COLOURS, SHAPES, SIZES))
PATCH_CLASSES = {"colour": len(_COLOUR) + 1, "shape": len(_SHAPE) + 1, "size": len(_SIZE) + 1, "digit": 11}
"""What a patch can show, background included, by attribute."""
CHANGES = ("none", *DIRECTIONS, "appeared")
"""What can have happened to an object since the first frame."""
PICTURE_LABELS = len(_COLOUR) + len(_SHAPE) + len(_COLOUR) * len(_SHAPE) + 10 + len(_COLOUR) * 4
"""Statements about a whole picture: colours, shapes, pairs of both, digit, quadrant of each colour."""
IGNORE = -100
_STIR = 4.0  # pixels of way from which an object counts as moved


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture or clip, its questions, and what is to be seen in it.

    frames: [T, 112, 112, 3] uint8. ids, block, target, kind: [L]. patches: [T, g, g, 4] classes. place:
    [T, g, g, 2] centres, 0 to 1. change: [T, g, g]. picture: [T, labels].
    """

    frames: np.ndarray
    ids: list[int]
    block: list[int]
    """Which question each id belongs to."""
    target: list[int]
    """The id that should follow, or IGNORE outside answers."""
    kind: list[int]
    """For each target the number of its kind of question, or -1."""
    patches: np.ndarray
    place: np.ndarray
    change: np.ndarray
    picture: np.ndarray


KINDS = tuple(OPTIONS)


def make_sample(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    split: Split,
    index: int,
    *,
    frames: int,
    questions: int,
    grid: int,
) -> Sample:
    """The sample of that number, a picture (`frames` 1) or a clip; the same every time."""
    clip = frames > 1
    rng = generator(seed, split, index)
    scene = draw_scene(rng, split, clip=clip)
    asked = ask(scene, rng, split, frames=frames, number=questions)
    ids: list[int] = []
    block: list[int] = []
    target: list[int] = []
    kind: list[int] = []
    for nth, question in enumerate(asked):
        before = _encode(tokenizer, ASKED.format(question=question.text))
        after = [*_encode(tokenizer, f" {question.answer}"), tokenizer.eos_token_id]
        row = [*before, *after[:-1]]
        ids += row
        block += [nth] * len(row)
        target += [IGNORE] * (len(before) - 1) + after
        kind += [-1] * (len(before) - 1) + [KINDS.index(question.kind)] * len(after)
    covered = patch_labels(scene, frames, grid)
    return Sample(render(scene, frames), ids, block, target, kind, *_labels(scene, covered))


def prefix_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """What stands before the visual tokens."""
    first: Any = tokenizer.bos_token_id
    return [first, *_encode(tokenizer, OPENING)]


_known: dict[tuple[int, str], list[int]] = {}


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    key = (id(tokenizer), text)
    if key not in _known:
        _known[key] = list(tokenizer(text, add_special_tokens=False).input_ids)
    return _known[key]


def _labels(scene: Scene, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Attributes, centre (0 to 1) and change of the thing in every patch; statements about every frame."""
    frames = covered.shape[0]
    things = len(scene.things)
    attributes = np.zeros((things + 2, 4), np.int64)  # row 0 background, last row (-1) the tag
    for n, thing in enumerate(scene.things, 1):
        attributes[n, :3] = (
            _COLOUR.index(thing.colour) + 1,
            _SHAPE.index(thing.shape) + 1,
            _SIZE.index(thing.size) + 1,
        )
    if scene.digit is not None:
        attributes[-1, 3] = scene.digit + 1
    place = np.full((frames, things + 2, 2), np.nan, np.float32)
    change = np.full((frames, things + 2), IGNORE, np.int64)
    picture = np.zeros((frames, PICTURE_LABELS), np.float32)
    pairs, digits, quadrants = (len(_COLOUR) + len(_SHAPE) + o for o in (0, 40, 50))
    for t, moment in enumerate(moments(frames)):
        for n, thing in enumerate(scene.things, 1):
            x, y = thing.centre(moment)
            place[t, n] = x / SIDE, y / SIDE
            if t:
                change[t, n] = _change(thing.visible(0.0), x - thing.start[0], y - thing.start[1])
            if thing.visible(moment):
                c, s = _COLOUR.index(thing.colour), _SHAPE.index(thing.shape)
                quadrant = 2 * (y > SIDE / 2) + (x > SIDE / 2)
                picture[
                    t, [c, len(_COLOUR) + s, pairs + c * len(_SHAPE) + s, quadrants + c * 4 + quadrant]
                ] = 1
        if scene.digit is not None and scene.shows_tag(moment):
            picture[t, digits + scene.digit] = 1
            place[t, -1] = [(corner + 8) / SIDE for corner in scene.tag]
    index = covered.astype(np.int64)
    return (
        attributes[index],
        np.take_along_axis(place, index.reshape(frames, -1, 1), 1).reshape(*index.shape, 2),
        np.take_along_axis(change, index.reshape(frames, -1), 1).reshape(index.shape),
        picture,
    )


def _change(there_at_first: bool, dx: float, dy: float) -> int:
    if not there_at_first:
        return CHANGES.index("appeared")
    if max(abs(dx), abs(dy)) < _STIR:
        return 0
    name = next(n for n, (x, y) in DIRECTIONS.items() if x * dx + y * dy > 0)
    return CHANGES.index(name)


@dataclass(slots=True)
class Batch:
    """Samples of one number of frames, padded to one length.

    pixels: [B, T, 112, 112, 3] uint8. ids, block, target, kind: [B, L]. The others: as in Sample.
    """

    pixels: Tensor
    ids: Tensor
    block: Tensor
    target: Tensor
    kind: Tensor
    patches: Tensor
    place: Tensor
    change: Tensor
    picture: Tensor

    def to(self, device: torch.device | str, **how: Any) -> Batch:
        """The same on another device. how: as of `Tensor.to`."""
        return Batch(*(getattr(self, f.name).to(device, **how) for f in fields(self)))


def collate(samples: list[Sample], pad: int) -> Batch:
    """Joined samples; padding is a block of its own (-1) without targets."""

    def rows(name: str, fill: int) -> Tensor:
        lists = [getattr(sample, name) for sample in samples]
        longest = max(map(len, lists))
        return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in lists])

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    return Batch(
        stack("frames"),
        rows("ids", pad),
        rows("block", -1),
        rows("target", IGNORE),
        rows("kind", -1),
        stack("patches"),
        stack("place"),
        stack("change"),
        stack("picture"),
    )
