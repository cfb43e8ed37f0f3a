"""Pictures of tokens and attention over a grid of tiles, and of a clip's segments; see chains.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import Chain


def seen_grid(next_checkpoint: str, image: Path) -> dict[str, Any]:
    """Anyres tiles: what is left after compression, and where attention goes."""
    model = nodes.load_model(checkpoint=next_checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch")
    picked = nodes.select_dominant(patches, keep=27)
    merged = nodes.merge_contextual(picked.kept, picked.rest, targets=5)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "select_dominant": picked,
        "merge_contextual": merged,
        "overlay_tokens": nodes.overlay_tokens(merged, frames, side=96, title="27 + 5"),
        "overlay_attention": nodes.overlay_attention(patches, frames, view="row", index=5, tile=2, side=64),
        "overlay_attention_2": nodes.overlay_attention(patches, frames, view="cls", side=64, palette="grey"),
    }


SEEN_GRID = """
tokenloom: 1
params: {next_checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $next_checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: cls_patch}
  select_dominant: {node: select_dominant, tokens: $encode_vision, keep: 27}
  merge_contextual:
    {node: merge_contextual, kept: $select_dominant.kept, rest: $select_dominant.rest, targets: 5}
  overlay_tokens:
    {node: overlay_tokens, tokens: $merge_contextual, frames: $load_image, side: 96, title: 27 + 5}
  overlay_attention:
    node: overlay_attention
    patches: $encode_vision
    frames: $load_image
    view: row
    index: 5
    tile: 2
    side: 64
  overlay_attention_2:
    node: overlay_attention
    patches: $encode_vision
    frames: $load_image
    view: cls
    side: 64
    palette: grey
"""


def seen_clip(checkpoint: str, video: Path) -> dict[str, Any]:
    """Segments of a clip, with its tokens over the frames."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    opened = nodes.load_video(path=video, backend="pyav")
    frames = nodes.sample_frames(opened, frames=6)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    segments = nodes.cluster_temporal(patches, ratio=0.5, neighbours=3)
    merged = nodes.merge_static(patches, segments, tau=0.7)
    visual = nodes.project_mlp(model.projector, merged)
    prompt = nodes.render_chat(model.chat, frames, question="What is it?")
    placed = nodes.place_tokens(model.llm, prompt, visual)
    state = nodes.prefill(model.llm, placed, until=1)
    names = ("patches", "static", "projected", "placed", "LLM")
    return {
        "load_model": model,
        "load_video": opened,
        "sample_frames": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "cluster_temporal": segments,
        "merge_static": merged,
        "project_mlp": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": state,
        "token_flow": nodes.token_flow(patches, merged, visual, placed, state, names=names, text=True),
        "contact_sheet": nodes.contact_sheet(frames, segments, merged, most=4, side=64, columns=3),
    }


SEEN_CLIP = """
tokenloom: 1
params: {checkpoint: {type: str}, video: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_video: {node: load_video, path: $video, backend: pyav}
  sample_frames: {node: sample_frames, video: $load_video, frames: 6}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $sample_frames}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: patch}
  cluster_temporal: {node: cluster_temporal, tokens: $encode_vision, ratio: 0.5, neighbours: 3}
  merge_static: {node: merge_static, tokens: $encode_vision, segments: $cluster_temporal, tau: 0.7}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $merge_static}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $sample_frames, question: What is it?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_mlp}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens, until: 1}
  token_flow:
    node: token_flow
    stages: [$encode_vision, $merge_static, $project_mlp, $place_tokens, $prefill]
    names: [patches, static, projected, placed, LLM]
    text: true
  contact_sheet:
    node: contact_sheet
    frames: $sample_frames
    segments: $cluster_temporal
    tokens: $merge_static
    most: 4
    side: 64
    columns: 3
"""

WANTED = frozenset({Need("cls_attention"), Need("keys"), Need("attention", -2), Need("cls_attention", -2)})
CHAINS = {
    "seen_grid": Chain(seen_grid, SEEN_GRID, {"next_checkpoint": str, "image": Path}, WANTED),
    "seen_clip": Chain(seen_clip, SEEN_CLIP, {"checkpoint": str, "video": Path}),
}
