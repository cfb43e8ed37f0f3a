"""A chain of the controls: evenly spaced patches of random ones, numbered before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def by_chance(checkpoint: str, image: Path) -> dict[str, Any]:
    """Half of the patches at random, and a third of those evenly."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    numbered = nodes.number_tokens(patches)
    drawn = nodes.select_random(numbered, ratio=0.5, seed=3)
    spaced = nodes.select_uniform(drawn.kept, ratio=0.34)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "number_tokens": numbered,
        "select_random": drawn,
        "select_uniform": spaced,
    }


BY_CHANCE = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: patch}
  number_tokens: {node: number_tokens, tokens: $encode_vision}
  select_random: {node: select_random, tokens: $number_tokens, ratio: 0.5, seed: 3}
  select_uniform: {node: select_uniform, tokens: $select_random.kept, ratio: 0.34}
"""

CHAINS: dict[str, Chain] = {"by chance": Chain(by_chance, BY_CHANCE, {"checkpoint": str, "image": Path})}
