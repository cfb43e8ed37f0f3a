"""A chain with every way to prune inside the language model: see test_three_ways.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.context import demand
from tokenloom.runtime.needs import Need

from .chains import QUESTION, Chain

SCORES = Need("attention", rows="text", form="pre_rope_full,max,max")


def pruned(checkpoint: str, image: Path) -> dict[str, Any]:
    """By attention, at random, evenly spaced, one after the other, and what is left."""
    model = nodes.load_model(checkpoint=checkpoint)
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    visual = nodes.project_mlp(model.projector, patches)
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION)
    placed = nodes.place_tokens(model.llm, prompt, visual)
    with demand(SCORES):  # in a graph the pruning asks for them
        early = nodes.prefill(model.llm, placed, until=1)
    scored = nodes.prune_by_attention(early, ratio=0.75, select="global")
    drawn = nodes.prune_random(scored, drop=0.5, seed=3, rounding="round", rewrite_cache=False)
    spaced = nodes.prune_uniform(drawn, keep=9)
    kept = nodes.read_tokens(spaced, wire=0)
    state = nodes.prefill(model.llm, spaced)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": early,
        "prune_by_attention": scored,
        "prune_random": drawn,
        "prune_uniform": spaced,
        "read_tokens": kept,
        "prefill_2": state,
    }


PRUNED = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $load_image, question: What is it?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_mlp}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens, until: 1}
  prune_by_attention: {node: prune_by_attention, state: $prefill, ratio: 0.75, select: global}
  prune_random:
    node: prune_random
    state: $prune_by_attention
    drop: 0.5
    seed: 3
    rounding: round
    rewrite_cache: false
  prune_uniform: {node: prune_uniform, state: $prune_random, keep: 9}
  read_tokens: {node: read_tokens, state: $prune_uniform, wire: 0}
  prefill_2: {node: prefill, llm: $load_model.llm, inputs: $prune_uniform}
"""

CHAINS: dict[str, Chain] = {"pruned": Chain(pruned, PRUNED, {"checkpoint": str, "image": Path})}
