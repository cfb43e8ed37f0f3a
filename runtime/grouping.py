"""DPC-KNN of tokens group by group, all groups of a batch at once, whatever their sizes.

Sizes are known on the host, so that nothing waits for the device once they are. Distances are formed for runs
of neighbouring groups of one size, on the features where they lie; only the small distance matrices of groups
of different sizes are padded to each other.

N = tokens, C = width, G = groups of a batch, M = tokens of its largest group
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .dpc import EXACT, cluster_distances, distances, from_products, products

MOST = 1 << 22  # padded distances of one batch
CACHED, LARGE = 1 << 19, 1 << 26  # features of one block: on the CPU, where the cache counts, and elsewhere


class Run(NamedTuple):
    """Neighbouring groups of one size: the first token's place, and into how many clusters each goes.

    clusters 0: the tokens of these groups stay apart. out: number of the first cluster.
    """

    start: int
    groups: int
    size: int
    clusters: int
    out: int

    @property
    def stop(self) -> int:
        """Behind the last token."""
        return self.start + self.groups * self.size


@dataclass(frozen=True)
class Groups:
    """Tokens by group, groups by their first token.

    order: [N] long, the tokens group after group. sizes: of every group. sorted: order is 0, 1, 2, ...
    """

    order: Tensor
    sizes: tuple[int, ...]
    sorted: bool

    @classmethod
    def of(cls, key_N: Tensor, keys: int) -> Groups:
        """Tokens of one key (0..keys-1) are a group; one wait for the device."""
        n = len(key_N)
        number_N = torch.arange(n, device=key_N.device)
        first_X = torch.full((keys,), n, device=key_N.device)
        first_N = first_X.scatter_reduce(0, key_N, number_N, "amin")[key_N]
        order = first_N.argsort(stable=True)
        count_N = torch.zeros_like(number_N).scatter_add_(0, first_N, torch.ones_like(number_N))
        *counts, moved = torch.cat([count_N, (order != number_N).any()[None]]).tolist()
        return cls(order, tuple(c for c in counts if c), not moved)


def clusters_of(size: int, ratio: float, least: int) -> int:
    """Into how many clusters a group goes: int(size * ratio) and 1 at least; 0, as it is, up to `least`."""
    return max(int(size * ratio), 1) if size > least else 0


def runs_of(sizes: Sequence[int], ratio: float, least: int, features: Tensor) -> list[Run]:
    """The groups as runs, of which each is one block of features [N, C]."""
    room = CACHED if features.device.type == "cpu" else LARGE
    out: list[Run] = []
    start = clusters = 0
    for size in sizes:
        k, most = clusters_of(size, ratio, least), room // (size * max(size, features.shape[1]))
        if out and out[-1].size == size and (out[-1].groups < most or not k):
            out[-1] = out[-1]._replace(groups=out[-1].groups + 1)
        else:
            out.append(Run(start, 1, size, k, clusters))
        start, clusters = start + size, clusters + (k or size)
    return out


def cluster_groups(
    features: Tensor, groups: Groups, runs: Sequence[Run], neighbours: int, noise: Tensor | None = None
) -> Tensor:
    """[N] long: the cluster of every token in group order; numbered group by group, by score inside one.

    features: [N, C] in the order of the tokens. noise: [N] in group order, as `dpc_knn` takes it. Does not
    wait for the device.
    """
    out_N = torch.empty_like(groups.order)
    for run in runs:
        if not run.clusters:
            out_N[run.start : run.stop] = torch.arange(run.stop - run.start, device=out_N.device) + run.out
    few = [run for run in runs if run.clusters and run.size <= EXACT]
    many = [run for run in runs if run.clusters and run.size > EXACT]
    for batch in (*_batches(few), *_batches(many)):
        label_GM = _labels(features, groups, batch, neighbours, noise)
        row = 0
        for run in batch:
            label = label_GM[row : row + run.groups, : run.size]
            base = torch.arange(run.groups, device=out_N.device)[:, None] * run.clusters + run.out
            out_N[run.start : run.stop] = (label + base).flatten()
            row += run.groups
    return out_N


def _batches(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs whose distances, padded to each other, stay within MOST."""
    batch: list[Run] = []
    for run in runs:
        many = [*batch, run]
        if batch and sum(r.groups for r in many) * max(r.size for r in many) ** 2 > MOST:
            yield batch
            many = [run]
        batch = many
    if batch:
        yield batch


def _labels(
    features: Tensor, groups: Groups, batch: list[Run], neighbours: int, noise: Tensor | None
) -> Tensor:
    """[G, M] long: cluster numbers within each group of the batch."""
    g, m = sum(run.groups for run in batch), max(run.size for run in batch)
    wide = torch.promote_types(features.dtype, torch.float32)
    pair_GMM = torch.zeros(g, m, m, dtype=wide, device=features.device)
    noise_GM = None if noise is None else torch.zeros(g, m, dtype=wide, device=features.device)
    size_G = torch.empty(g, dtype=torch.long, device=features.device)
    clusters_G = torch.empty_like(size_G)
    row, few = 0, m <= EXACT
    for run in batch:
        here, tokens = slice(row, row + run.groups), slice(run.start, run.stop)
        block = features[tokens] if groups.sorted else features[groups.order[tokens]]
        block = block.reshape(run.groups, run.size, -1)
        pair_GMM[here, : run.size, : run.size] = distances(block) if few else products(block)
        if noise_GM is not None and noise is not None:
            noise_GM[here, : run.size] = noise[tokens].reshape(run.groups, -1)
        size_G[here].fill_(run.size)
        clusters_G[here].fill_(run.clusters)
        row += run.groups
    distance_GMM = pair_GMM if few else from_products(pair_GMM, features.shape[1])
    valid_GM = torch.arange(m, device=features.device) < size_G[:, None]
    most = max(run.clusters for run in batch)
    return cluster_distances(
        distance_GMM,
        clusters_G,
        neighbours,
        valid=None if all(run.size == m for run in batch) else valid_GM,
        noise=noise_GM,
        most=most,
    ).label
