"""Chains of TokenPacker: a picture to an answer, and a projector alone on other windows and layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import QUESTION, Chain

CHECKPOINT = "tiny-random-tokenpacker"


def packed(image: Path) -> dict[str, Any]:
    """The checkpoint's scale factor to an answer; another one, other layers and partial windows beside it."""
    model = nodes.load_model(checkpoint=CHECKPOINT, dtype="float32", device="cpu", scale_factor=3)
    alone = nodes.load_projector(checkpoint=CHECKPOINT, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    visual = nodes.project_tokenpacker(model.projector, patches)
    other = nodes.project_tokenpacker(
        alone, patches, scale_factor=5, levels=(-13, 2, 2, -1), heads=3, ragged="pad"
    )
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION)
    placed = nodes.place_tokens(model.llm, prompt, visual)
    state = nodes.prefill(model.llm, placed)
    answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=3)
    return {
        "load_model": model,
        "load_projector": alone,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_tokenpacker": visual,
        "project_tokenpacker_2": other,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": state,
        "generate": answer,
    }


PACKED = """
tokenloom: 1
params: {image: {type: path}}
nodes:
  load_model:
    {node: load_model, checkpoint: tiny-random-tokenpacker, dtype: float32, device: cpu, scale_factor: 3}
  load_projector:
    {node: load_projector, checkpoint: tiny-random-tokenpacker, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  project_tokenpacker:
    {node: project_tokenpacker, projector: $load_model.projector, tokens: $encode_vision}
  project_tokenpacker_2:
    node: project_tokenpacker
    projector: $load_projector
    tokens: $encode_vision
    scale_factor: 5
    levels: [-13, 2, 2, -1]
    heads: 3
    ragged: pad
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $load_image, question: What is it?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_tokenpacker}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens}
  generate: {node: generate, llm: $load_model.llm, state: $prefill, chat: $load_model.chat, max_new_tokens: 3}
"""

LEVELS = frozenset(Need("hidden", layer) for layer in (12, 16, 22, 23, -13, 2, -1))
CHAINS: dict[str, Chain] = {"packed": Chain(packed, PACKED, {"image": Path}, LEVELS)}
