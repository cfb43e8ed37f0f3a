"""A chain of slicing and assembly (TokenPacker-HD), on a projector that maps tokens one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def hd(checkpoint: str, image: Path) -> dict[str, Any]:
    """Two pictures in crops, few tokens of each, separators looked up and given by id."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.slice_hd(
        model.chat, frames, frames, patch_num=4, global_source="image", antialias=True, max_upscale=9.5
    )
    patches = nodes.encode_vision(model.vision, tiles, features="patch")
    visual = nodes.project_mlp(model.projector, patches, pool=(2, 3))
    assembled = nodes.assemble_hd(model.llm, visual, model.chat, row=201)
    given = nodes.assemble_hd(model.llm, visual, column=None, row=7)
    return {
        "load_model": model,
        "load_image": frames,
        "slice_hd": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
        "assemble_hd": assembled,
        "assemble_hd_2": given,
    }


HD = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  slice_hd:
    node: slice_hd
    chat: $load_model.chat
    frames: [$load_image, $load_image]
    patch_num: 4
    global_source: image
    antialias: true
    max_upscale: 9.5
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $slice_hd, features: patch}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision, pool: [2, 3]}
  assemble_hd:
    {node: assemble_hd, llm: $load_model.llm, tokens: $project_mlp, chat: $load_model.chat, row: 201}
  assemble_hd_2: {node: assemble_hd, llm: $load_model.llm, tokens: $project_mlp, column: null, row: 7}
"""

CHAINS: dict[str, Chain] = {"hd": Chain(hd, HD, {"checkpoint": str, "image": Path})}
