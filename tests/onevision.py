"""A tiny LLaVA-OneVision: the native model, and the same weights in both layouts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoints import TEXT, Names, hf_names, save, shaken, write_json

SIDE, DEPTH, IMAGE, VIDEO = 35, 3, 62, 63  # 5 x 5 patches, pooled 3 x 3; ids of the placeholders
SIGLIP: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": DEPTH, "num_attention_heads": 4,
    "image_size": SIDE, "patch_size": 7, "num_channels": 3,
}  # fmt: skip
QWEN = {**TEXT, "max_position_embeddings": 1024}
PREPROCESSOR: dict[str, Any] = {
    "size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
}  # fmt: skip
PINPOINTS = [[SIDE * rows, SIDE * cols] for rows in range(1, 4) for cols in range(1, 4)]  # (height, width)


def native_onevision(*, tied: bool = False) -> Any:
    """A LlavaOnevisionForConditionalGeneration: maps of four tiles at most, all weights random."""
    import transformers

    torch.manual_seed(6)
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**SIGLIP, vision_use_head=False),
        text_config=transformers.Qwen2Config(**{**QWEN, "tie_word_embeddings": tied}),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio="anyres_max_4",
        tie_word_embeddings=tied,
    )
    return shaken(transformers.LlavaOnevisionForConditionalGeneration(config))


def write_hf(folder: Path, *, names: Names = "4.x", tied: bool = False) -> Any:
    """llava-hf's layout; returns the native model."""
    model = native_onevision(tied=tied)
    tensors = {name: t for name, t in model.state_dict().items() if not (tied and name.startswith("lm_head"))}
    save(folder, hf_names(tensors, names))
    text = {key: value for key, value in QWEN.items() if key != "tie_word_embeddings"}
    write_json(folder / "config.json", {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision",
        "text_config": {"model_type": "qwen2", **text, **({"tie_word_embeddings": True} if tied else {})},
        "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **SIGLIP},
        "image_token_index": IMAGE, "video_token_index": VIDEO, "projector_hidden_act": "gelu",
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_4", "image_grid_pinpoints": PINPOINTS,
    })  # fmt: skip
    write_json(folder / "preprocessor_config.json", {**PREPROCESSOR, "do_pad": True})
    return model


def write_original(folder: Path, *, inside: bool = True, tied: bool = False) -> Any:
    """The LLaVA-NeXT repository's layout; returns the native model.

    inside: the tower lies in the checkpoint, and lacks the last layer that its configuration names; else it
    lies apart, whole, in the subfolder `vision_tower`.
    """
    model = native_onevision(tied=tied)
    tensors: dict[str, Tensor] = {}
    tower: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if match := re.fullmatch(r"model\.vision_tower\.(?:vision_model\.)?(.*)", name):
            tower[f"vision_model.{match[1]}"] = tensor
        elif match := re.fullmatch(r"model\.multi_modal_projector\.linear_(\d)\.(.*)", name):
            tensors[f"model.mm_projector.{2 * int(match[1]) - 2}.{match[2]}"] = tensor
        elif not (tied and name.startswith("lm_head")):
            tensors[name.replace("model.language_model.", "model.")] = tensor
    if inside:
        tensors |= {f"model.vision_tower.vision_tower.{name}": t for name, t in tower.items()}
    else:
        last = {n.replace("layers.0.", f"layers.{DEPTH}."): -t for n, t in tower.items() if "layers.0." in n}
        save(folder / "vision_tower", tower | last)
    save(folder, tensors)
    write_json(folder / "vision_tower" / "config.json", {
        "model_type": "siglip", "vision_config": {**SIGLIP, "num_hidden_layers": DEPTH + 1},
    })  # fmt: skip
    write_json(folder / "vision_tower" / "preprocessor_config.json", PREPROCESSOR)
    write_json(folder / "config.json", {
        "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava", **QWEN,
        "tie_word_embeddings": tied, "mm_vision_tower": "vision_tower", "mm_hidden_size": 32,
        "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "spatial_unpad", "mm_spatial_pool_mode": "bilinear",
        "mm_newline_position": "one_token", "image_aspect_ratio": "anyres_max_4",
        "image_grid_pinpoints": "(1x1),...,(3x3)", "hidden_act": "silu", "tokenizer_model_max_length": 1024,
    })  # fmt: skip
    return model
