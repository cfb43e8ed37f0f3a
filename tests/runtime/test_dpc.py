"""DPC-KNN: against the formulas in float64, ties, padding, noise, and nothing that waits for the device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.runtime.dpc import EXACT, distances, dpc_knn


def points(b: int, n: int, c: int, seed: int) -> Tensor:
    return torch.randn(b, n, c, generator=torch.Generator().manual_seed(seed))


def reference(x_NC: Tensor, clusters: int, neighbours: int) -> tuple[list[int], list[int]]:
    """Labels and centres of one set, one token at a time."""
    x, n = x_NC.double(), len(x_NC)
    d = [[float((x[i] - x[j]).square().sum().sqrt()) / x.shape[1] ** 0.5 for j in range(n)] for i in range(n)]
    k = min(neighbours, n)
    density = [torch.tensor(-sum(v**2 for v in sorted(row)[:k]) / k).exp().item() for row in d]
    far = max(map(max, d))
    score = []
    for i in range(n):
        denser = [j for j in range(n) if density[j] > density[i] or (density[j] == density[i] and j < i)]
        score.append(density[i] * min([d[i][j] for j in denser], default=far))
    centres = sorted(range(n), key=lambda i: -score[i])[:clusters]
    labels = [min(range(clusters), key=lambda c: d[i][centres[c]]) for i in range(n)]
    for c, i in enumerate(centres):
        labels[i] = c
    return labels, centres


@pytest.mark.parametrize("n", [1, 2, 9, EXACT, EXACT + 1, 40])
def test_against_the_formulas(n: int) -> None:
    """Every set of a batch gives what the formulas give for it alone, in float64."""
    x = points(3, n, 6, seed=n)
    clusters = max(n // 3, 1)
    got = dpc_knn(x, clusters, 5)
    for b in range(3):
        assert (got.label[b].tolist(), got.centre[b].tolist()) == reference(x[b], clusters, 5)


@settings(deadline=None)
@given(n=st.integers(1, 40), c=st.integers(1, 5), k=st.integers(1, 50), seed=st.integers(0, 99))
def test_every_cluster_has_its_centre(n: int, c: int, k: int, seed: int) -> None:
    """Labels are 0..K-1, each centre is in its own cluster, scores of centres do not rise."""
    clusters = min(c, n)
    got = dpc_knn(points(2, n, 4, seed), clusters, k)
    for b in range(2):
        assert got.label[b][got.centre[b]].tolist() == list(range(clusters))
        assert bool((got.score[b][got.centre[b]].diff() <= 0).all())


def test_equal_tokens_the_first_is_denser() -> None:
    """All equal: the first tokens are the centres, all others join the first."""
    for n in (6, EXACT + 5):
        got = dpc_knn(torch.full((1, n, 3), 0.7), 3, 4)
        assert got.centre.tolist() == [[0, 1, 2]]
        assert got.label[0].tolist() == [0, 1, 2] + [0] * (n - 3)
        assert got.density.tolist() == [[1.0] * n]


def test_twins_are_no_distance_apart() -> None:
    """Products lose digits; equal tokens of a larger set still count as equal."""
    x = points(1, 20, 64, seed=1) + 50
    distance = distances(torch.cat([x, x], 1))
    assert distance[0].diagonal(20).tolist() == [0.0] * 20
    assert distance.equal(distance.mT)


def test_a_large_common_part_costs_no_digits() -> None:
    """Distances of tokens far from the origin are those of the tokens moved there in float64."""
    x = points(2, 60, 48, seed=2) + 300
    want = torch.cdist(x.double(), x.double()) / 48**0.5
    torch.testing.assert_close(distances(x).double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    """What comes in is what is computed with, in float32."""
    x = points(2, 30, 8, seed=3).to(dtype)
    got, want = dpc_knn(x, 7, 5), dpc_knn(x.float(), 7, 5)
    assert got.label.equal(want.label)
    assert got.density.dtype == torch.float32


def test_float64_agrees() -> None:
    """More digits, the same clusters."""
    x = points(2, 50, 16, seed=4)
    got, want = dpc_knn(x, 20, 7), dpc_knn(x.double(), 20, 7)
    assert got.label.equal(want.label)
    assert want.score.dtype == torch.float64


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 50))
def test_padding_changes_nothing(sizes: list[int], seed: int) -> None:
    """Sets of different sizes, padded with rubbish and each with its own number, as each alone."""
    most = max(sizes)
    x = points(len(sizes), most, 5, seed)
    valid = torch.arange(most) < torch.tensor(sizes)[:, None]
    clusters = torch.tensor([max(n // 2, 1) for n in sizes])
    got = dpc_knn(x, clusters, 4, valid=valid)
    for b, n in enumerate(sizes):
        k = int(clusters[b])
        alone = dpc_knn(x[b : b + 1, :n], k, 4)
        assert got.label[b, :n].equal(alone.label[0])
        assert got.centre[b, :k].equal(alone.centre[0])
        assert got.centre[b, k:].tolist() == [-1] * (most - k)
        assert not got.score[b, n:].any()
        assert not got.label[b, n:].any()


def test_more_clusters_than_tokens() -> None:
    """A padded set of two has two clusters at most."""
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    got = dpc_knn(points(2, 5, 3, seed=5), 4, 3, valid=valid)
    assert (got.centre >= 0).sum(1).tolist() == [4, 2]
    assert sorted(got.label[1, :2].tolist()) == [0, 1]


def test_noise_decides_ties() -> None:
    """A millionth of it is enough to make another of equal tokens the densest."""
    x = torch.tensor([[[0.0], [0.0], [0.0], [9.0]]])
    assert dpc_knn(x, 1, 2).centre.tolist() == [[0]]
    noise = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    assert dpc_knn(x, 1, 2, noise=noise).centre.tolist() == [[2]]


def test_nothing_is_read_back() -> None:
    """It runs where tensors have no numbers: none of them decides what is done next."""
    x, clusters = torch.empty(3, 40, 8, device="meta"), torch.empty(3, dtype=torch.long, device="meta")
    got = dpc_knn(x, clusters, 7, valid=torch.empty(3, 40, dtype=torch.bool, device="meta"))
    assert got.label.shape == got.centre.shape == (3, 40)


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    """On CUDA, padded and with numbers per set, without one synchronisation; and as on the CPU."""
    x, valid = points(3, 40, 8, seed=6), torch.arange(40) < torch.tensor([40, 31, 26])[:, None]
    clusters = torch.tensor([20, 15, 13])
    on_device = [t.cuda() for t in (x, clusters, valid)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = dpc_knn(on_device[0], on_device[1], 7, valid=on_device[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert got.label.cpu().equal(dpc_knn(x, clusters, 7, valid=valid).label)
