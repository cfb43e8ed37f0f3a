"""How the learning rate goes: up in a straight line, then down along a cosine."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import BudgetError


def warmup_steps(steps: int, ratio: float = 0.03) -> int:
    """How many of `steps` warm up, rounded up (LLaVA's `warmup_ratio`)."""
    return math.ceil(steps * ratio)


def cosine_factor(step: int, *, steps: int, warmup: int) -> float:
    """The part of the full learning rate at `step`: 0 at the first, 1 after `warmup`, 0 after `steps`."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def cosine_schedule(optimiser: Optimizer, *, steps: int, warmup: int) -> LambdaLR:
    """A scheduler that sets every group's rate to `cosine_factor` of its own; step it after each update.

    Errors: BudgetError when warming up would take longer than training.
    """
    if not 0 <= warmup <= steps:
        raise BudgetError(f"cosine_schedule: {warmup} of {steps} steps warm up; wanted 0..{steps}")
    return LambdaLR(optimiser, partial(cosine_factor, steps=steps, warmup=warmup))
