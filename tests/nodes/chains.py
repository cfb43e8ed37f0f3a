"""Every built-in node in a chain from its files down, three times over: see test_three_ways.py.

A chain is one Python function. Called as it is, its nodes run and it returns their values; called inside
`with Graph()` it writes a graph whose steps are called like the keys of what it returns. `text` is that graph
as somebody would write it by hand, and `given` names the parameters of both. Chains of further methods lie in
`chain_*.py` beside this file, each with a `CHAINS` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.needs import Need

QUESTION = "What is it?"


@dataclass(frozen=True)
class Chain:
    """A function, the same as a graph file, parameters by name and type, and what it asks of the tower."""

    write: Callable[..., dict[str, Any]]
    text: str
    given: dict[str, type]
    wanted: frozenset[Need] = frozenset()


def single(checkpoint: str, image: Path) -> dict[str, Any]:
    """VisionZip on one tile, and an answer; the tiles of two more ways to make them."""
    model = nodes.load_model(checkpoint=checkpoint, dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    padded = nodes.pad_square(model.chat, frames, size=40, background=(1, 2, 3))
    cropped = nodes.resize_crop(model.vision, frames, frames, size=30)
    patches = nodes.encode_vision(model.vision, tiles, layer=-3, features="cls_patch")
    picked = nodes.select_dominant(patches, keep=9)
    merged = nodes.merge_contextual(picked.kept, picked.rest, targets=4, merge="mean")
    visual = nodes.project_mlp(model.projector, merged)
    packed = nodes.pack_flat(visual)
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION, history=("Is it red?", "Yes."))
    placed = nodes.place_tokens(model.llm, prompt, packed)
    half = nodes.prefill(model.llm, placed, until=2)
    state = nodes.prefill(model.llm, half)
    logits = nodes.read_logits(model.llm, state, rows="all")
    greedy = nodes.generate(model.llm, state, model.chat, max_new_tokens=5)
    drawn = nodes.generate(model.llm, placed, model.chat, max_new_tokens=5, temperature=0.8, seed=3)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "pad_square": padded,
        "resize_crop": cropped,
        "encode_vision": patches,
        "select_dominant": picked,
        "merge_contextual": merged,
        "project_mlp": visual,
        "pack_flat": packed,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": half,
        "prefill_2": state,
        "read_logits": logits,
        "generate": greedy,
        "generate_2": drawn,
    }


SINGLE = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  pad_square: {node: pad_square, chat: $load_model.chat, frames: $load_image, size: 40, background: [1, 2, 3]}
  resize_crop: {node: resize_crop, chat: $load_model.vision, frames: [$load_image, $load_image], size: 30}
  encode_vision:
    {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, layer: -3, features: cls_patch}
  select_dominant: {node: select_dominant, tokens: $encode_vision, keep: 9}
  merge_contextual:
    node: merge_contextual
    kept: $select_dominant.kept
    rest: $select_dominant.rest
    targets: 4
    merge: mean
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $merge_contextual}
  pack_flat: {node: pack_flat, tokens: $project_mlp}
  render_chat:
    node: render_chat
    chat: $load_model.chat
    frames: $load_image
    question: What is it?
    history: [Is it red?, Yes.]
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $pack_flat}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens, until: 2}
  prefill_2: {node: prefill, llm: $load_model.llm, inputs: $prefill}
  read_logits: {node: read_logits, llm: $load_model.llm, state: $prefill_2, rows: all}
  generate:
    {node: generate, llm: $load_model.llm, state: $prefill_2, chat: $load_model.chat, max_new_tokens: 5}
  generate_2:
    node: generate
    llm: $load_model.llm
    state: $place_tokens
    chat: $load_model.chat
    max_new_tokens: 5
    temperature: 0.8
    seed: 3
"""


