"""Arithmetic on memberships: rows in compressed form, `member[start[i]:start[i + 1]]` belongs to row i.

N = rows, M = memberships, G = groups
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

CACHED = 1 << 17  # numbers of a block that stays in the cache of a CPU core


def grouped(group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """[groups, most] long row numbers of each group in order, and [groups, most] bool: which are true.

    group: [N] long in 0..groups-1. Padding repeats row 0.
    """
    count = torch.bincount(group, minlength=groups)
    if len(count) > groups:
        raise ValueError(f"grouped: group {len(count) - 1} of {groups}")
    most = int(count.max()) if groups else 0
    valid = torch.arange(most, device=group.device) < count[:, None]
    index = torch.zeros(groups, most, dtype=torch.long, device=group.device)
    index[valid] = group.argsort(stable=True)
    return index, valid


def starts(count: Tensor) -> Tensor:
    """[N + 1] long: where each of N runs of these lengths begins, and the end."""
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def mean(x: Tensor, assign: Tensor, part: Tensor, groups: int) -> Tensor:
    """Sum of `part * x` per group, in at least float32; a row alone in its group (part 1) is copied."""
    order, begin = by_group(assign, groups)
    out = roomy((groups, *x.shape[1:]), x.dtype, x.device)
    size = begin.diff()
    if x.device.type != "cpu" or 2 * int((size == 1).sum()) <= groups:
        for some, sums in group_sums(x, order, begin, part):
            out[some] = sums
        return out
    torch.index_select(x, 0, order[begin[:-1].clamp_max(len(order) - 1)], out=out)
    several = (size != 1).nonzero()[:, 0]
    order = order[(size != 1).repeat_interleave(size)]
    for some, sums in group_sums(x, order, starts(size[several]), part):
        out[several[some]] = sums.to(x.dtype)
    return out


def by_group(assign: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """[N] long: the rows group after group; [groups + 1] long: where in it each begins, and the last ends.

    assign: [N] long, 0 and up; rows of groups beyond the last come last.
    """
    order = assign.argsort(stable=True)
    return order, torch.searchsorted(assign[order], torch.arange(groups + 1, device=assign.device))


def group_sums(x: Tensor, order: Tensor, begin: Tensor, part: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Which groups, and their sums of `part * x` in at least float32, block after block.

    On the CPU a block stays in the cache; elsewhere there is but one, and nothing waits for the device.
    order, begin: as `by_group` gives them.
    """
    dtype, groups = torch.promote_types(x.dtype, torch.float32), len(begin) - 1
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    if not rows.shape[1]:  # PyTorch's embedding_bag takes no width of 0 when it has several threads
        yield slice(0, groups), x.new_zeros(groups, *x.shape[1:], dtype=dtype)
        return
    part = part.to(dtype)
    step, cuts = groups, [0, len(order)]
    if x.device.type == "cpu":
        step = max(CACHED // rows.shape[1], 1)
        cuts = begin[[*range(0, groups, step), groups]].tolist()
    for block, (first, end) in enumerate(pairwise(cuts)):
        some = slice(block * step, min(block * step + step, groups))
        index = order[first:end]
        weight, source = part[index], rows
        if dtype != x.dtype:
            source, index = rows[index].to(dtype), torch.arange(len(index), device=x.device)
        bags = begin[some.start : some.stop + 1] - first  # the last holds what is in no group
        # reads every row once and copies none
        sums = embedding_bag(index, source, bags, mode="sum", per_sample_weights=weight)
        yield some, sums[:-1].reshape(len(bags) - 1, *x.shape[1:])


def roomy(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty tensor; a large one on the CPU from numpy, which asks the kernel for huge pages.

    Fresh memory costs a fault for every page: filling 80 MB of small pages takes 40 ms, of huge ones 10.
    """
    if device.type != "cpu" or 0 in shape:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).reshape(shape)


def united(
    heir: Tensor, member: Tensor, share: Tensor, groups: int, patches: int
) -> tuple[Tensor, Tensor, Tensor]:
    """member, share, start of merged tokens: by group, then patch; each patch once; shares summing to 1.

    heir: [M] long, the group each membership goes to. A share of 0 is no membership. Shares are divided by
    their sum because tokens without patches took some of the weight.
    """
    real = share > 0
    if not bool(real.all()):
        heir, member, share = heir[real], member[real], share[real]
    key, order = (heir * patches + member).sort()
    share = share[order]
    if len(key) and bool((key.diff() == 0).any()):
        fresh = torch.cat([key.new_ones(1, dtype=torch.bool), key.diff() != 0])
        key, place = key[fresh], fresh.cumsum(0) - 1
        share = torch.zeros(len(key), device=share.device).index_add_(0, place, share)
    heir, member = key.div(max(patches, 1), rounding_mode="floor"), key % max(patches, 1)
    total = torch.zeros(groups, device=share.device).index_add_(0, heir, share)
    return member, share / total[heir], starts(torch.bincount(heir, minlength=groups))
