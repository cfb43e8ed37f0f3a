"""A CLIP or SigLIP tower run layer by layer: SDPA everywhere, and only the attention that someone asked for.

Layers are numbered as `hidden_states`: 0 the embeddings, i the output of the i-th encoder layer, negative
ones from the end. A side channel of layer i belongs to the attention inside the encoder layer that gives i.
"""

# K = tiles, N = tokens of a tile ([CLS] included), P = its patches, D = width,
# h = heads, d = D / h, c = queries of a chunk

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import context, cost
from ..errors import MediaError, NeedError, WiringError, did_you_mean
from ..needs import Need
from .handle import TowerFacts

CHANNELS = ("attention", "cls_attention", "hidden", "keys", "received_attention")
FORMS = {"unsplit": ("attention", "cls_attention", "keys", "received_attention")}  # and their channels
FAMILY = {"clip": "CLIP", "siglip": "SigLIP", "qwen2_5_vl": "Qwen2.5-VL", "internvit": "InternViT"}
CHUNK = 1 << 24  # attention weights held at once: 64 MiB


@dataclass(frozen=True, eq=False)
class TowerOutput:
    """`hidden` [K, (1+)P, D] of the feature layer; `side`: the wanted, by `Need.key`, [K, (1+)P, ...]."""

    hidden: Tensor
    side: Mapping[str, Tensor]


class VisionTower:
    """A native CLIPVisionModel or SiglipVisionModel in eval mode, on its device."""

    def __init__(self, module: nn.Module, facts: TowerFacts) -> None:
        self.module, self.facts = module, facts
        # transformers 5.5 nests the model one level deeper than 5.17 and later
        self._core: Any = getattr(module, "vision_model", module)
        self._pre_norm: Any = getattr(self._core, "pre_layrnorm", None) or getattr(
            self._core, "pre_layernorm", None
        )

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.module.parameters()).device

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
        """Hidden states of `layer` and the wanted channels (float32, but `hidden`); later layers do not run.

        pixels: [K, 3, h, w] normalised. cls_token: keep the [CLS] row, if the tower has one. interpolate: fit
        the position embeddings to another tile size. Channels: `hidden` [.., D]; `keys` [.., d], raw keys,
        mean over heads; `cls_attention` [..], softmax row of [CLS], summed over heads; `received_attention`
        [..], summed over queries, mean over heads; `attention` [.., N], mean over heads. In the form
        `unsplit`, the same as if the layer had one head of width D (PruMerge): `keys` [.., D], softmax of
        q k / sqrt(D).
        """
        feature = layer_number("encode_vision.layer", self.facts, layer)
        at = {need: self._layer_of(need, feature) for need in wanted}
        tile_grid(self.facts, pixels, interpolate)
        found: dict[str, Tensor] = {}
        hidden = self._embed(pixels, interpolate)
        features = torch.empty(0)  # not the embeddings: they would stay in memory
        last = max([feature, *at.values()])
        extra = int(self.facts.has_cls)
        context.count(cost.tower(self.facts, len(hidden), hidden.shape[1] - extra, last, extra=extra))
        for i in range(last + 1):
            if i:
                hidden = self._step(
                    i - 1, hidden, [n for n in at if at[n] == i and n.channel != "hidden"], found
                )
            features = hidden if i == feature else features
            found |= {n.key: hidden for n in at if n.channel == "hidden" and at[n] == i}
        first = int(self.facts.has_cls and not cls_token)
        return TowerOutput(features[:, first:], {key: value[:, first:] for key, value in found.items()})

    def _layer_of(self, need: Need, feature: int) -> int:
        check_need(self.facts, need, feature)
        return _need_layer(self.facts, need, feature)

    def _embed(self, pixels: Tensor, interpolate: bool) -> Tensor:
        embeddings = self._core.embeddings
        pixels = pixels.to(self.device, embeddings.patch_embedding.weight.dtype)
        hidden: Tensor = embeddings(pixels, interpolate_pos_encoding=interpolate)
        return hidden if self._pre_norm is None else self._pre_norm(hidden)

    def _step(self, number: int, hidden: Tensor, needs: list[Need], found: dict[str, Tensor]) -> Tensor:
        """The output of encoder layer `number`; its wanted attention goes into `found`."""
        block = self._core.encoder.layers[number]
        if needs:
            attention, normed = block.self_attn, block.layer_norm1(hidden)
            key_KNhd = attention.k_proj(normed).unflatten(-1, (self.facts.heads, -1))
            for need in needs:
                key = key_KNhd if need.form is None else key_KNhd.flatten(2)[:, :, None]
                found[need.key] = channel(need.channel, attention, normed, key)
            del normed, key_KNhd
        out: Tensor | tuple[Tensor, ...] = block(hidden, None)
        return out if isinstance(out, Tensor) else out[0]


