"""Which keys of a layer's cache stay, and how those that go live on in them (LOOK-M; H2O chooses alike).

H = key-value heads, C = keys of the layer, R = keys that stay, P = keys that go, d = head width
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

Mode = Literal["h2o", "pivot", "weighted", "avg"]
Pairing = Literal["own", "released"]
SINKS = 4  # first keys that the released merge modes keep when text has no priority
BLOCK = 512  # keys that go, compared with all that stay at once


def first_in_two_classes(score_HC: Tensor, first_C: Tensor) -> Tensor:
    """[H, C] long: the keys of `first_C` by falling score, then all others by falling score.

    Exact in every number format: the released code ranks two classes by adding -65516 to the scores of one,
    which in half precision makes them all equal. Ties go to the lower position; nan counts as lowest.
    """
    order_HC = score_HC.nan_to_num(nan=float("-inf")).argsort(dim=1, descending=True, stable=True)
    later_HC = (~first_C)[order_HC].to(torch.uint8)
    return order_HC.gather(1, later_HC.argsort(dim=1, stable=True))


@dataclass(frozen=True)
class Budget:
    """How many keys of one layer stay: the first `heavy` in two classes and after them the last `recent`.

    first: [C] bool, the class that goes first.
    """

    first: Tensor
    heavy: int
    recent: int

    @property
    def keys(self) -> int:
        """R, where C is not smaller."""
        return self.heavy + self.recent


def budget(text_C: Tensor, hh_ratio: float, recent_ratio: float, *, text_prior: bool, sinks: int) -> Budget:
    """What the ratios allow of C keys, text_C [C] bool of which are text.

    With the text prior all text goes first, and stays even where it is more than hh_ratio allows; without it
    the first `sinks` keys go first.
    """
    keys = len(text_C)
    heavy, recent = int(keys * hh_ratio), int(keys * recent_ratio)
    if not text_prior:
        return Budget(torch.arange(keys, device=text_C.device) < sinks, heavy, recent)
    if keys > heavy + recent:
        heavy = max(heavy, int(text_C[: keys - recent].sum()))
    return Budget(text_C, heavy, recent)


def kept_keys(score_HC: Tensor, allowed: Budget) -> Tensor:
    """[H, R] long, ascending: the keys that stay, by each head's scores."""
    early = score_HC.shape[1] - allowed.recent
    heavy_HK = first_in_two_classes(score_HC[:, :early], allowed.first[:early])[:, : allowed.heavy]
    recent_K = torch.arange(early, early + allowed.recent, device=score_HC.device)
    return torch.cat([heavy_HK, recent_K.expand(len(score_HC), -1)], 1).sort(1).values


def others(kept_HR: Tensor, keys: int) -> Tensor:
    """[H, P] long, ascending: which of 0..keys-1 are not kept."""
    gone_HC = torch.ones(len(kept_HR), keys, dtype=torch.uint8, device=kept_HR.device)
    gone_HC.scatter_(1, kept_HR, 0)
    return gone_HC.argsort(dim=1, descending=True, stable=True)[:, : keys - kept_HR.shape[1]]


@dataclass(frozen=True)
class Nearest:
    """For every key that goes: target [H, P] long, the most similar kept one (0..R-1), and their cosine."""

    target: Tensor
    similarity: Tensor


def nearest(keys_HCd: Tensor, kept_HR: Tensor, gone_HP: Tensor) -> Nearest:
    """Which kept key each of the others is most similar to, per head, by cosine in float32.

    Compared a block at a time: no [H, P, R] map lies in memory.
    """
    unit_HCd = normalize(keys_HCd.float(), dim=-1)
    stay_HRd, go_HPd = rows(unit_HCd, kept_HR), rows(unit_HCd, gone_HP)
    best = [(block @ stay_HRd.mT).max(-1) for block in torch.split(go_HPd, BLOCK, 1)]
    return Nearest(torch.cat([b.indices for b in best], 1), torch.cat([b.values for b in best], 1))


@dataclass(frozen=True)
class Shares:
    """How kept rows take others in: each becomes the mean of itself and of one term per row that joins it.

    target: [H, P] long, which kept row (0..R-1) row p joins. weight: [H, P], its factor in that term.
    joins: [H, P] float32, 1: it joins, 0: it is lost. own: the kept row's factor in each of those terms.
    """

    target: Tensor
    weight: Tensor
    joins: Tensor
    own: float = 0.0


def shares(near: Nearest, mode: Literal["pivot", "weighted", "avg"], pairing: Pairing = "own") -> Shares:
    """The terms of each mode, from the keys' similarities; values are merged by the same ones.

    pivot: (row + kept) / 2. weighted: similarity * row, for those that pass. avg: row. A place in the list of
    keys that go passes when its similarity, averaged over heads, is at least the mean of all of them.
    """
    one_HP = torch.ones_like(near.similarity)
    if mode == "pivot":
        return Shares(near.target, one_HP / 2, one_HP, own=0.5)
    if mode == "avg" and pairing == "own":
        return Shares(near.target, one_HP, one_HP)
    pass_P = near.similarity.mean(0) >= near.similarity.mean()
    if mode == "weighted":
        joins_HP = pass_P.expand_as(one_HP).float()
        return Shares(near.target, near.similarity * joins_HP, joins_HP)
    # the released avg pairs the targets of those that pass with the first so many of all that go
    order_P = (~pass_P).to(torch.uint8).argsort(stable=True)
    joins_HP = pass_P[order_P].expand_as(one_HP).float()
    return Shares(near.target[:, order_P], joins_HP, joins_HP)


def merged(x_HCd: Tensor, kept_HR: Tensor, gone_HP: Tensor, share: Shares) -> Tensor:
    """[H, R, d]: kept rows with the others in them; summed in float32, returned in the format of `x`."""
    stay_HRd, go_HPd = rows(x_HCd, kept_HR).float(), rows(x_HCd, gone_HP).float()
    sum_HRd = _sums(go_HPd, share.target, share.weight, kept_HR.shape[1])
    count_HR1 = _sums(share.joins[..., None], share.target, torch.ones_like(share.joins), kept_HR.shape[1])
    return ((stay_HRd * (1 + share.own * count_HR1) + sum_HRd) / (1 + count_HR1)).to(x_HCd.dtype)


def _sums(x_HPd: Tensor, target_HP: Tensor, weight_HP: Tensor, targets: int) -> Tensor:
    """[H, targets, d]: weighted sums of the rows of each target, always in the same order, on CUDA too."""
    heads, _, width = x_HPd.shape
    group_N = (target_HP + targets * torch.arange(heads, device=x_HPd.device)[:, None]).flatten()
    sorted_N, order_N = group_N.sort(stable=True)
    first_G = torch.searchsorted(sorted_N, torch.arange(heads * targets, device=x_HPd.device))
    weight_N = weight_HP.flatten()[order_N]
    rows_ND = x_HPd.reshape(-1, width)
    return embedding_bag(order_N, rows_ND, first_G, mode="sum", per_sample_weights=weight_N).view(
        heads, targets, width
    )


def rows(x_HCd: Tensor, index_HK: Tensor) -> Tensor:
    """[H, K, d]: of each head its own rows."""
    return x_HCd.gather(1, index_HK[..., None].expand(-1, -1, x_HCd.shape[2]))
