"""The order of samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.training.sampler import length_grouped_order, modality_grouped_order

SAMPLES = st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60)
SIZES = st.integers(1, 4)


@given(SAMPLES, SIZES, SIZES)
def test_every_sample_once(samples: list[tuple[int, bool]], batch: int, world: int) -> None:
    """Whatever the lengths, 0 too, and with one modality only: nothing is lost or repeated."""
    lengths, visual = [length for length, _ in samples], [seen for _, seen in samples]
    order = modality_grouped_order(lengths, visual, batch=batch, world=world)
    assert sorted(order) == list(range(len(samples)))


@given(SAMPLES, SIZES, SIZES)
def test_megabatches_are_of_one_modality(samples: list[tuple[int, bool]], batch: int, world: int) -> None:
    """All but what is left at the end, which is sorted by number."""
    lengths, visual = [length for length, _ in samples], [seen for _, seen in samples]
    if len(set(visual)) < 2:
        return
    order = modality_grouped_order(lengths, visual, batch=batch, world=world)
    size, left = batch * world, 0
    for kind in (True, False):
        left += (visual.count(kind) - 1) % size + 1
    whole = order[: len(order) - left]
    for i in range(0, len(whole), size):
        assert len({visual[k] for k in whole[i : i + size]}) == 1
    assert order[len(whole) :] == sorted(order[len(whole) :])


def test_workers_get_like_loads() -> None:
    """The longest first, each to the worker with the least; every worker as many samples."""
    order = length_grouped_order([9, 8, 2, 1], batch=2, world=2)
    assert sorted(order[:2]) == [0, 3]
    assert sorted(order[2:]) == [1, 2]


def test_generators_say_the_order() -> None:
    """The same seeds give the same order; other ones another."""

    def draw(seed: int) -> list[int]:
        first, second = (torch.Generator().manual_seed(seed + i) for i in (0, 1))
        lengths, visual = list(range(40)), [i % 3 > 0 for i in range(40)]
        return modality_grouped_order(lengths, visual, batch=2, world=2, generator=first, within=second)

    assert draw(0) == draw(0) != draw(5)


@pytest.mark.parametrize(
    ("lengths", "visual", "batch", "said"),
    [
        ([1], [True], 0, "sampler: batch 0, world 1; wanted both 1 or more"),
        ([1], [], 1, "sampler: 1 lengths, but visual tells of 0 samples; wanted as many"),
        (
            [-1],
            [True],
            1,
            "sampler: a length is negative; give lengths of 0 or more, and say in visual which samples have "
            "pictures",
        ),
    ],
)
def test_refused(lengths: list[int], visual: list[bool], batch: int, said: str) -> None:
    """Numbers that make no order."""
    with pytest.raises(BudgetError) as error:
        modality_grouped_order(lengths, visual, batch=batch, world=1)
    assert str(error.value) == said
