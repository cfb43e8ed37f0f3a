"""Which tokens stand out by attention, and what each takes in from the others (LLaVA-PruMerge)."""

# K = tiles, M = most tokens of a tile, S = most chosen of a tile, L = entries of the list that neighbours are
# looked for in, R = S + 1 rows of the result, D = key width

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize


def outlier_part(score_GM: Tensor, valid_GM: Tensor) -> Tensor:
    """[G] float64, on the CPU: the part of each row's values above Q3 + 1.5 (Q3 - Q1); below 1/4, always.

    Percentiles as numpy's: linear between the two nearest.
    """
    if not score_GM.shape[1]:
        return torch.zeros(len(score_GM), dtype=torch.float64)
    value_GM, valid_GM = score_GM.cpu().double(), valid_GM.cpu()
    count_G = valid_GM.sum(1)
    ascending_GM = value_GM.masked_fill(~valid_GM, torch.inf).sort(1).values
    low_G, high_G = (_percentile(ascending_GM, count_G, quarter / 4) for quarter in (1, 3))
    limit_G = high_G + 1.5 * (high_G - low_G)
    above_G = ((value_GM > limit_G[:, None]) & valid_GM).sum(1)
    return above_G.double() / count_G.clamp_min(1)


def _percentile(ascending_GM: Tensor, count_G: Tensor, part: float) -> Tensor:
    place_G = (count_G - 1).clamp_min(0).double() * part
    below_G = place_G.long()
    above_G = torch.minimum(below_G + 1, (count_G - 1).clamp_min(0))
    first_G, second_G = (ascending_GM.gather(1, i[:, None])[:, 0] for i in (below_G, above_G))
    return torch.lerp(first_G, second_G, place_G - below_G)