def grid(next_checkpoint: str, image: Path) -> dict[str, Any]:
    """A base tile and a grid of tiles, packed whole and after VisionZip."""
    model = nodes.load_model(checkpoint=next_checkpoint, device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.tile_anyres(model.chat, frames, pinpoints=("336x168",), background=(9, 0, 9))
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch", max_tiles=2)
    picked = nodes.select_dominant(patches, preset=160, cls_token="extra")
    merged = nodes.merge_contextual(picked.kept, picked.rest, total=8, order="in_place")
    zipped = nodes.project_mlp(model.projector, merged)
    packed = nodes.pack_visionzip_next(zipped, model.projector, layout="spatial", rounding="hf")
    whole = nodes.project_mlp(model.projector, patches)
    unpadded = nodes.pack_spatial_unpad(whole, model.projector, rounding="int")
    return {
        "load_model": model,
        "load_image": frames,
        "tile_anyres": tiles,
        "encode_vision": patches,
        "select_dominant": picked,
        "merge_contextual": merged,
        "project_mlp": zipped,
        "pack_visionzip_next": packed,
        "project_mlp_2": whole,
        "pack_spatial_unpad": unpadded,
    }


GRID = """
tokenloom: 1
params: {next_checkpoint: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $next_checkpoint, device: cpu}
  load_image: {node: load_image, path: $image}
  tile_anyres:
    node: tile_anyres
    chat: $load_model.chat
    frames: $load_image
    pinpoints: [336x168]
    background: [9, 0, 9]
  encode_vision:
    {node: encode_vision, vision: $load_model.vision, tiles: $tile_anyres, features: cls_patch, max_tiles: 2}
  select_dominant: {node: select_dominant, tokens: $encode_vision, preset: 160, cls_token: extra}
  merge_contextual:
    node: merge_contextual
    kept: $select_dominant.kept
    rest: $select_dominant.rest
    total: 8
    order: in_place
  project_mlp: {node: project_mlp, projector: $load_model.projector, tokens: $merge_contextual}
  pack_visionzip_next:
    node: pack_visionzip_next
    tokens: $project_mlp
    projector: $load_model.projector
    layout: spatial
    rounding: hf
  project_mlp_2: {node: project_mlp, projector: $load_model.projector, tokens: $encode_vision}
  pack_spatial_unpad:
    {node: pack_spatial_unpad, tokens: $project_mlp_2, projector: $load_model.projector, rounding: int}
"""


def clip(checkpoint: str, video: Path) -> dict[str, Any]:
    """Frames of a clip."""
    model = nodes.load_model(checkpoint=checkpoint)
    opened = nodes.load_video(path=video, backend="pyav")
    frames = nodes.sample_frames(opened, frames=3, rule="fps", fps=2, start=0.5, short="fewer")
    tiles = nodes.preprocess(model.chat, frames, aspect="square")
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION)
    return {
        "load_model": model,
        "load_video": opened,
        "sample_frames": frames,
        "preprocess": tiles,
        "render_chat": prompt,
    }


CLIP = """
tokenloom: 1
params: {checkpoint: {type: str}, video: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint}
  load_video: {node: load_video, path: $video, backend: pyav}
  sample_frames:
    {node: sample_frames, video: $load_video, frames: 3, rule: fps, fps: 2, start: 0.5, short: fewer}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $sample_frames, aspect: square}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $sample_frames, question: What is it?}
"""


def looked_at(checkpoint: str, image: Path, mask: Path) -> dict[str, Any]:
    """Attention over a picture, and patches picked by a drawing."""
    model = nodes.load_model(checkpoint=checkpoint)
    frames, drawing = nodes.load_image(path=image), nodes.load_image(path=mask)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles, features="cls_patch")
    heat = nodes.attention_map(patches, layer=-2, index=40)
    overlay = nodes.heatmap_overlay(frames, heat, tiles, alpha=0.25, marker=(30, 20))
    chosen = nodes.mask_to_indices(drawing, patches, stretch=True)
    picked = nodes.select_manual(patches, chosen, indices=(0, 7), include_cls=True)
    preview = nodes.token_mask_preview(frames, picked.kept, cell=6, spill=True)
    return {
        "load_model": model,
        "load_image": frames,
        "load_image_2": drawing,
        "preprocess": tiles,
        "encode_vision": patches,
        "attention_map": heat,
        "heatmap_overlay": overlay,
        "mask_to_indices": chosen,
        "select_manual": picked,
        "token_mask_preview": preview,
    }


LOOKED_AT = """
tokenloom: 1
params: {checkpoint: {type: str}, image: {type: path}, mask: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $checkpoint}
  load_image: {node: load_image, path: $image}
  load_image_2: {node: load_image, path: $mask}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess, features: cls_patch}
  attention_map: {node: attention_map, patches: $encode_vision, layer: -2, index: 40}
  heatmap_overlay:
    node: heatmap_overlay
    frames: $load_image
    heat: $attention_map
    tiles: $preprocess
    alpha: 0.25
    marker: [30, 20]
  mask_to_indices: {node: mask_to_indices, mask: $load_image_2, tokens: $encode_vision, stretch: true}
  select_manual:
    node: select_manual
    tokens: $encode_vision
    chosen: $mask_to_indices
    indices: [0, 7]
    include_cls: true
  token_mask_preview:
    {node: token_mask_preview, frames: $load_image, tokens: $select_manual.kept, cell: 6, spill: true}
"""


