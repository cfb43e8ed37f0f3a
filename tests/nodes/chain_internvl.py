"""A chain of InternVL2: patches shuffled into tokens, both versions, and an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def internvl(internvl: str, image: Path) -> dict[str, Any]:
    """Two pictures in tiles of the checkpoint's own size, numbered in the prompt."""
    model = nodes.load_model(checkpoint=internvl, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.resize_crop(model.chat, frames, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    swapped = nodes.project_pixel_shuffle(model.projector, patches, version="v1")
    visual = nodes.project_pixel_shuffle(model.projector, patches, ratio=0.5)
    prompt = nodes.render_chat(model.chat, frames, frames, question="What is it?")
    placed = nodes.place_tokens(model.llm, prompt, visual)
    answer = nodes.generate(model.llm, placed, model.chat, max_new_tokens=3)
    return {
        "load_model": model,
        "load_image": frames,
        "resize_crop": tiles,
        "encode_vision": patches,
        "project_pixel_shuffle": swapped,
        "project_pixel_shuffle_2": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "generate": answer,
    }


INTERNVL = """
tokenloom: 1
params: {internvl: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $internvl, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  resize_crop: {node: resize_crop, chat: $load_model.chat, frames: [$load_image, $load_image]}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $resize_crop}
  project_pixel_shuffle:
    {node: project_pixel_shuffle, projector: $load_model.projector, tokens: $encode_vision, version: v1}
  project_pixel_shuffle_2:
    {node: project_pixel_shuffle, projector: $load_model.projector, tokens: $encode_vision, ratio: 0.5}
  render_chat:
    node: render_chat
    chat: $load_model.chat
    frames: [$load_image, $load_image]
    question: What is it?
  place_tokens:
    {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_pixel_shuffle_2}
  generate:
    {node: generate, llm: $load_model.llm, state: $place_tokens, chat: $load_model.chat, max_new_tokens: 3}
"""

CHAINS: dict[str, Chain] = {"internvl": Chain(internvl, INTERNVL, {"internvl": str, "image": Path})}
