"""The fewest scores that hold a part of their sum."""

# K = rows that are chosen from by themselves, M = scores of a row

from __future__ import annotations

import torch
from torch import Tensor


def heaviest(score_KM: Tensor, valid_KM: Tensor, mass: float) -> Tensor:
    """[K, M] bool: of each row the fewest of its valid scores that together are `mass` of their sum.

    Highest first, ties by lower position; negative scores and nan hold nothing. mass 1 takes all that hold
    something.
    """
    held_KM = score_KM.double().nan_to_num(nan=0.0).clamp_min(0).masked_fill(~valid_KM, 0)
    order_KM = held_KM.argsort(dim=1, descending=True, stable=True)
    sorted_KM = held_KM.gather(1, order_KM)
    before_KM = sorted_KM.cumsum(1) - sorted_KM  # what comes before has to fall short
    wanted_K1 = mass * sorted_KM.sum(1, keepdim=True)
    slack_K1 = 1e-12 * wanted_K1  # of sums in another order
    taken_KM = (before_KM < wanted_K1 - slack_K1) & (sorted_KM > 0)
    return torch.zeros_like(valid_KM).scatter_(1, order_KM, taken_KM)
