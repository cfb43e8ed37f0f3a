"""A chain of PVC: a picture as static videos and a clip, encoded, compressed, and answered about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenloom import nodes

from .chains import QUESTION, Chain


def pvc(image: Path, video: Path) -> dict[str, Any]:
    """Defaults for the picture, every setting for the clip."""
    model = nodes.load_model(checkpoint="tiny-random-pvc", dtype="float32", device="cpu")
    frames = nodes.load_image(path=image)
    tiles = nodes.tile_dynamic(model.chat, frames, max_num=2)
    static = nodes.repeat_frames(tiles, model.vision)
    patches = nodes.encode_pvc(model.vision, static)
    visual = nodes.project_pvc(model.projector, patches)
    opened = nodes.load_video(path=video)
    moments = nodes.sample_frames(opened, frames=3, rule="internvl")
    cut = nodes.tile_dynamic(model.chat, moments)
    seen = nodes.repeat_frames(
        cut,
        data_flag="video",
        image_repeat_time=3,
        video_repeat_time=2,
        tile_repeat_way="frame",
        cells="together",
    )
    moving = nodes.encode_pvc(
        model.vision,
        seen,
        temporal_layers=1,
        adaln_on=("temporal",),
        time="index",
        time_scale=0.5,
        layer=-1,
        features="cls_patch",
        max_tiles=2,
        share=False,
    )
    packed = nodes.project_pvc(
        model.projector, moving, adaln=False, time="index", time_scale=0.5, ratio=0.25, version="v1"
    )
    prompt = nodes.render_chat(model.chat, frames, moments, question=QUESTION)
    placed = nodes.place_tokens(model.llm, prompt, visual, packed)
    answer = nodes.generate(model.llm, placed, model.chat, max_new_tokens=3)
    return {
        "load_model": model,
        "load_image": frames,
        "tile_dynamic": tiles,
        "repeat_frames": static,
        "encode_pvc": patches,
        "project_pvc": visual,
        "load_video": opened,
        "sample_frames": moments,
        "tile_dynamic_2": cut,
        "repeat_frames_2": seen,
        "encode_pvc_2": moving,
        "project_pvc_2": packed,
        "render_chat": prompt,
        "place_tokens": placed,
        "generate": answer,
    }


PVC = """
tokenloom: 1
params: {image: {type: path}, video: {type: path}}
nodes:
  load_model: {node: load_model, checkpoint: tiny-random-pvc, dtype: float32, device: cpu}
  load_image: {node: load_image, path: $image}
  tile_dynamic: {node: tile_dynamic, chat: $load_model.chat, frames: $load_image, max_num: 2}
  repeat_frames: {node: repeat_frames, tiles: $tile_dynamic, vision: $load_model.vision}
  encode_pvc: {node: encode_pvc, vision: $load_model.vision, tiles: $repeat_frames}
  project_pvc: {node: project_pvc, projector: $load_model.projector, tokens: $encode_pvc}
  load_video: {node: load_video, path: $video}
  sample_frames: {node: sample_frames, video: $load_video, frames: 3, rule: internvl}
  tile_dynamic_2: {node: tile_dynamic, chat: $load_model.chat, frames: $sample_frames}
  repeat_frames_2:
    node: repeat_frames
    tiles: $tile_dynamic_2
    data_flag: video
    image_repeat_time: 3
    video_repeat_time: 2
    tile_repeat_way: frame
    cells: together
  encode_pvc_2:
    node: encode_pvc
    vision: $load_model.vision
    tiles: $repeat_frames_2
    temporal_layers: 1
    adaln_on: [temporal]
    time: index
    time_scale: 0.5
    layer: -1
    features: cls_patch
    max_tiles: 2
    share: false
  project_pvc_2:
    node: project_pvc
    projector: $load_model.projector
    tokens: $encode_pvc_2
    adaln: false
    time: index
    time_scale: 0.5
    ratio: 0.25
    version: v1
  render_chat:
    node: render_chat
    chat: $load_model.chat
    frames: [$load_image, $sample_frames]
    question: What is it?
  place_tokens:
    node: place_tokens
    llm: $load_model.llm
    prompt: $render_chat
    visual: [$project_pvc, $project_pvc_2]
  generate:
    {node: generate, llm: $load_model.llm, state: $place_tokens, chat: $load_model.chat, max_new_tokens: 3}
"""

CHAINS: dict[str, Chain] = {"pvc": Chain(pvc, PVC, {"image": Path, "video": Path})}
