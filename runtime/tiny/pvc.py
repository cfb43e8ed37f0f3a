"""PVC in miniature, in training: InternViT with attention between frames, a compressor of 4 patches, Llama.

The modules are those of `runtime/models/pvc.py`; a picture is a static video of four copies.
"""

# B = samples, T = frames (copies counted), N = places of a frame, [CLS] included, D = width, K = B * T

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from ..models.handle import PvcFacts
from ..models.pvc import Compressor, TemporalModules, time_value
from ..models.tokenpacker import window_places
from .attention import register
from .model import Seen, Sizes, TinyLlava, normalised, place_positions
from .packer import window_change

COPIES = 4
SIDE = 2
TIME_WIDTH = 64


class TinyPvc(TinyLlava):
    """An InternViT of one layer fewer (features are the last's), its last `temporal` ones progressive."""

    def __init__(
        self, sizes: Sizes, vocabulary: int, *, motion_layer: int | None = None, temporal: int = 2
    ) -> None:
        super().__init__(sizes, vocabulary, motion_layer=motion_layer)
        self.depth = depth = sizes.vision_layers - 1
        width = sizes.vision_width
        attention: dict[str, Any] = {"attn_implementation": register()}
        self.vision = InternVLVisionModel(
            InternVLVisionConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=depth,
                num_attention_heads=sizes.vision_heads,
                image_size=[sizes.side] * 2,
                patch_size=[sizes.patch] * 2,
                attention_bias=True,
                **attention,
            )
        )
        place_positions(self.vision.embeddings.position_embeddings, sizes.grid)
        self.facts = PvcFacts(
            layers=tuple(range(depth - temporal, depth)), adaln_on=("temporal",), time_width=TIME_WIDTH
        )
        self.temporal = TemporalModules(width, sizes.vision_heads, 1e-6, self.facts)
        for layer in self.temporal.layers.values():
            nn.init.constant_(layer.temporal_ls, 0.1)  # type: ignore[arg-type]
        self.projector = Compressor(width * SIDE**2, sizes.width, TIME_WIDTH)

    def look(self, pixels: Tensor) -> Seen:
        """See `TinyLlava.look`; V = T * (g / 2)^2, and T is 4 for a picture."""
        batch, frames = pixels.shape[:2]
        hidden = self._embed(normalised(pixels.flatten(0, 1)))
        copies = COPIES if frames == 1 else frames
        times = torch.tensor([time_value("tiny", "fraction", t, copies) for t in range(copies)])
        time_K = times.to(hidden.device).repeat(batch)
        embedding = self.temporal.embed(time_K)
        assert embedding is not None
        for number, block in enumerate(self.vision.encoder.layer):
            hidden = block.lambda_1 * block.attention(block.layernorm_before(hidden))[0] + hidden
            if number in self.facts.layers:
                if len(hidden) == batch and frames == 1:
                    hidden = hidden.repeat_interleave(copies, 0)
                between = self.temporal.layer(number)
                hidden = between(
                    hidden.view(batch, copies, *hidden.shape[1:]), embedding.view(batch, copies, -1)
                ).flatten(0, 1)
            hidden = block.lambda_2 * block.mlp(block.layernorm_after(hidden)) + hidden
        visual = self._compress(hidden[:, 1:], time_K).reshape(batch, -1, self.sizes.width)
        shown = hidden if frames > 1 else hidden[copies - 1 :: copies]
        return Seen(visual, shown[:, 1:], shown[:, 0], shown[:, 0])

    def token_change(self, change: Tensor) -> Tensor:
        """[B, V] of [B, T, g, g]: what happened to the object of each window."""
        return window_change(change, SIDE)

    def _embed(self, x: Tensor) -> Tensor:
        embeddings: Any = self.vision.embeddings
        patches = embeddings.patch_embeddings.projection(x).flatten(2).mT
        places: Tensor = embeddings.position_embeddings
        return torch.cat([embeddings.cls_token.expand(len(x), -1, -1), patches], 1) + places

    def _compress(self, hidden_KND: Tensor, time_K: Tensor) -> Tensor:
        grid = self.sizes.grid
        place_GP, _ = window_places(grid, grid, SIDE, hidden_KND.device)
        grouped = hidden_KND[:, place_GP].flatten(2)  # [K, G, P * D]
        packed: Tensor = self.projector(grouped.flatten(0, 1), time_K.repeat_interleave(grouped.shape[1]))
        return packed.reshape(len(hidden_KND), -1, packed.shape[-1])