def layer_number(where: str, facts: TowerFacts, layer: int) -> int:
    """`layer` counted from 0; a WiringError when the tower has no such layer."""
    number = layer + facts.depth + 1 if layer < 0 else layer
    if not 0 <= number <= facts.depth:
        raise WiringError(f"{where}: layer {layer} is outside {-facts.depth - 1}..{facts.depth}")
    return number


def _need_layer(facts: TowerFacts, need: Need, feature: int) -> int:
    """The layer of a channel counted from 0; a NeedError when the tower has no such layer."""
    if need.layer is None:
        return feature
    if not -facts.depth - 1 <= need.layer <= facts.depth:
        raise NeedError(
            f"encode_vision: a node after it wants {need.key}, but the tower has {facts.depth} layers; set "
            f"that node's layers within {-facts.depth - 1}..{facts.depth}"
        )
    return layer_number("", facts, need.layer)


def check_need(facts: TowerFacts, need: Need, feature: int) -> None:
    """A NeedError for a channel that such a tower cannot compute."""
    if need.channel not in CHANNELS:
        raise NeedError(
            f"encode_vision: no side channel is called {need.channel!r}{did_you_mean(need.channel, CHANNELS)}"
        )
    if need.form is not None and need.channel not in FORMS.get(need.form, ()):
        of = [form for form, channels in FORMS.items() if need.channel in channels]
        raise NeedError(
            f"encode_vision: {need.channel} has no form {need.form!r}{did_you_mean(need.form, of)}"
        )
    if need.channel == "cls_attention" and not facts.has_cls:
        out = "set score: received" if need.form is None else "use a CLIP tower"
        raise NeedError(f"encode_vision: {FAMILY[facts.family]} has no [CLS] token; {out}")
    number = _need_layer(facts, need, feature)
    if number == 0 and need.channel != "hidden":
        raise NeedError(
            f"encode_vision: {need.key} of layer 0, but the embeddings have no attention; wanted 1 or more"
        )


def tile_grid(facts: TowerFacts, pixels: Tensor, interpolate: bool = False) -> tuple[int, int]:
    """Rows and columns of patches of tiles [..., h, w]; a MediaError for a size the tower does not take."""
    height, width = pixels.shape[-2:]
    if not facts.size:
        multiple = facts.patch * facts.merge
        if height % multiple or width % multiple:
            raise MediaError(
                f"encode_vision: tiles of {width}x{height} for a tower that takes multiples of {multiple}; "
                "make them with preprocess"
            )
    elif not interpolate and (height, width) != (facts.size, facts.size):
        raise MediaError(
            f"encode_vision: tiles of {width}x{height} for a tower of {facts.size}x{facts.size}; resize the "
            "pictures, or set interpolate: true"
        )
    if min(height, width) < facts.patch:
        raise MediaError(
            f"encode_vision: tiles of {width}x{height} are smaller than a patch of {facts.patch}"
        )
    return height // facts.patch, width // facts.patch


def channel(name: str, attention: Any, normed_KND: Tensor, key_KNhd: Tensor) -> Tensor:
    """One side channel of a layer: [K, N] or [K, N, ...] float32; `attention.q_proj` makes the queries."""
    if name == "keys":
        return key_KNhd.mean(2, dtype=torch.float32)
    key_KhdN = key_KNhd.float().permute(0, 2, 3, 1)
    if name == "cls_attention":
        [row] = _weights(attention, normed_KND[:, :1], key_KhdN, 1)
        return row[:, :, 0].sum(1)
    tiles, heads, _, tokens = key_KhdN.shape
    chunk = max(1, CHUNK // (tiles * heads * tokens))
    rows = _weights(attention, normed_KND, key_KhdN, chunk)
    if name == "attention":
        return torch.cat([row.mean(1) for row in rows], 1)
    received = torch.zeros(tiles, tokens, device=normed_KND.device)
    for row in rows:
        received += row.sum(2).mean(1)
    return received


def _weights(attention: Any, normed_KND: Tensor, key_KhdN: Tensor, chunk: int) -> Iterator[Tensor]:
    """Softmax rows [K, h, c, N] in float32, `chunk` queries at a time."""
    heads, width = key_KhdN.shape[1:3]
    for start in range(0, normed_KND.shape[1], chunk):
        query_Khcd = (
            attention.q_proj(normed_KND[:, start : start + chunk])
            .unflatten(-1, (heads, width))
            .transpose(1, 2)
            .float()
        )
        yield (query_Khcd * width**-0.5 @ key_KhdN).softmax(-1)
