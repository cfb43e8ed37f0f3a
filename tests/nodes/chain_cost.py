"""Chains with what a prompt costs, tokens pruned between two layers; and with a choice that is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import Chain


def measured(checkpoint: str, image: Path) -> dict[str, Any]:
    """Before anything has run, relative to what the tower gave; and after a prune."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    pooled = nodes.pool_tokens(patches, grid=(4, 5))
    visual = nodes.project_mlp(model.projector, pooled)
    prompt = nodes.render_chat(model.chat, frames, question="Why?")
    placed = nodes.place_tokens(model.llm, prompt, visual)
    early = nodes.measure_cost(model.llm, placed, patches, new_tokens=7)
    half = nodes.prefill(model.llm, placed, until=1)
    pruned = nodes.prune_uniform(half, ratio=0.4, select="global", rewrite_cache=False)
    state = nodes.prefill(model.llm, pruned)
    late = nodes.measure_cost(model.llm, state, causal=True)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "pool_tokens": pooled,
        "project_mlp": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "measure_cost": early,
        "prefill": half,
        "prune_uniform": pruned,
        "prefill_2": state,
        "measure_cost_2": late,
    }


MEASURED = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  pool_tokens: {node: pool_tokens, tokens: $encode_vision, grid: [4, 5]}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $pool_tokens}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $load_image, question: Why?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_mlp}
  measure_cost:
    {node: measure_cost, llm: $load_model.llm, state: $place_tokens, full: $encode_vision, new_tokens: 7}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens, until: 1}
  prune_uniform: {node: prune_uniform, state: $prefill, ratio: 0.4, select: global, rewrite_cache: false}
  prefill_2: {node: prefill, llm: $load_model.llm, inputs: $prune_uniform}
  measure_cost_2: {node: measure_cost, llm: $load_model.llm, state: $prefill_2, causal: true}
"""


def chosen(checkpoint: str, image: Path) -> dict[str, Any]:
    """A question with options, the first words of its answer given, and whether the answer is right."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    visual = nodes.project_mlp(model.projector, patches)
    prompt = nodes.render_chat(
        model.chat,
        frames,
        question="What is it?",
        options=("A cat.", "A house."),
        template="pllava_mvbench",
        instruction="\nOnly give the best option.",
        answer_prefix="Best option:(",
    )
    placed = nodes.place_tokens(model.llm, prompt, visual)
    answer = nodes.generate(model.llm, placed, model.chat, max_new_tokens=4)
    checked = nodes.check_choice(answer.answer, options=("A cat.", "A house."), gold="A house.")
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "generate": answer,
        "check_choice": checked,
    }


CHOSEN = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  render_chat:
    node: render_chat
    chat: $load_model.chat
    frames: $load_image
    question: What is it?
    options: [A cat., A house.]
    template: pllava_mvbench
    instruction: "\\nOnly give the best option."
    answer_prefix: "Best option:("
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_mlp}
  generate:
    {node: generate, llm: $load_model.llm, state: $place_tokens, chat: $load_model.chat, max_new_tokens: 4}
  check_choice:
    {node: check_choice, answer: $generate.answer, options: [A cat., A house.], gold: A house.}
"""

CHAINS = {
    "measured": Chain(measured, MEASURED, {"checkpoint": str, "image": Path}),
    "chosen": Chain(chosen, CHOSEN, {"checkpoint": str, "image": Path}),
}
