"""Means of groups of rows: any size, dtype and order, in blocks or at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.runtime.values import membership
from tokenloom.runtime.values.membership import by_group, group_sums, mean, roomy


@settings(deadline=None)
@given(
    assign=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    width=st.sampled_from([(), (1,), (3,), (2, 2)]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    cached=st.sampled_from([1, 4, 1 << 18]),
)
def test_weighted_sums(assign: list[int], width: tuple[int, ...], dtype: torch.dtype, cached: int) -> None:
    """Every group's, in float32 at least, whatever the blocks."""
    number = torch.unique(torch.tensor(assign), return_inverse=True)[1]
    groups, n = int(number.max()) + 1, len(assign)
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(n, *width, generator=rng).to(dtype)
    part = torch.rand(n, generator=rng) / 2
    part = torch.where(number.bincount()[number] == 1, 1.0, part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(membership, "CACHED", cached)
        got = mean(x, number, part, groups)
    weighted = x.double() * part.double().reshape(-1, *[1] * len(width))
    want = torch.zeros(groups, *width, dtype=torch.float64).index_add_(0, number, weighted)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_a_row_alone_is_copied() -> None:
    """To the bit, also where float32 is narrower than what comes in."""
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert mean(x, torch.tensor([3, 0, 1, 1, 2, 4]), torch.ones(6), 5)[[3, 0, 2, 4]].equal(x[[0, 1, 4, 5]])


def test_rows_beyond_the_last_group_are_left_out() -> None:
    """Wherever they stand."""
    x, assign = torch.tensor([[1.0], [2.0], [4.0], [8.0]]), torch.tensor([2, 0, 1, 0])
    sums = [s for _, s in group_sums(x, *by_group(assign, 2), torch.ones(4))]
    assert torch.cat(sums).tolist() == [[10.0], [4.0]]


def test_no_rows() -> None:
    """Give no groups."""
    assert mean(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0), 0).shape == (0, 4)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_several_threads(width: int) -> None:
    """Give what one gives; rows of width 0, which PyTorch's sum refuses then, are rows as well."""
    x, assign = torch.randn(60, width, generator=torch.Generator().manual_seed(1)), torch.arange(60) // 4
    want = mean(x, assign, torch.full((60,), 0.25), 15)
    torch.set_num_threads(2)
    try:
        got = mean(x, assign, torch.full((60,), 0.25), 15)
    finally:
        torch.set_num_threads(1)
    assert got.shape == (15, width)
    assert got.equal(want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.long])
def test_roomy_is_a_tensor_like_any_other(dtype: torch.dtype) -> None:
    """Of every type and size; it can be written to."""
    for shape in ((0, 3), (2, 3), (1200, 1000)):
        made = roomy(shape, dtype, torch.device("cpu"))
        assert (tuple(made.shape), made.dtype) == (shape, dtype)
        assert made.fill_(1).sum() == made.numel() or dtype == torch.bfloat16
