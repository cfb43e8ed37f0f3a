"""Decoding: one new row per item and step, over caches whose lengths differ per item and per layer.

B = items, H = query heads, G = key-value heads, C = rows in a layer's cache (padded on the left),
V = vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import context, cost
from ..values import LLMState
from .growing import BLOCK as BLOCK
from .growing import Growing
from .hidden_rows import Shown
from .language import LanguageModel


class Decoder:
    """States that have passed every layer, taking new tokens. Works on copies: states stay as they are.

    logits: [B, V] of the next token. visible, score: of states with hidden rows, which rows of its prompt the
    newest row of an item saw, and the attention they were chosen by ([rows of the prompt] each; before the
    first step what the prefill hid, and 0); None for other states.
    """

    def __init__(self, model: LanguageModel, states: Sequence[LLMState]) -> None:
        assert all(state.layer == model.depth for state in states)
        self.model = model
        last = [state.hidden[-1:].to(model.device, model.dtype) for state in states]
        self.logits = model.logits(torch.stack(last))[:, -1]
        self._lengths = [len(state.input) for state in states]
        self._first = _first(states)  # per layer, the items' positions of the first token
        self._position = {at: torch.tensor(at, device=model.device) for at in set(self._first)}
        self._steps = 0
        self._shown = Shown(states, model.device) if any(s.hiding for s in states) else None
        self._cached = [length for state in states for length in state.cache.lengths]
        self._layers = [
            Growing(
                [state.cache.layers[i] for state in states],
                model.window(i),
                model.device,
                model.dtype,
                shown=self._shown is not None,
            )
            for i in range(model.depth)
        ]

    @property
    def visible(self) -> list[Tensor | None]:
        """Per item [rows of its prompt] bool, or None."""
        return self._of_items(None if self._shown is None else self._shown.visible)

    @property
    def score(self) -> list[Tensor | None]:
        """Per item [rows of its prompt] float32, or None."""
        return self._of_items(None if self._shown is None else self._shown.score)

    def _of_items(self, x: Tensor | None) -> list[Tensor | None]:
        layers = [None] * len(self._lengths) if self._shown is None else self._shown.layers
        return [
            None if x is None or first is None else x[i, :length]
            for i, (first, length) in enumerate(zip(layers, self._lengths, strict=True))
        ]

    @torch.no_grad()
    def step(self, ids: Sequence[int]) -> Tensor:
        """[B, V] logits after one more token per item; also in `logits`."""
        model = self.model
        hidden = model.embed(torch.tensor(ids, device=model.device))[:, None]
        ropes = {at: model.rope(hidden, position[:, None]) for at, position in self._position.items()}
        for index, (at, cache) in enumerate(zip(self._first, self._layers, strict=True)):
            cache.admit(self._position[at])
            latest = max(at) + self._steps
            hidden = self._layer(index, cache, hidden, self._position[at], latest, ropes[at])
        self._position = {at: position + 1 for at, position in self._position.items()}
        self._steps += 1
        context.count(cost.layers_decode(model.facts, [n + self._steps for n in self._cached]))
        self.logits = model.logits(hidden)[:, -1]
        return self.logits

    def _layer(
        self, index: int, cache: Growing, hidden: Tensor, position: Tensor, latest: int, rope: Any
    ) -> Tensor:
        model, shown = self.model, self._shown
        seen_BGC = shown.of(index, cache.rows()) if shown and shown.hides(index) else None
        mask_BGC = cache.mask(position, latest, seen_BGC)
        mask_BH1C = None
        if mask_BGC is not None:
            share = 1 if mask_BGC.shape[1] == 1 else model.facts.heads // mask_BGC.shape[1]
            mask_BH1C = mask_BGC.repeat_interleave(share, 1)[:, :, None]
        out = model.layer(index, hidden, mask=mask_BH1C, position=position[:, None], rope=rope, store=cache)
        if shown and shown.chooses(index):
            query_BHd = model.rotate(model.project(index, "q_proj", hidden), rope)[:, :, 0]
            context.count(cost.attention_rows(model.facts, len(hidden), cache.used))
            weight_BHC = _weights(query_BHd, cache, model.attention(index).scaling, mask_BH1C)
            shown.choose(index, weight_BHC, cache.rows(), cache.valid[:, : cache.used])
        return out


def _weights(query_BHd: Tensor, cache: Growing, scale: float, mask_BH1C: Tensor | None) -> Tensor:
    """[B, H, C] float32: how much the newest row attends to every key."""
    key_BGCd = cache.keys[:, :, : cache.used].float()
    items, groups = key_BGCd.shape[:2]
    query_BGhd = query_BHd.float().view(items, groups, -1, query_BHd.shape[-1])
    score_BHC = (query_BGhd @ key_BGCd.mT * scale).flatten(1, 2)
    if mask_BH1C is not None:
        score_BHC = score_BHC.masked_fill(~mask_BH1C[:, :, 0], -torch.inf)
    return score_BHC.softmax(-1)


def _first(states: Sequence[LLMState]) -> list[tuple[int, ...]]:
    """Per layer, every item's position of the first token: behind its keys, if a repack left them ahead."""
    latest_BL = [
        torch.stack([c.position.max() if c.length else c.position.new_tensor(-1) for c in s.cache.layers])
        for s in states
    ]
    last_LB = torch.stack([one.to(latest_BL[0].device) for one in latest_BL], 1).tolist()
    return [tuple(max(s.next_position, n + 1) for s, n in zip(states, of, strict=True)) for of in last_LB]
