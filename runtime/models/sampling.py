"""Which token comes next: the likeliest, or drawn from the tempered and cut-off distribution."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """temperature 0: greedy. top_k, top_p: cut-offs after the temperature, in this order; None: no cut."""

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A fresh random source: on the CPU, so that every device draws alike. One for each item."""
        return torch.Generator("cpu").manual_seed(self.seed)

    def pick(self, logits: Tensor, generator: torch.Generator, forbidden: Collection[int] = ()) -> int:
        """The next token id from logits [V]; ties go to the lower id."""
        score = logits.float()
        if forbidden:
            score = score.index_fill(0, torch.tensor(sorted(forbidden), device=score.device), -torch.inf)
        if self.temperature <= 0:
            return int(score.argmax())
        chance = self._cut(score.cpu() / self.temperature).softmax(-1)
        return int(torch.multinomial(chance, 1, generator=generator))

    def _cut(self, score: Tensor) -> Tensor:
        if self.top_k is not None and self.top_k < len(score):
            score = score.masked_fill(score < score.topk(self.top_k).values[-1], -torch.inf)
        if self.top_p is not None and self.top_p < 1:
            order = score.argsort(descending=True, stable=True)
            before = score[order].softmax(-1).cumsum(-1).roll(1)
            before[0] = -1  # the likeliest token always stays
            score = score.index_fill(0, order[before >= self.top_p], -torch.inf)
        return score
