"""A cache that is compressed half-way, and again when all layers have run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

from .chains import QUESTION, Chain


def compressed(checkpoint: str, image: Path) -> dict[str, Any]:
    """LOOK-M on one tile, and an answer."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    visual = nodes.project_mlp(model.projector, patches)
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION)
    placed = nodes.place_tokens(model.llm, prompt, visual)
    half = nodes.prefill(model.llm, placed, until=2)
    early = nodes.compress_kv(half, mode="weighted", recent_ratio=0.2)
    state = nodes.prefill(model.llm, early)
    late = nodes.compress_kv(state, mode="avg", hh_ratio=0.3, text_prior=False, avg_pairing="released")
    answer = nodes.generate(model.llm, late, model.chat, max_new_tokens=4)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": half,
        "compress_kv": early,
        "prefill_2": state,
        "compress_kv_2": late,
        "generate": answer,
    }


COMPRESSED = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $load_image, question: What is it?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_mlp}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens, until: 2}
  compress_kv: {node: compress_kv, state: $prefill, mode: weighted, recent_ratio: 0.2}
  prefill_2: {node: prefill, llm: $load_model.llm, inputs: $compress_kv}
  compress_kv_2:
    {node: compress_kv, state: $prefill_2, mode: avg, hh_ratio: 0.3, text_prior: false, avg_pairing: released}
  generate:
    {node: generate, llm: $load_model.llm, state: $compress_kv_2, chat: $load_model.chat, max_new_tokens: 4}
"""

CHAINS: dict[str, Chain] = {
    "compressed": Chain(
        compressed,
        COMPRESSED,
        {"checkpoint": str, "image": Path},
        frozenset({Need("cache_attention")}),
    )
}
