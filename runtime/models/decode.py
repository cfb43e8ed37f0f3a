"""Decoding: one new row per item and step, over caches whose lengths differ per item and per layer.

B = items, H = key-value heads, C = rows in a layer's cache (padded on the left), d = head width,
V = vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..values import LayerCache, LLMState
from .language import LanguageModel, pad_left
from .masks import decode_mask

BLOCK = 64  # rows by which a cache grows


class Decoder:
    """States that have passed every layer, taking new tokens. Works on copies: states stay as they are."""

    def __init__(self, model: LanguageModel, states: Sequence[LLMState]) -> None:
        assert all(state.layer == model.depth for state in states)
        self.model = model
        last = [state.hidden[-1:].to(model.device, model.dtype) for state in states]
        self.logits = model.logits(torch.stack(last))[:, -1]  # [B, V] of the next token
        self._now = max(state.next_position for state in states)
        self._position = torch.tensor([state.next_position for state in states], device=model.device)
        self._layers = [
            _Growing([state.cache.layers[i] for state in states], model.window(i), model.device, model.dtype)
            for i in range(model.depth)
        ]

    @torch.no_grad()
    def step(self, ids: Sequence[int]) -> Tensor:
        """[B, V] logits after one more token per item; also in `logits`."""
        model, position = self.model, self._position[:, None]
        hidden = model.embed(torch.tensor(ids, device=model.device))[:, None]
        rope = model.rope(hidden, position)
        for index, cache in enumerate(self._layers):
            cache.admit(self._position)
            mask = cache.mask(self._position, self._now)
            hidden = model.layer(index, hidden, mask=mask, position=position, rope=rope, store=cache)
        self._position, self._now = self._position + 1, self._now + 1
        self.logits = model.logits(hidden)[:, -1]
        return self.logits


class _Growing:
    """One layer's keys and values [B, H, C + room, d], with the position and truth of every row."""

    def __init__(
        self, items: Sequence[LayerCache], window: int | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.window, self.used = window, max(len(item.row) for item in items)
        most = self.used

        def side_by_side(tensors: Sequence[Tensor]) -> Tensor:  # [H, C, d] each
            rows = [pad_left(x.to(device, dtype).transpose(0, 1), most).transpose(0, 1) for x in tensors]
            return torch.stack(rows)

        self.keys = side_by_side([item.keys for item in items])
        self.values = side_by_side([item.values for item in items])
        self.position = torch.stack([pad_left(item.position.to(device), most) for item in items])
        lengths = torch.tensor([len(item.row) for item in items], device=device)
        self.valid = torch.arange(most, device=device) >= most - lengths[:, None]
        self._padded = len({len(item.row) for item in items}) > 1
        self._tracked = self._padded or window is not None  # else no mask is ever made
        self._oldest = min((int(i.position.min()) for i in items if len(i.row)), default=0) if window else 0

    def admit(self, position_B: Tensor) -> None:
        """Make room for one more row at these positions."""
        if self.used == self.keys.shape[2]:
            self.keys, self.values = (_longer(x, 2) for x in (self.keys, self.values))
            self.position, self.valid = _longer(self.position, 1), _longer(self.valid, 1)
        if self._tracked:
            self.position[:, self.used] = position_B
            self.valid[:, self.used] = True
        self.used += 1

    def mask(self, now_B: Tensor, latest: int) -> Tensor | None:
        """What the new row sees; None when that is everything. latest: the largest of its positions."""
        near = self.window is None or latest - self._oldest < self.window
        if near and not self._padded:
            return None
        valid, position = self.valid[:, : self.used], self.position[:, : self.used]
        return decode_mask(valid, position, now_B, None if near else self.window)

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by the layer: put the new row [B, H, 1, d] behind the others, and return them all."""
        self.keys[:, :, self.used - 1 : self.used] = keys
        self.values[:, :, self.used - 1 : self.used] = values
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]


def _longer(x: Tensor, axis: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = BLOCK
    return torch.cat([x, x.new_zeros(shape)], axis)
