"""PruneVid's first stage on a clip: segments, static places, spatial clusters; see chains.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def stage1(checkpoint: str, video: Path) -> dict[str, Any]:
    """Eight frames through the three nodes, and without segments."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    opened = nodes.load_video(path=video, backend="pyav")
    frames = nodes.sample_frames(opened, frames=8)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    segments = nodes.cluster_temporal(patches, ratio=0.5, neighbours=3)
    merged = nodes.merge_static(patches, segments, tau=0.7, positions="mean")
    fewer = nodes.cluster_spatial(merged, ratio=0.25, least=4, order="raster", positions="mean")
    alone = nodes.cluster_spatial(patches, neighbours=5, noise="upstream", seed=2)
    return {
        "load_model": model,
        "load_video": opened,
        "sample_frames": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "cluster_temporal": segments,
        "merge_static": merged,
        "cluster_spatial": fewer,
        "cluster_spatial_2": alone,
    }


STAGE1 = """
tokenloom: 1
params: {checkpoint: {type: str}, video: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_video: {node: load_video, path: $video, backend: pyav}
  sample_frames: {node: sample_frames, video: $load_video, frames: 8}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $sample_frames}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: patch}
  cluster_temporal: {node: cluster_temporal, tokens: $encode_vision, ratio: 0.5, neighbours: 3}
  merge_static:
    {node: merge_static, tokens: $encode_vision, segments: $cluster_temporal, tau: 0.7, positions: mean}
  cluster_spatial:
    node: cluster_spatial
    tokens: $merge_static
    ratio: 0.25
    least: 4
    order: raster
    positions: mean
  cluster_spatial_2: {node: cluster_spatial, tokens: $encode_vision, neighbours: 5, noise: upstream, seed: 2}
"""

CHAINS = {"stage1": Chain(stage1, STAGE1, {"checkpoint": str, "video": Path})}
