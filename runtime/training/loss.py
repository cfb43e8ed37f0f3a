"""The loss of next tokens.

B = samples, S = rows, D = width, V = vocabulary
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from .labels import IGNORE


def last_hidden(module: Any, embeds: Tensor, mask: Tensor) -> Tensor:
    """[B, S, D] after the last norm of a native language model, with gradients. embeds: [B, S, D] padded on
    the right, mask: [B, S] bool."""
    hidden: Tensor = module.model(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False
    ).last_hidden_state
    return hidden


def next_token_loss(
    hidden: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor], *, items: int | Tensor | None = None
) -> Tensor:
    """Cross entropy in float32 of every token that has a label, given the rows before it: their mean.

    Scores are made only for rows that count. A batch in which no token counts costs 0
    (the released code: nan).

    hidden: [B, S, D]. labels: [B, S] long, -100 for tokens that do not count. head: [n, D] to [n, V]. items:
    divide by this many instead, to accumulate over batches as if they were one.
    """
    wanted = labels[:, 1:]
    counts = wanted != IGNORE
    scores = head(hidden[:, :-1][counts]).float()
    total = cross_entropy(scores, wanted[counts], reduction="sum")
    return total / (counts.sum().clamp_min(1) if items is None else items)
