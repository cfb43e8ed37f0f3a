"""Arithmetic on memberships: rows in compressed form, `member[start[i]:start[i + 1]]` belongs to row i.

N = rows, M = memberships, G = groups
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


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
    """Sum of `part * x` per group, summed in at least float32."""
    return summed(x, assign, part, groups).to(x.dtype)


def summed(x: Tensor, assign: Tensor, part: Tensor, groups: int) -> Tensor:
    """Sum of `part * x` per group as at least float32; without waiting for the device.

    assign: [N] long, 0 and up; rows of groups beyond the last are left out.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide.flatten(1) if x.ndim > 1 else wide[:, None]
    order = assign.argsort(stable=True)
    begin = torch.searchsorted(assign[order], torch.arange(groups + 1, device=x.device))
    # reads every row once and copies none; the last of the bags holds the rows that are left out
    bags = embedding_bag(order, wide, begin, mode="sum", per_sample_weights=part.to(wide.dtype)[order])
    return bags[:groups].reshape(groups, *x.shape[1:])


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
