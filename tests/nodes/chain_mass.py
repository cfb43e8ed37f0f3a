"""A chain of the adaptive budget: as many tokens as hold most of the attention, the rest merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import Chain


def adaptive(checkpoint: str, image: Path) -> dict[str, Any]:
    """Nine tenths of what [CLS] looks at, and up to four contextual tokens."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch")
    picked = nodes.select_by_mass(patches, mass=0.9, least=4, most=120)
    merged = nodes.merge_contextual(picked.kept, picked.rest, targets=4, short="fewer")
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "select_by_mass": picked,
        "merge_contextual": merged,
    }


ADAPTIVE = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: cls_patch}
  select_by_mass: {node: select_by_mass, tokens: $encode_vision, mass: 0.9, least: 4, most: 120}
  merge_contextual:
    node: merge_contextual
    kept: $select_by_mass.kept
    rest: $select_by_mass.rest
    targets: 4
    short: fewer
"""

ZIP = frozenset({Need("cls_attention"), Need("keys")})
CHAINS: dict[str, Chain] = {"adaptive": Chain(adaptive, ADAPTIVE, {"checkpoint": str, "image": Path}, ZIP)}
