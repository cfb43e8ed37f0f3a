"""Stock transformers models, tiny and random, and what their processors would return for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .checkpoints import TEXT, TOWER, shaken
from .onevision import IMAGE, SIDE, VIDEO, native_onevision

BOS, PAD = 1, 0
NEXT_PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32]]  # (height, width)


def stock(family: str, **text: Any) -> Any:
    """A model of the family in eval mode: towers of 4 x 4 patches (OneVision: 5 x 5), 2 layers.

    text: of the language model's configuration.
    """
    import transformers

    if family == "llava_onevision":
        return native_onevision()
    torch.manual_seed(11)
    kinds = {"llava": "Llava", "llava_next": "LlavaNext"}
    more: dict[str, Any] = {"image_grid_pinpoints": NEXT_PINPOINTS} if family == "llava_next" else {}
    config = getattr(transformers, f"{kinds[family]}Config")(
        vision_config=transformers.CLIPVisionConfig(**TOWER),
        text_config=transformers.LlamaConfig(**{**TEXT, "max_position_embeddings": 512, **text}),
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **more,
    )
    return shaken(getattr(transformers, f"{kinds[family]}ForConditionalGeneration")(config))


def batch(*rows: Sequence[int], side: str = "left") -> dict[str, Tensor]:
    """input_ids and attention_mask of rows of ids, padded on one side."""
    most = max(map(len, rows))
    ids, mask = torch.full((len(rows), most), PAD), torch.zeros(len(rows), most, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(most - len(row), most) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def pictures(count: int, side: int = TOWER["image_size"], seed: int = 0) -> Tensor:
    """[count, 3, side, side]."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tiled(*counts: int, side: int, seed: int = 0) -> Tensor:
    """[P, K, 3, side, side]: pictures of so many tiles, zeros behind, as the processors pad them."""
    out = torch.zeros(len(counts), max(counts), 3, side, side)
    for i, count in enumerate(counts):
        out[i, :count] = pictures(count, side, seed + i)
    return out


def row(before: int, visual: int, after: int, token: int = IMAGE) -> list[int]:
    """Text, the ids that stand for visual tokens, and text."""
    return [BOS, *[5 + i % 7 for i in range(before)], *[token] * visual, *[20 + i % 11 for i in range(after)]]


__all__ = ["IMAGE", "PAD", "SIDE", "VIDEO", "batch", "pictures", "row", "stock", "tiled"]
