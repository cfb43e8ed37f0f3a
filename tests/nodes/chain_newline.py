"""A chain of the newline at the end of a clip's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def ended(next_checkpoint: str, image: Path) -> dict[str, Any]:
    """Two pictures side by side in time, a newline after each and one after both."""
    model = nodes.load_model(checkpoint=next_checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames, frames, aspect="stretch")
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    visual = nodes.project_mlp(model.projector, patches)
    last = nodes.append_newline(visual, model.projector)
    each = nodes.append_newline(visual, model.projector, every="frame")
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
        "append_newline": last,
        "append_newline_2": each,
    }


ENDED = """
tokenloom: 1
params: {next_checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $next_checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess:
    {node: preprocess, chat: $load_model.chat, frames: [$load_image, $load_image], aspect: stretch}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: patch}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  append_newline: {node: append_newline, tokens: $project_mlp, projector: $load_model.projector}
  append_newline_2:
    {node: append_newline, tokens: $project_mlp, projector: $load_model.projector, every: frame}
"""

CHAINS: dict[str, Chain] = {"ended": Chain(ended, ENDED, {"next_checkpoint": str, "image": Path})}