Samples = Literal["none", "thirds", "whole"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The chosen tokens of every tile: places in the tile, in the order of the result.

    place: [K, S] long. valid: [K, S] bool. taken: [K, M] bool, the places that are chosen. lost: [K, M] bool,
    the places that are no longer looked at.
    """

    place: Tensor
    valid: Tensor
    taken: Tensor
    lost: Tensor


def choose(
    score_KM: Tensor, valid_KM: Tensor, part_K: Tensor, *, samples: Samples = "none", duplicates: bool = False
) -> Chosen:
    """The int(n * part) highest scores of each tile's n tokens, highest first, then evenly spaced samples.

    part_K: [K] float64, on the CPU. samples: `none`; `thirds`: every int(int(1 / part) / 3)th token; `whole`:
    every int(1 / part)th, from the middle of the first stretch. The last token is never a sample, as in the
    released code. duplicates: samples that stand out already come a second time, and for each of them the
    first of the tokens left over is lost, as in the released code.
    """
    count_K = valid_KM.sum(1)
    best_K = (count_K.cpu().double() * part_K).long().to(score_KM.device)  # int(n * (m / n)) may be m - 1
    order_KM = score_KM.masked_fill(~valid_KM, -torch.inf).argsort(dim=1, descending=True, stable=True)
    number_M = torch.arange(score_KM.shape[1], device=score_KM.device)
    best_KM = number_M < best_K[:, None]
    picked_KM = torch.zeros_like(valid_KM).scatter_(1, order_KM, best_KM)
    sample_KM = _samples(number_M, count_K, part_K, samples)
    again_K = (sample_KM & picked_KM).sum(1)
    if not duplicates:
        sample_KM = sample_KM & ~picked_KM
    entry_KE = torch.cat([order_KM, number_M.expand_as(order_KM)], 1)
    real_KE = torch.cat([best_KM, sample_KM], 1)
    size_K = real_KE.sum(1)
    most = int(size_K.max()) if len(size_K) else 0
    front_KS = (~real_KE).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    taken_KM = picked_KM | sample_KM
    left_KM = valid_KM & ~taken_KM
    lost_KM = left_KM & (left_KM.cumsum(1) <= again_K[:, None]) & duplicates
    valid_KS = torch.arange(most, device=score_KM.device) < size_K[:, None]
    return Chosen(entry_KE.gather(1, front_KS), valid_KS, taken_KM, lost_KM)


def _samples(number_M: Tensor, count_K: Tensor, part_K: Tensor, samples: Samples) -> Tensor:
    """[K, M] bool: the evenly spaced places; none where the part is 0."""
    if samples == "none":
        return torch.zeros(len(count_K), len(number_M), dtype=torch.bool, device=number_M.device)
    some_K = part_K > 0
    step_K = torch.where(some_K, 1 / part_K, 1).long()
    start_K = step_K // 2 if samples == "whole" else torch.zeros_like(step_K)
    stride_K = step_K if samples == "whole" else step_K // 3
    start_K, stride_K, some_K = (x.to(number_M.device) for x in (start_K, stride_K.clamp_min(1), some_K))
    past_KM = number_M - start_K[:, None]
    on_KM = (past_KM >= 0) & (past_KM % stride_K[:, None] == 0)
    return on_KM & some_K[:, None] & (number_M < count_K[:, None] - 1)


def weights(
    score_KM: Tensor, key_KMD: Tensor, valid_KM: Tensor, chosen: Chosen, neighbours: int
) -> tuple[Tensor, Tensor]:
    """[K, R, M] float32: what each token gives to each row of the result; [K, R] bool: the true rows.

    A chosen token's row: 1 for itself, and the scores of the `neighbours` others with the nearest keys, by
    cosine, ties to the lower entry. The last row of a tile: the scores of all that were not chosen.
    """
    left_KM = valid_KM & ~chosen.taken & ~chosen.lost
    number_KM = torch.arange(score_KM.shape[1], device=score_KM.device).expand_as(valid_KM)
    # chosen entries, then the tokens left over: a token that was chosen twice is two entries
    place_KL = torch.cat([chosen.place, number_KM], 1)
    real_KL = torch.cat([chosen.valid, left_KM], 1)
    longest = int(real_KL.sum(1).max()) if len(real_KL) else 0
    front_KL = (~real_KL).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    place_KL, real_KL = place_KL.gather(1, front_KL), real_KL.gather(1, front_KL)
    unit_KMD = normalize(key_KMD.float(), dim=-1)  # a zero key is near to nothing
    unit_KLD = unit_KMD.gather(1, place_KL[..., None].expand(-1, -1, unit_KMD.shape[2]))
    most = chosen.place.shape[1]
    near_KSL = unit_KLD[:, :most] @ unit_KLD.mT
    near_KSL.masked_fill_(~real_KL[:, None], -torch.inf)
    near_KSL.diagonal(dim1=1, dim2=2).fill_(-torch.inf)  # entry s of the list is chosen token s
    score_KL = score_KM.gather(1, place_KL)
    gives_KSL = highest(near_KSL, neighbours) * score_KL[:, None]
    gives_KSL.diagonal(dim1=1, dim2=2).fill_(1)
    gives_KSM = torch.zeros(*gives_KSL.shape[:2], score_KM.shape[1], device=score_KM.device)
    gives_KSM.scatter_add_(2, place_KL[:, None].expand_as(gives_KSL), gives_KSL)
    every_KRM = torch.cat([gives_KSM, (score_KM * left_KM)[:, None]], 1)
    valid_KR = torch.cat([chosen.valid, valid_KM.any(1, keepdim=True)], 1)
    return every_KRM, valid_KR


def highest(value: Tensor, count: int) -> Tensor:
    """Which are among the `count` highest of their row, ties to the front; -inf never is. [..., L] bool."""
    count = min(count, value.shape[-1])
    if count < 1:
        return torch.zeros_like(value, dtype=torch.bool)
    least = value.topk(count, dim=-1).values[..., -1:]
    above, tied = value > least, (value == least) & (value > -torch.inf)
    room = count - above.sum(-1, keepdim=True)
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))
