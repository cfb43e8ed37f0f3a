"""The model in training: tower, projector, language model, and heads that no checkpoint holds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from .attention import register
from .recipe import Sizes as Sizes
from .samples import CHANGES, IGNORE, PATCH_CLASSES, PICTURE_LABELS, Batch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Seen(NamedTuple):
    """What a model makes of pixels.

    visual: [B, V, width], for the language model. patches: [B * T, g * g, D], the tower's features. early,
    late: [B * T, D], [CLS] beside them and after the last layer.
    """

    visual: Tensor
    patches: Tensor
    early: Tensor
    late: Tensor


class TinyLlava(nn.Module):
    """CLIP tower, two-layer projector, Llama; `heads.*` serve the training only."""

    def __init__(self, sizes: Sizes, vocabulary: int, *, motion_layer: int | None = None) -> None:
        super().__init__()
        attention: dict[str, Any] = {"attn_implementation": register()}
        self.sizes, self.motion_layer = sizes, sizes.motion_layer if motion_layer is None else motion_layer
        self.vision: Any = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=sizes.vision_width,
                intermediate_size=4 * sizes.vision_width,
                num_hidden_layers=sizes.vision_layers,
                num_attention_heads=sizes.vision_heads,
                image_size=sizes.side,
                patch_size=sizes.patch,
                **attention,
            )
        )
        place_positions(self.vision.embeddings.position_embedding.weight, sizes.grid)
        self.projector: nn.Module = nn.Sequential(
            nn.Linear(sizes.vision_width, sizes.width), nn.GELU(), nn.Linear(sizes.width, sizes.width)
        )
        self.llm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=sizes.width,
                intermediate_size=sizes.mlp,
                num_hidden_layers=sizes.layers,
                num_attention_heads=sizes.heads,
                num_key_value_heads=sizes.heads,
                max_position_embeddings=4096,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
                **attention,
            )
        )
        self.heads = nn.ModuleDict(
            {
                "patch": nn.Linear(sizes.vision_width, sum(PATCH_CLASSES.values()) + 2),
                "cls_early": nn.Linear(sizes.vision_width, PICTURE_LABELS),
                "cls_late": nn.Linear(sizes.vision_width, PICTURE_LABELS),
                "change": nn.Sequential(nn.LayerNorm(sizes.width), nn.Linear(sizes.width, len(CHANGES))),
            }
        )

    def look(self, pixels: Tensor) -> Seen:
        """What becomes of uint8 pixels [B, T, H, W, 3]; V = T * g * g."""
        batch, frames = pixels.shape[:2]
        states = self.encode(pixels.flatten(0, 1))
        patches = states[-2][:, 1:]
        visual = self.projector(patches).unflatten(0, (batch, frames)).flatten(1, 2)
        return Seen(visual, patches, states[-2][:, 0], states[-1][:, 0])

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Hidden states [N, 1 + g * g, D] of uint8 pixels [N, H, W, 3]."""
        states: tuple[Tensor, ...] = self.vision(normalised(pixels), output_hidden_states=True).hidden_states
        return states

    def token_change(self, change: Tensor) -> Tensor:
        """[B, V] of [B, T, g, g]: what happened to the object of each visual token."""
        return change.flatten(1)

    def read(self, visual: Tensor, batch: Batch, prefix: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [B, L, vocabulary] of the packed questions after visual tokens [B, V, width].

        And the rows of the visual tokens after `motion_layer`, [B, V, width].
        """
        embed = self.llm.get_input_embeddings()
        size, rows = visual.shape[:2]
        x = torch.cat([embed(prefix).expand(size, -1, -1), visual, embed(batch.ids)], 1)
        mask, position = packing(batch.block, len(prefix) + rows)
        out = self.llm.model(
            inputs_embeds=x,
            attention_mask=mask,
            position_ids=position,
            use_cache=False,
            output_hidden_states=True,
        )
        seen = out.hidden_states[self.motion_layer][:, len(prefix) : len(prefix) + rows]
        return self.llm.lm_head(out.last_hidden_state[:, len(prefix) + rows :]), seen


def normalised(pixels: Tensor) -> Tensor:
    """[N, 3, H, W] of uint8 [N, H, W, 3], by CLIP's mean and deviation."""
    mean, std = (torch.tensor(v, device=pixels.device) * 255 for v in (MEAN, STD))
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


def place_positions(table: Tensor, grid: int, amplitude: float = 0.5) -> None:
    """Sine and cosine of row and column as first values of position embeddings [..., 1 + g * g, D].

    With CLIP's own (std 0.02) places are hardly learnt.
    """
    width = table.shape[-1]
    frequency = torch.exp(torch.arange(width // 4) / (width // 4) * -math.log(100.0))
    angle = torch.arange(grid)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], -1) * amplitude
    rows, columns = wave[:, None].expand(-1, grid, -1), wave[None].expand(grid, -1, -1)
    with torch.no_grad():
        table[..., 1:, :] = torch.cat([rows, columns], -1).reshape(grid * grid, width)


def packing(block: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Additive mask [B, 1, S, S] and positions [B, S] of a prefix and blocks [B, L] behind it.

    Every block sees the prefix and itself, and starts right behind the prefix.
    """
    size, length = block.shape
    whole = torch.cat([block.new_full((size, prefix), -2), block], 1)
    total = prefix + length
    order = torch.arange(total, device=block.device)
    same = (whole[:, :, None] == whole[:, None, :]) | (whole[:, None, :] == -2)
    seen = same & (order[:, None] >= order[None, :])
    mask = torch.zeros(size, 1, total, total, device=block.device).masked_fill_(~seen[:, None], -1e4)
    new = torch.cat([block.new_ones(size, 1, dtype=torch.bool), block[:, 1:] != block[:, :-1]], 1)
    start = torch.where(new, order[:length], 0).cummax(1).values
    position = torch.cat([order[:prefix].expand(size, -1), prefix + order[:length] - start], 1)
    return mask, position


def patch_losses(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Cross-entropy by attribute over all patches, objects and background of equal weight; place."""
    labels = batch.patches.flatten(0, 3)
    scores = logits.flatten(0, -2).float()
    losses, at = {}, 0
    shown = labels.amax(-1) > 0
    weight = torch.where(
        shown, 0.5 / shown.float().mean().clamp(min=1e-3), 0.5 / (1 - shown.float().mean()).clamp(min=1e-3)
    )
    for n, (name, classes) in enumerate(PATCH_CLASSES.items()):
        losses[name] = (
            cross_entropy(scores[:, at : at + classes], labels[:, n], reduction="none") * weight
        ).mean()
        at += classes
    place = batch.place.flatten(0, 3)
    known = ~place.isnan().any(-1)
    losses["place"] = (scores[:, at:][known] - place[known]).abs().mean() * 4
    return losses


def change_loss(logits: Tensor, change: Tensor) -> Tensor:
    """Cross-entropy of what happened to the object of each visual token, [B, V] labels."""
    return cross_entropy(logits.flatten(0, -2).float(), change.flatten(), ignore_index=IGNORE)