def parts(tower: str, checkpoint: str, image: Path) -> dict[str, Any]:
    """Tower and projector on their own."""
    vision = nodes.load_vision_tower(checkpoint=tower, select_layer=-3, select_feature="cls_patch")
    projector = nodes.load_projector(checkpoint=checkpoint, kind="mlp2x_gelu")
    frames = nodes.load_image(path=image)
    tiles = nodes.resize_crop(vision, frames)
    patches = nodes.encode_vision(vision, tiles)
    visual = nodes.project_mlp(projector, patches)
    return {
        "load_vision_tower": vision,
        "load_projector": projector,
        "load_image": frames,
        "resize_crop": tiles,
        "encode_vision": patches,
        "project_mlp": visual,
    }


PARTS = """
tokenloom: 1
params: {tower: {type: str}, checkpoint: {type: str}, image: {type: path}}
nodes:
  load_vision_tower:
    {node: load_vision_tower, checkpoint: $tower, select_layer: -3, select_feature: cls_patch}
  load_projector: {node: load_projector, checkpoint: $checkpoint, kind: mlp2x_gelu}
  load_image: {node: load_image, path: $image}
  resize_crop: {node: resize_crop, chat: $load_vision_tower, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_vision_tower, tiles: $resize_crop}
  project_mlp: {node: project_mlp, projector: $load_projector, tokens: $encode_vision}
"""


def own_size(qwen: str, image: Path) -> dict[str, Any]:
    """A picture of its own size, groups of patches, three-axis positions (Qwen2.5-VL)."""
    model = nodes.load_model(checkpoint=qwen)
    frames = nodes.load_image(path=image)
    tiles = nodes.preprocess(model.chat, frames)
    patches = nodes.encode_vision(model.vision, tiles)
    visual = nodes.project_merger(model.projector, patches)
    prompt = nodes.render_chat(model.chat, frames, question=QUESTION)
    placed = nodes.place_tokens(model.llm, prompt, visual)
    state = nodes.prefill(model.llm, placed)
    answer = nodes.generate(model.llm, state, model.chat, max_new_tokens=3)
    return {
        "load_model": model,
        "load_image": frames,
        "preprocess": tiles,
        "encode_vision": patches,
        "project_merger": visual,
        "render_chat": prompt,
        "place_tokens": placed,
        "prefill": state,
        "generate": answer,
    }


OWN_SIZE = """
tokenloom: 1
params: {qwen: {type: str}, image: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: $qwen}
  load_image: {node: load_image, path: $image}
  preprocess: {node: preprocess, chat: $load_model.chat, frames: $load_image}
  encode_vision: {node: encode_vision, vision: $load_model.vision, tiles: $preprocess}
  project_merger: {node: project_merger, projector: $load_model.projector, tokens: $encode_vision}
  render_chat: {node: render_chat, chat: $load_model.chat, frames: $load_image, question: What is it?}
  place_tokens: {node: place_tokens, llm: $load_model.llm, prompt: $render_chat, visual: $project_merger}
  prefill: {node: prefill, llm: $load_model.llm, inputs: $place_tokens}
  generate: {node: generate, llm: $load_model.llm, state: $prefill, chat: $load_model.chat, max_new_tokens: 3}
"""

ZIP = frozenset({Need("cls_attention"), Need("keys")})
CHAINS: dict[str, Chain] = {
    "single": Chain(single, SINGLE, {"checkpoint": str, "image": Path}, ZIP),
    "grid": Chain(grid, GRID, {"next_checkpoint": str, "image": Path}, ZIP),
    "clip": Chain(clip, CLIP, {"checkpoint": str, "video": Path}),
    "looked_at": Chain(
        looked_at,
        LOOKED_AT,
        {"checkpoint": str, "image": Path, "mask": Path},
        frozenset({Need("attention", -2)}),
    ),
    "parts": Chain(parts, PARTS, {"tower": str, "checkpoint": str, "image": Path}),
    "own_size": Chain(own_size, OWN_SIZE, {"qwen": str, "image": Path}),
}
for _file in sorted(Path(__file__).parent.glob("chain_*.py")):
    CHAINS |= import_module(f".{_file.stem}", __package__).CHAINS
