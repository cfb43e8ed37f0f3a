"""Rotary embedding with dynamic NTK scaling, without memory of earlier calls.

transformers keeps the largest base that it has met until a sequence is short again, so that one request
changes the next; here the base follows from the length of the call alone.
"""

# B = items, S = rows, d = width of a head

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DynamicRope:
    """The base `theta` grows for sequences longer than `longest` positions, towards `factor` times as many.

    base = theta * (factor * length / longest - (factor - 1)) ** (d / (d - 2))
    """

    theta: float
    factor: float
    longest: int
    width: int

    @classmethod
    def of(cls, config: Any) -> DynamicRope | None:
        """That of a transformers configuration; None when its rotary embedding is of another kind."""
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") != "dynamic":
            return None
        return cls(
            theta=float(rope["rope_theta"]),
            factor=float(rope["factor"]),
            longest=int(config.max_position_embeddings),
            width=int(config.head_dim or config.hidden_size // config.num_attention_heads),
        )

    def frequencies(self, length: Tensor) -> Tensor:
        """[B, d / 2] float32: the turn per position in sequences of these lengths [B]."""
        over = (self.factor * length.float() / self.longest - (self.factor - 1)).clamp_min(1.0)
        base = self.theta * over ** (self.width / (self.width - 2))
        power = torch.arange(0, self.width, 2, dtype=torch.float32, device=length.device) / self.width
        return 1.0 / base[:, None] ** power

    def __call__(self, position: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, S, d] at positions [B, S]; an item's length is its last position and 1.

        The cached keys of earlier calls keep the turn that they were given, as in the released code.
        """
        longest = position.amax(1) if position.shape[1] else position.new_zeros(len(position))
        speed = self.frequencies(longest + 1)
        angle = position[..., None].float() * speed[:, None]
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(dtype), angle.sin().to(dtype)
