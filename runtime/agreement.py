"""How far the first word of an answer is from what the uncompressed model would say."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import GraphError


def divergence(base: Tensor, other: Tensor) -> float:
    """KL(base || other) in nats of the next token's distributions, from their scores [V]; 0: the same.

    Computed in float64. Errors: GraphError for vocabularies of different sizes, and scores that are not
    numbers.
    """
    if base.shape != other.shape:
        raise GraphError(
            f"KL: the base scores {base.shape[-1]} tokens, the other {other.shape[-1]}; wanted one vocabulary"
        )
    p, q = (t.detach().to("cpu", torch.float64).log_softmax(-1) for t in (base, other))
    terms = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q))
    found = float(terms.sum())
    if found != found:
        raise GraphError("KL: the scores of the first token are not numbers (nan)")
    return max(found, 0.0)  # rounding may give -1e-17
