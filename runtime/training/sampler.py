"""The order of samples in an epoch: alike modalities and lengths in one step, as LLaVA's released sampler.

A megabatch is what one optimiser step sees: batch size x workers x accumulated steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..errors import BudgetError


def modality_grouped_order(
    lengths: Sequence[int],
    visual: Sequence[bool],
    *,
    batch: int,
    world: int,
    generator: torch.Generator | None = None,
    within: torch.Generator | None = None,
) -> list[int]:
    """Sample numbers in order: every megabatch but the last is of one modality and of like lengths.

    What is left of both modalities is joined, sorted by number, and comes last. With samples of one modality
    only (where the released code fails) it is `length_grouped_order`.

    lengths: of each sample, e.g. in words. visual: whether it has pictures. batch: samples per worker and
    step. world: workers times accumulated steps. generator: draws the order of megabatches; within: what is
    in them (the released code always draws that from the global generator). Errors: BudgetError.
    """
    _check(lengths, visual, batch, world)
    pictures = [i for i, seen in enumerate(visual) if seen]
    texts = [i for i, seen in enumerate(visual) if not seen]
    if not pictures or not texts:
        return length_grouped_order(lengths, batch=batch, world=world, generator=within)
    full: list[list[int]] = []
    left: list[int] = []
    for members in (pictures, texts):
        order = length_grouped_order(
            [lengths[i] for i in members], batch=batch, world=world, generator=within
        )
        *whole, last = _cut([members[i] for i in order], batch * world)
        full += whole
        left += last  # even a full one: the released code does not look
    shuffled = torch.randperm(len(full), generator=generator).tolist()
    return [i for megabatch in shuffled for i in full[megabatch]] + sorted(left)


def length_grouped_order(
    lengths: Sequence[int], *, batch: int, world: int, generator: torch.Generator | None = None
) -> list[int]:
    """Sample numbers in order: random megabatches, each sorted by falling length and shared out evenly.

    Errors: BudgetError for a batch or world below 1.
    """
    _check(lengths, None, batch, world)
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    order: list[int] = []
    for megabatch in _cut(shuffled, batch * world):
        falling = sorted(megabatch, key=lambda i: lengths[i], reverse=True)
        order += (i for part in _even_parts(falling, lengths, world) for i in part)
    return order


def _cut(order: list[int], size: int) -> list[list[int]]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _even_parts(members: list[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """`members`, longest first, in parts of one size and nearly one total length: each to the lightest part.

    A number that does not divide is dealt out in turns.
    """
    if len(members) % parts:
        return [members[i::parts] for i in range(parts)]
    size = len(members) // parts
    made: list[list[int]] = [[] for _ in range(parts)]
    load: list[float] = [0] * parts
    for i in members:
        lightest = load.index(min(load))
        made[lightest].append(i)
        load[lightest] = math.inf if len(made[lightest]) == size else load[lightest] + lengths[i]
    return made


def _check(lengths: Sequence[int], visual: Sequence[bool] | None, batch: int, world: int) -> None:
    if batch < 1 or world < 1:
        raise BudgetError(f"sampler: batch {batch}, world {world}; wanted both 1 or more")
    if visual is not None and len(visual) != len(lengths):
        raise BudgetError(
            f"sampler: {len(lengths)} lengths, but visual tells of {len(visual)} samples; wanted as many"
        )
    if any(length < 0 for length in lengths):
        raise BudgetError(
            "sampler: a length is negative; give lengths of 0 or more, and say in visual which samples "
            "have pictures"
        )
