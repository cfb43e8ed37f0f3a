"""Learning rates, and which parameters have which."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tokenloom.runtime.errors import BudgetError, CheckpointError
from tokenloom.runtime.training.groups import adamw, parameter_groups
from tokenloom.runtime.training.rates import cosine_schedule, warmup_steps


def rates(steps: int, warmup: int) -> list[float]:
    optimiser = adamw([{"params": [nn.Parameter(torch.zeros(1))], "lr": 2.0}])
    schedule = cosine_schedule(optimiser, steps=steps, warmup=warmup)
    used: list[float] = []
    for _ in range(steps + 1):
        used.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return used


def test_up_then_down() -> None:
    """Two of six steps warm up; after the last nothing is left."""
    assert rates(6, 2) == pytest.approx([0, 1, 2, 2 * 0.853553, 1, 2 * 0.146447, 0], abs=1e-6)


def test_agrees_with_transformers() -> None:
    """The schedule of the same name there."""
    from transformers import get_cosine_schedule_with_warmup

    optimiser = adamw([{"params": [nn.Parameter(torch.zeros(1))], "lr": 2.0}])
    theirs = get_cosine_schedule_with_warmup(optimiser, num_warmup_steps=3, num_training_steps=9)
    wanted: list[float] = []
    for _ in range(10):
        wanted.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    assert rates(9, 3) == pytest.approx(wanted)


def test_part_of_the_steps_warms_up() -> None:
    """Rounded up, as transformers does."""
    assert warmup_steps(5198) == 156
    assert warmup_steps(4, 0.03) == 1
    assert warmup_steps(4, 0.0) == 0


def test_no_longer_than_training() -> None:
    """Warming up beyond the end is a mistake."""
    with pytest.raises(BudgetError) as error:
        rates(2, 3)
    assert str(error.value) == "cosine_schedule: 3 of 2 steps warm up; wanted 0..2"


def model() -> nn.ModuleDict:
    made = nn.ModuleDict({"tower": nn.Linear(2, 2), "mm_projector": nn.Linear(2, 2), "lm": nn.Linear(2, 2)})
    made["tower"].requires_grad_(False)
    return made


def test_groups_by_rate_and_decay() -> None:
    """Vectors do not decay, the projector has its own rate, what is frozen is left out."""
    made = model()
    groups = parameter_groups(made.named_parameters(), lr=1.0, weight_decay=0.1, own={"mm_projector": 0.5})
    projector, lm = made["mm_projector"], made["lm"]
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.5, 0.1), (0.5, 0.0), (1.0, 0.1), (1.0, 0.0)]
    members = [p for g in groups for p in g["params"]]
    wanted = [projector.weight, projector.bias, lm.weight, lm.bias]
    assert len(members) == 4
    assert all(p is w for p, w in zip(members, wanted, strict=True))


def test_without_decay_one_group() -> None:
    """As the released scripts train: one rate, no decay."""
    groups = parameter_groups(model().named_parameters(), lr=1.0)
    assert [len(g["params"]) for g in groups] == [4]


def test_a_rate_for_nothing() -> None:
    """A word that fits no name is a typing error, or the part is frozen."""
    with pytest.raises(CheckpointError) as error:
        parameter_groups(model().named_parameters(), lr=1.0, own={"projectr": 0.5})
    assert str(error.value) == (
        "parameter_groups: no parameter that learns has 'projectr' in its name; did you mean 'mm_projector'?"
    )
