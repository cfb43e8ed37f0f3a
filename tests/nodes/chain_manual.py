"""Chains of choosing by hand: the top of the attention, and a painted mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import Chain


def by_hand(checkpoint: str, image: Path, mask: Path) -> dict[str, Any]:
    """What was painted on a picture, and the best by attention."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch")
    picked = nodes.select_manual(patches, mask=mask, indices=(9, 2), share=0.5, threshold=99, stretch=True)
    best = nodes.select_top(patches, keep=3, include_cls=True)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "select_manual": picked,
        "select_top": best,
    }


BY_HAND = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}, mask: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: cls_patch}
  select_manual:
    node: select_manual
    tokens: $encode_vision
    mask: $mask
    indices: [9, 2]
    share: 0.5
    threshold: 99
    stretch: true
  select_top: {node: select_top, tokens: $encode_vision, keep: 3, include_cls: true}
"""

CHAINS: dict[str, Chain] = {
    "by_hand": Chain(
        by_hand, BY_HAND, {"checkpoint": str, "image": Path, "mask": Path}, frozenset({Need("cls_attention")})
    ),
}
