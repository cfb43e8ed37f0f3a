"""Qwen2.5-VL's tower: pictures of any size, attention within windows in most blocks, rotary positions."""

# K = pictures (or pairs of frames), T = pictures of a patch, P = patches of one of the K, D = width,
# h = heads, d = D / h, c = queries of a chunk, n = patches of a window

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import context, cost
from ..needs import Need
from .handle import TowerFacts
from .tower import CHUNK, TowerOutput, VisionTower, layer_number, tile_grid

THETA = 10000.0


class QwenTower(VisionTower):
    """A native Qwen2_5_VisionTransformerPretrainedModel without its merger, in eval mode, on its device."""

    def __init__(self, module: nn.Module, facts: TowerFacts) -> None:
        super().__init__(module, facts)
        self._full = frozenset(self._core.config.fullatt_block_indexes)
        self._window = self._core.config.window_size // facts.merge // facts.patch  # in groups

    @torch.no_grad()
    def encode(
        self,
        pixels: Tensor,
        *,
        layer: int,
        wanted: Collection[Need] = (),
        cls_token: bool = False,
        interpolate: bool = False,
    ) -> TowerOutput:
        """Hidden states of `layer` (-1: what the merger takes) and the wanted channels, patches row by row.

        pixels: [K, 3, h, w] normalised, or [K, 3, T, h, w]. Channels as VisionTower's, but `keys` are those
        after rotary embedding; a patch receives attention from its own picture, or, in a block with windows,
        its own window. There is no [CLS], and nothing to interpolate.
        """
        feature = layer_number("encode_vision.layer", self.facts, layer)
        at = {need: self._layer_of(need, feature) for need in wanted}
        layout = _Layout.of(*tile_grid(self.facts, pixels), self.facts, self._window, self.device)
        found: dict[str, Tensor] = {}
        hidden = self._embed(pixels, interpolate)[:, layout.order]
        features = hidden
        last = max([feature, *at.values()])
        context.count(self._flops(len(hidden), layout, last))
        for i in range(last + 1):
            if i:
                needs = [n for n in at if at[n] == i and n.channel != "hidden"]
                hidden = self._block(i - 1, hidden, layout, needs, found)
            features = hidden if i == feature else features
            found |= {n.key: hidden for n in at if n.channel == "hidden" and at[n] == i}
        back = layout.order.argsort()
        square = {n.key for n in at if n.channel == "attention"}
        side = {key: x[:, back][:, :, back] if key in square else x[:, back] for key, x in found.items()}
        return TowerOutput(features[:, back], side)

    def _flops(self, many: int, layout: _Layout, layers: int) -> int:
        """Of the patch embedding and the first `layers` blocks; attention stays within windows."""
        patches = sum(layout.windows)
        pairs = [patches**2 if i in self._full else sum(n**2 for n in layout.windows) for i in range(layers)]
        run = sum(cost.tower_layer(self.facts, patches, seen, gated=True) for seen in pairs)
        return many * (run + cost.patch_embedding(self.facts, patches))

    def _embed(self, pixels: Tensor, interpolate: bool) -> Tensor:
        """[K, P, D], patches row by row."""
        if pixels.ndim == 4:
            pixels = pixels[:, :, None].expand(-1, -1, self.facts.temporal, -1, -1)
        side, weight = self.facts.patch, self._core.patch_embed.proj.weight
        many, colours, times, height, width = pixels.shape
        cut = pixels.to(self.device, weight.dtype)
        cut = cut.reshape(many, colours, times, height // side, side, width // side, side)
        patches = cut.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(0, 2)  # [K * P, 3 * T * patch * patch]
        hidden: Tensor = self._core.patch_embed(patches)
        return hidden.reshape(many, -1, hidden.shape[-1])

    def _block(
        self, number: int, hidden: Tensor, layout: _Layout, needs: list[Need], found: dict[str, Tensor]
    ) -> Tensor:
        """The output of block `number`; its wanted attention goes into `found`."""
        block = self._core.blocks[number]
        spans = (hidden.shape[1],) if number in self._full else layout.windows
        if needs:
            qkv: Tensor = block.attn.qkv(block.norm1(hidden))
            query, key, _ = qkv.reshape(*hidden.shape[:2], 3, self.facts.heads, -1).unbind(2)
            query_KPhd, key_KPhd = (_turned(x, layout.cos, layout.sin) for x in (query, key))
            for need in needs:
                both = (query_KPhd, key_KPhd)
                query, key = both if need.form is None else (x.flatten(2)[:, :, None] for x in both)
                found[need.key] = _channel(need.channel, query, key, spans)
        many = len(hidden)
        ends = torch.tensor([0, *spans * many], dtype=torch.int32).cumsum(0, dtype=torch.int32)  # on the CPU
        rope = layout.cos.repeat(many, 1), layout.sin.repeat(many, 1)
        out: Tensor = block(hidden.flatten(0, 1), cu_seqlens=ends, position_embeddings=rope)
        return out.reshape(hidden.shape)


@dataclass(frozen=True)
class _Layout:
    """Patches in the order they run in: by window, then by group, both row by row.

    order: [P] long, row-by-row numbers. windows: patches in each window. cos, sin: [P, d], in that order.
    """

    order: Tensor
    windows: tuple[int, ...]
    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, rows: int, cols: int, facts: TowerFacts, window: int, device: torch.device) -> _Layout:
        place_P2 = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).reshape(-1, 2)
        group_P2 = place_P2 // facts.merge
        across = cols + window * facts.merge  # no column number reaches it
        window_P, cell_P, patch_P = (
            x[:, 0] * across + x[:, 1] for x in (group_P2 // window, group_P2, place_P2)
        )
        order = patch_P.argsort()
        for key in (cell_P, window_P):
            order = order[key[order].argsort(stable=True)]
        windows = torch.unique_consecutive(window_P[order], return_counts=True)[1]
        width = facts.hidden // facts.heads // 2
        speed = 1.0 / THETA ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        angle = (place_P2[order, :, None].float() * speed).flatten(1)
        angle = torch.cat([angle, angle], 1)
        return cls(order.to(device), tuple(windows.tolist()), angle.cos().to(device), angle.sin().to(device))


def _turned(x_KPhd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys with their rotary positions, rounded as the tower rounds them."""
    wide = x_KPhd.float()
    first, second = wide.chunk(2, -1)
    turned = wide * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]
    return turned.to(x_KPhd.dtype)


def _channel(name: str, query_KPhd: Tensor, key_KPhd: Tensor, spans: tuple[int, ...]) -> Tensor:
    if name == "keys":
        return key_KPhd.mean(2, dtype=torch.float32)
    tiles, patches, heads, width = key_KPhd.shape
    received = name == "received_attention"
    out = torch.zeros((tiles, patches) if received else (tiles, patches, patches), device=key_KPhd.device)
    ends = torch.tensor([0, *spans]).cumsum(0).tolist()
    for start, stop in pairwise(ends):
        key_Khdn = key_KPhd[:, start:stop].float().permute(0, 2, 3, 1)
        chunk = max(1, CHUNK // (tiles * heads * (stop - start)))
        for first in range(start, stop, chunk):
            last = min(first + chunk, stop)
            query_Khcd = query_KPhd[:, first:last].float().transpose(1, 2)
            row_Kcn = (query_Khcd * width**-0.5 @ key_Khdn).softmax(-1).mean(1)
            if received:
                out[:, start:stop] += row_Kcn.sum(1)
            else:
                out[:, first:last, start:stop] = row_Kcn
    return out
