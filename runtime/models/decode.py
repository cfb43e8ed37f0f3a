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
        self._ahead = _ahead(states)
        self._start = [state.next_position for state in states]
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
        places: dict[tuple[int, ...], tuple[Tensor, Any]] = {}
        for index, cache in enumerate(self._layers):
            now = tuple(
                start + ahead + self._steps
                for start, ahead in zip(self._start, self._ahead[index], strict=True)
            )
            if now not in places:
                position = torch.tensor(now, device=model.device)
                places[now] = position, model.rope(hidden, position[:, None])
            position, rope = places[now]
            cache.admit(position)
            hidden = self._layer(index, cache, hidden, position, max(now), rope)
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


def _ahead(states: Sequence[LLMState]) -> list[list[int]]:
    """Per layer and item, how far its positions are beyond the state's: layers before a `repacked` are."""
    latest = [
        [c.position.max() if c.length else c.position.new_tensor(-1) for c in state.cache.layers]
        for state in states
    ]
    if not latest[0]:
        return []
    last_BL = [torch.stack(one).tolist() for one in latest]
    return [
        [max(0, last + 1 - state.next_position) for last, state in zip(of_layer, states, strict=True)]
        for of_layer in zip(*last_BL, strict=True)
    ]
