"""Chains of pooling, before and after the projector, in space and in time; and of PruMerge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import Chain


def pooled(checkpoint: str, image: Path) -> dict[str, Any]:
    """Patches pooled in space, and projected tokens of two tiles pooled in time as well."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    small = nodes.pool_tokens(patches, grid=(3, 4), method="bilinear")
    visual = nodes.project_mlp(model.projector, patches)
    early = nodes.project_mlp(model.projector, patches, pool=(2, 3))
    one = nodes.pool_tokens(visual, grid=(2, 3), frames=1)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "pool_tokens": small,
        "project_mlp": visual,
        "project_mlp_2": early,
        "pool_tokens_2": one,
    }


POOLED = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: [$load_image, $load_image]}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: patch}
  pool_tokens: {node: pool_tokens, tokens: $encode_vision, grid: [3, 4], method: bilinear}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  project_mlp_2:
    {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision, pool: [2, 3]}
  pool_tokens_2: {node: pool_tokens, tokens: $project_mlp, grid: [2, 3], frames: 1}
"""


def outliers(checkpoint: str, image: Path) -> dict[str, Any]:
    """PruMerge, and PruMerge+ after the projector."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch")
    few = nodes.prune_outliers(patches, over="tile", neighbours=8)
    visual = nodes.project_mlp(model.projector, patches)
    more = nodes.prune_outliers(visual, plus=True, ratio=0.125, duplicates=True, layer=-2)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "prune_outliers": few,
        "project_mlp": visual,
        "prune_outliers_2": more,
    }


OUTLIERS = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: cls_patch}
  prune_outliers: {node: prune_outliers, tokens: $encode_vision, over: tile, neighbours: 8}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  prune_outliers_2:
    {node: prune_outliers, tokens: $project_mlp, plus: true, ratio: 0.125, duplicates: true, layer: -2}
"""

UNSPLIT = frozenset(
    Need(name, layer, form="unsplit") for name in ("cls_attention", "keys") for layer in (-1, -2)
)
CHAINS: dict[str, Chain] = {
    "pooled": Chain(pooled, POOLED, {"checkpoint": str, "image": Path}),
    "outliers": Chain(outliers, OUTLIERS, {"checkpoint": str, "image": Path}, UNSPLIT),
}
