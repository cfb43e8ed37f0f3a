"""One layer's keys and values during decoding: room for new rows, and what the newest of them sees.

B = items, G = key-value heads, C = rows held so far (padded on the left), d = head width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..values import LayerCache
from .masks import decode_mask

BLOCK = 64  # rows by which a cache grows


class Growing:
    """Keys and values [B, G, C + room, d]; position and row of each, [B, 1, C + room] or per head [B, G, ..].

    Copies on purpose: the caches of states are never written. row is -1 for generated rows. shown: masks
    by row will be asked for.
    """

    def __init__(
        self,
        items: Sequence[LayerCache],
        window: int | None,
        device: torch.device,
        dtype: torch.dtype,
        *,
        shown: bool = False,
    ) -> None:
        self.window, self.used = window, max(item.length for item in items)
        groups = items[0].keys.shape[0] if any(item.per_head for item in items) else 1
        self.keys = self._beside([item.keys for item in items], device, dtype)
        self.values = self._beside([item.values for item in items], device, dtype)
        self.position = self._facts([item.position for item in items], groups, device)
        self.row = self._facts([item.row for item in items], groups, device)
        lengths = torch.tensor([item.length for item in items], device=device)
        self.valid = torch.arange(self.used, device=device) >= self.used - lengths[:, None]  # [B, C]
        self._padded = len({item.length for item in items}) > 1
        self._tracked = self._padded or shown or window is not None  # else no mask is ever made
        self._oldest = min((int(i.position.min()) for i in items if i.length), default=0) if window else 0

    def _beside(self, tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
        """[B, G, C, d] of [G, n, d] each, zeros in front."""
        return torch.stack([_ahead(x.to(device, dtype).mT, self.used).mT for x in tensors])

    def _facts(self, tensors: Sequence[Tensor], groups: int, device: torch.device) -> Tensor:
        """[B, 1 or G, C] of [n] or [G, n] each, zeros in front."""
        facts = [x.to(device).expand(groups, x.shape[-1]) for x in tensors]
        return torch.stack([_ahead(x, self.used) for x in facts])

    def admit(self, position_B: Tensor) -> None:
        """Make room for one more row at these positions."""
        if self.used == self.keys.shape[2]:
            self.keys, self.values = (_longer(x, 2) for x in (self.keys, self.values))
            self.position, self.row = (_longer(x, 2) for x in (self.position, self.row))
            self.valid = _longer(self.valid, 1)
        if self._tracked:
            self.position[:, :, self.used] = position_B[:, None]
            self.row[:, :, self.used] = -1
            self.valid[:, self.used] = True
        self.used += 1

    def rows(self) -> Tensor:
        """[B, 1 or G, C] long: the original row of every key."""
        return self.row[:, :, : self.used]

    def mask(self, now_B: Tensor, latest: int, shown_BGC: Tensor | None = None) -> Tensor | None:
        """What the new row at `now_B` sees, [B, 1 or G, C] bool; None when that is everything.

        latest: the greatest of now_B. shown: keys that are seen at all.
        """
        near = self.window is None or latest - self._oldest < self.window
        if near and not self._padded and shown_BGC is None:
            return None
        valid, position = self.valid[:, : self.used], self.position[:, :, : self.used]
        seen_BGC = decode_mask(valid, position, now_B, None if near else self.window)
        return seen_BGC if shown_BGC is None else seen_BGC & shown_BGC

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by the layer: put the new row [B, G, 1, d] behind the others, and return them all."""
        self.keys[:, :, self.used - 1 : self.used] = keys
        self.values[:, :, self.used - 1 : self.used] = values
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]


def _ahead(x: Tensor, length: int) -> Tensor:
    """`x` [..., n] with zeros in front, to [..., length]."""
    return torch.cat([x.new_zeros(*x.shape[:-1], length - x.shape[-1]), x], -1)


def _longer(x: Tensor, axis: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = BLOCK
    return torch.cat([x, x.new_zeros(shape)], axis)
