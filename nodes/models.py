"""Where graphs get their models: handles now, weights when a node first uses one."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from ..runtime.models.chat import ChatFormat
from ..runtime.models.describe import describe_model, describe_projector, describe_tower
from ..runtime.models.given import Given
from ..runtime.models.handle import Model
from ..runtime.models.language import LanguageModel
from ..runtime.models.projector import Projector
from ..runtime.models.tower import VisionTower
from ..runtime.node import node
from ..runtime.widgets import Range

Tower = Literal["auto", "image", "video"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Loaded(NamedTuple):
    """The parts of a checkpoint, as handles."""

    vision: Model[VisionTower]
    projector: Model[Projector]
    llm: Model[LanguageModel]
    chat: Model[ChatFormat]


def _load_model(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    lora_alpha: float | None = None,
    tower: Tower = "auto",
    scale_factor: int | None = None,
    patch_num: int | None = None,
    vision_tower: str | None = None,
) -> Loaded:
    given = Given(scale_factor=scale_factor, patch_num=patch_num, vision_tower=vision_tower)
    return Loaded(*describe_model(checkpoint, revision, dtype, device, lora_alpha, tower, given))


@node(version=1, lane="io", foresee=_load_model)
def load_model(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    lora_alpha: Annotated[float, Range(0)] | None = None,
    tower: Tower = "auto",
    scale_factor: Annotated[int, Range(1)] | None = None,
    patch_num: Annotated[int, Range(1)] | None = None,
    vision_tower: str | None = None,
) -> Loaded:
    """Tower, projector, language model and chat format of a checkpoint.

    Read are LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision, PLLaVA, TokenPacker, Video-LLaVA, Qwen2.5-VL and
    InternVL 2, 2.5 and 3 (as released and -hf, with InternLM2, Llama or Qwen2).

    checkpoint: a folder, the name of a bundled checkpoint, or a hub id.
    revision: branch, tag or commit of a hub id.
    dtype: of the weights; auto is float32 on the CPU, bfloat16 or float16 on a GPU.
    device: auto, cpu, cuda, cuda:1, mps.
    lora_alpha: how strongly the LoRA layers of a PLLaVA count, lora_alpha / rank times; null is 14, as on
        MVBench (VCG-Bench: 4; training: 32); refused for a checkpoint without LoRA layers.
    tower: `image` or `video` of a Video-LLaVA, which has two; auto is the one for clips.
    scale_factor: of a TokenPacker whose config.json does not say it, or says it wrongly.
    patch_num: crops of a picture at most, as TokenPacker-HD was trained; its config.json never says it.
    vision_tower: folder or hub id of the tower, where config.json names one that is not there; weights inside
        the checkpoint are taken before those.
    """
    return _load_model(
        checkpoint=checkpoint,
        revision=revision,
        dtype=dtype,
        device=device,
        lora_alpha=lora_alpha,
        tower=tower,
        scale_factor=scale_factor,
        patch_num=patch_num,
        vision_tower=vision_tower,
    )


def _load_vision_tower(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    select_layer: int = -2,
    select_feature: Literal["patch", "cls_patch"] = "patch",
) -> Model[VisionTower]:
    return describe_tower(checkpoint, revision, dtype, device, select_layer, select_feature)


@node(version=1, lane="io", foresee=_load_vision_tower)
def load_vision_tower(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    select_layer: int = -2,
    select_feature: Literal["patch", "cls_patch"] = "patch",
) -> Model[VisionTower]:
    """A CLIP, SigLIP or InternViT vision tower on its own.

    checkpoint: a folder or hub id of the tower alone; that of a whole checkpoint comes with load_model.
    revision: branch, tag or commit of a hub id.
    dtype: of the weights; auto is float32 on the CPU, bfloat16 or float16 on a GPU.
    device: auto, cpu, cuda, cuda:1, mps.
    select_layer: the layer whose output is taken; -2 is the second to last.
    select_feature: patch leaves [CLS] out, cls_patch keeps it.
    """
    return describe_tower(checkpoint, revision, dtype, device, select_layer, select_feature)


def _load_projector(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    kind: str | None = None,
    scale_factor: int | None = None,
) -> Model[Projector]:
    given = Given(scale_factor=scale_factor)
    return describe_projector(checkpoint, revision, dtype, device, kind, given)


@node(version=1, lane="io", foresee=_load_projector)
def load_projector(
    *,
    checkpoint: str,
    revision: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    kind: str | None = None,
    scale_factor: Annotated[int, Range(1)] | None = None,
) -> Model[Projector]:
    """A projector on its own, from `model.mm_projector.*` and the like.

    checkpoint: a safetensors file, or a folder or hub id with a projector among its tensors.
    revision: branch, tag or commit of a hub id.
    dtype: of the weights; auto is float32 on the CPU, bfloat16 or float16 on a GPU.
    device: auto, cpu, cuda, cuda:1, mps.
    kind: linear, identity, mlp2x_gelu, ...; guessed from the tensors when not given.
    scale_factor: of a TokenPacker; null: what the config.json beside it says.
    """
    return _load_projector(
        checkpoint=checkpoint,
        revision=revision,
        dtype=dtype,
        device=device,
        kind=kind,
        scale_factor=scale_factor,
    )
