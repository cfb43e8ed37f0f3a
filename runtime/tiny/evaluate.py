"""How much a model in training gets right on scenes that it was not trained on."""

# B = samples, L = ids of the packed questions, Q = questions of a sample, one more for the padding

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..shapes.scene import Split
from .model import TinyLlava
from .recipe import Precision
from .samples import IGNORE, KINDS, PATCH_CLASSES, Batch, collate, make_sample, prefix_ids
from .steps import autocast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Share = Mapping[str, Mapping[str, float]]
_BATCH = 32  # pictures at once; of clips fewer
_MOVING = "motion of what moves"


@torch.inference_mode()
def evaluate(
    model: TinyLlava,
    tokenizer: PreTrainedTokenizerFast,
    *,
    frames: int,
    count: int,
    seed: int,
    precision: Precision,
    questions: int = 8,
    split: Split = "validation",
    answers: bool = True,
) -> Share:
    """Percent right: `answers` by kind of question (whole, as greedy decoding gives them), and `patches`.

    `motion of what moves` leaves out objects that stay. Patches count where they show what is asked for.
    answers: ask the language model at all.
    """
    device = next(model.parameters()).device
    prefix = torch.tensor(prefix_ids(tokenizer), device=device)
    pad: Any = tokenizer.pad_token_id
    nowhere = tokenizer(" nowhere", add_special_tokens=False).input_ids[0]
    told: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    size = _BATCH if frames == 1 else max(1, _BATCH // frames)
    model.eval()
    for first in range(0, count, size):
        samples = [
            make_sample(tokenizer, seed, split, n, frames=frames, questions=questions, grid=model.sizes.grid)
            for n in range(first, min(first + size, count))
        ]
        batch = collate(samples, pad).to(device)
        with autocast(device, precision):
            looked = model.look(batch.pixels)
            _see(model.heads["patch"](looked.patches), batch, seen)
            if answers:
                _tell(model.read(looked.visual, batch, prefix)[0], batch, nowhere, told)
    model.train()
    found = {"patches": _percent(seen)}
    if answers:
        everything = [sum(pair[i] for kind, pair in told.items() if kind != _MOVING) for i in (0, 1)]
        found["answers"] = _percent({**dict(sorted(told.items())), "all": everything})
    return found


def _percent(counts: Mapping[str, list[int]]) -> dict[str, float]:
    return {name: round(100 * good / of, 2) for name, (good, of) in counts.items() if of}


def _see(logits: Tensor, batch: Batch, seen: dict[str, list[int]]) -> None:
    labels, at = batch.patches.flatten(0, 3), 0
    scores = logits.flatten(0, -2)
    for n, (name, classes) in enumerate(PATCH_CLASSES.items()):
        shown = labels[:, n] > 0
        guess = scores[shown, at : at + classes].argmax(-1)
        _add(seen, name, guess == labels[shown, n])
        at += classes


def _tell(logits: Tensor, batch: Batch, nowhere: int, told: dict[str, list[int]]) -> None:
    """An answer is right when each of its tokens is the most likely one after the right ones before it."""
    question_BL = batch.block + 1
    wrong_BL = (logits.argmax(-1) != batch.target) & (batch.target != IGNORE)
    shape = (len(question_BL), int(question_BL.max()) + 1)

    def per_question(values_BL: Tensor) -> Tensor:
        start = values_BL.new_full(shape, -1)
        return start.scatter_reduce(1, question_BL, values_BL, "amax")

    right_BQ = per_question(wrong_BL.long()) == 0
    kind_BQ = per_question(batch.kind)
    still_BQ = per_question((batch.target == nowhere).long()) == 1
    for number, kind in enumerate(KINDS):
        _add(told, kind, right_BQ[kind_BQ == number])
    _add(told, _MOVING, right_BQ[(kind_BQ == KINDS.index("motion")) & ~still_BQ])


def _add(counts: dict[str, list[int]], name: str, right: Tensor) -> None:
    if len(right):
        counts[name][0] += int(right.sum())
        counts[name][1] += len(right)
