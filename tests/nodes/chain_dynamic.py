"""A chain of dynamic tiling (InternVL) into any tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def dynamic(checkpoint: str, image: Path) -> dict[str, Any]:
    """Two pictures in tiles, with the defaults and with every setting."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.tile_dynamic(model.chat, frames, frames, max_num=4, min_num=2, thumbnail=False)
    opened = nodes.load_media(path=image, frames=3, rule="internvl")
    usual = nodes.tile_dynamic(model.chat, opened)
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    return {
        "load_model": model,
        "load_image": frames,
        "load_media": opened,
        "tile_dynamic": tiles,
        "tile_dynamic_2": usual,
        "encode_vision": patches,
    }


DYNAMIC = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  tile_dynamic:
    node: tile_dynamic
    chat: $load_model.chat
    frames: [$load_image, $load_image]
    max_num: 4
    min_num: 2
    thumbnail: false
  load_media: {node: load_media, path: $image, frames: 3, rule: internvl}
  tile_dynamic_2: {node: tile_dynamic, chat: $load_model.chat, frames: $load_media}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $tile_dynamic, features: patch}
"""

CHAINS: dict[str, Chain] = {"dynamic": Chain(dynamic, DYNAMIC, {"checkpoint": str, "image": Path})}
