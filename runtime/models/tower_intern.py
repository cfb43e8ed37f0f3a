"""InternVL's tower, InternViT: a plain ViT with layer scales and no final norm, run in halves of a layer."""

# K = tiles, N = tokens of a tile ([CLS] included), D = width, h = heads, d = D / h

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..needs import Need
from .tower import VisionTower, channel


class InternTower(VisionTower):
    """A native InternVLVisionModel in eval mode, on its device.

    A layer is `attend`, then `feed`: PVC's temporal attention goes between them. Layers of these methods are
    counted from 0; layer i gives hidden state i + 1.
    """

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self._core.encoder.layer)

    def block(self, number: int) -> Any:
        """The modules of a layer: layernorm_before, attention, lambda_1, layernorm_after, mlp, lambda_2."""
        return self._core.encoder.layer[number]

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """[K, N, D]: [CLS] and the patches row by row, with positions fitted to the tiles' size.

        pixels: [K, 3, h, w] normalised, of any size.
        """
        embeddings: Any = self._core.embeddings
        weight = embeddings.patch_embeddings.projection.weight
        patches = embeddings.patch_embeddings.projection(pixels.to(self.device, weight.dtype))
        cls_token = embeddings.cls_token.expand(len(patches), -1, -1)
        position = fitted(embeddings.position_embeddings, patches.shape[2], patches.shape[3])
        return torch.cat([cls_token, patches.flatten(2).mT], 1) + position

    @torch.no_grad()
    def attend(self, number: int, hidden: Tensor, normed: Tensor | None = None) -> Tensor:
        """[K, N, D] after the layer's attention; `normed`: what it reads instead of the normed hidden."""
        block = self.block(number)
        attended = block.attention(block.layernorm_before(hidden) if normed is None else normed)[0]
        out: Tensor = block.lambda_1 * attended + hidden
        return out

    @torch.no_grad()
    def feed(self, number: int, hidden: Tensor, normed: Tensor | None = None) -> Tensor:
        """[K, N, D] after the layer's MLP; `normed`: what it reads instead of the normed hidden."""
        block = self.block(number)
        fed = block.mlp(block.layernorm_after(hidden) if normed is None else normed)
        out: Tensor = block.lambda_2 * fed + hidden
        return out

    def _embed(self, pixels: Tensor, interpolate: bool) -> Tensor:
        return self.embed(pixels)

    def _step(self, number: int, hidden: Tensor, needs: list[Need], found: dict[str, Tensor]) -> Tensor:
        """The output of a layer; its wanted attention goes into `found`."""
        normed = self.block(number).layernorm_before(hidden)
        found |= self.observe(number, normed, needs)
        return self.feed(number, self.attend(number, hidden, normed))

    @torch.no_grad()
    def observe(self, number: int, normed: Tensor, needs: Collection[Need]) -> dict[str, Tensor]:
        """The wanted channels of a layer's attention, which reads `normed` [K, N, D], by `Need.key`."""
        if not needs:
            return {}
        attention = self.block(number).attention
        queries = _Queries(nn.Sequential(attention.q_proj, attention.q_norm))
        key_KNhd = attention.k_norm(attention.k_proj(normed)).unflatten(-1, (self.facts.heads, -1))
        found: dict[str, Tensor] = {}
        for need in needs:
            key = key_KNhd if need.form is None else key_KNhd.flatten(2)[:, :, None]
            found[need.key] = channel(need.channel, queries, normed, key)
        return found


@dataclass(frozen=True)
class _Queries:
    """Queries as the attention makes them: the 6B tower norms them over all heads together."""

    q_proj: nn.Module


def fitted(position_1ND: Tensor, rows: int, cols: int) -> Tensor:
    """[1, 1 + rows * cols, D]: position embeddings of a square grid and [CLS], resized to another grid.

    Bicubic and in float32, as released; transformers would resize in the weights' own dtype.
    """
    side = round((position_1ND.shape[1] - 1) ** 0.5)
    if (rows, cols) == (side, side):
        return position_1ND
    cls, grid = position_1ND[:, :1], position_1ND[:, 1:].float().reshape(1, side, side, -1)
    resized = nn.functional.interpolate(
        grid.permute(0, 3, 1, 2), size=(rows, cols), mode="bicubic", align_corners=False
    )
    return torch.cat([cls, resized.flatten(2).mT.to(cls.dtype)], 1)
