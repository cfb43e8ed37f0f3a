"""Groups of tokens of any sizes: who belongs to whom, and the same clusters as group by group."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.runtime import grouping
from tokenloom.runtime.dpc import dpc_knn
from tokenloom.runtime.grouping import Groups, cluster_groups, clusters_of, runs_of


def one_by_one(x: Tensor, groups: Groups, ratio: float, least: int, noise: Tensor | None = None) -> list[int]:
    """Cluster numbers in group order, a DPC-KNN for every group."""
    out: list[int] = []
    begin = total = 0
    for size in groups.sizes:
        rows = groups.order[begin : begin + size]
        label, k = torch.arange(size), size
        if size > least:
            k = max(int(size * ratio), 1)
            drawn = None if noise is None else noise[None, begin : begin + size]
            label = dpc_knn(x[rows][None], k, 7, noise=drawn).label[0]
        out += (label + total).tolist()
        begin, total = begin + size, total + k
    return out


def test_groups_come_by_their_first_token() -> None:
    """And hold their tokens in order."""
    groups = Groups.of(torch.tensor([4, 0, 4, 2, 0]), 5)
    assert groups.order.tolist() == [0, 2, 1, 4, 3]
    assert groups.sizes == (2, 2, 1)
    assert not groups.sorted
    assert Groups.of(torch.tensor([3, 3, 1]), 5).sorted


@settings(deadline=None)
@given(
    keys=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    least=st.sampled_from([0, 3, 14]),
    seed=st.integers(0, 20),
    noisy=st.booleans(),
)
def test_all_at_once_is_one_by_one(keys: list[int], ratio: float, least: int, seed: int, noisy: bool) -> None:
    """Whatever the sizes and the order of the tokens."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(len(keys), 5, generator=rng)
    noise = torch.rand(len(keys), generator=rng) if noisy else None
    groups = Groups.of(torch.tensor(keys), 4)
    runs = runs_of(groups.sizes, ratio, least, x)
    assert cluster_groups(x, groups, runs, 7, noise).tolist() == one_by_one(x, groups, ratio, least, noise)


def test_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and batches are cut where they get too large."""
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    groups = Groups.of(torch.tensor([0] * 30 + [1] * 30 + [2] * 40 + [3] * 40 + [4] * 60), 5)
    want = cluster_groups(x, groups, runs_of(groups.sizes, 0.5, 14, x), 7)
    monkeypatch.setattr(grouping, "MOST", 2000)
    monkeypatch.setattr(grouping, "CACHED", 2000)
    runs = runs_of(groups.sizes, 0.5, 14, x)
    assert [run.groups for run in runs] == [2, 1, 1, 1]
    assert cluster_groups(x, groups, runs, 7).equal(want)


def test_clusters_of() -> None:
    """Rounded down, one at least, 0 for a group that stays as it is."""
    assert [clusters_of(n, 0.5, 14) for n in (14, 15, 144)] == [0, 7, 72]
    assert clusters_of(15, 0.01, 14) == 1
    assert clusters_of(100, 0.29, 0) == int(100 * 0.29) == 28


def test_nothing_is_read_back() -> None:
    """Once the sizes are known, it runs where tensors have no numbers."""
    x = torch.empty(124, 16, device="meta")
    groups = Groups(torch.empty(124, dtype=torch.long, device="meta"), (35, 9, 40, 40), sorted=False)
    runs = runs_of(groups.sizes, 0.5, 14, x)
    assert [run.groups for run in runs] == [1, 1, 2]
    assert cluster_groups(x, groups, runs, 7).shape == (124,)


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    """On CUDA, once the sizes are known, without one synchronisation; and as on the CPU."""
    key = torch.tensor([0] * 30 + [1] * 9 + [2] * 40 + [3] * 40 + [0] * 5)
    x = torch.randn(len(key), 16, generator=torch.Generator().manual_seed(1))
    groups = Groups.of(key.cuda(), 4)
    runs, there = runs_of(groups.sizes, 0.5, 14, x.cuda()), x.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = cluster_groups(there, groups, runs, 7)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert got.cpu().equal(cluster_groups(x, Groups.of(key, 4), runs, 7))
