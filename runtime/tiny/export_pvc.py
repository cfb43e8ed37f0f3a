"""tiny-pvc in the layout that we propose for PVC: InternVL2's, with tensors of PVC's own (`pvc.yaml`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .export import image_processor, plain_config, renamed, special_ids, write_json
from .pvc import COPIES, SIDE, TIME_WIDTH, TinyPvc

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMES = {
    "vision.embeddings.cls_token": "vision_model.embeddings.class_embedding",
    "vision.embeddings.position_embeddings": "vision_model.embeddings.position_embedding",
    "vision.embeddings.patch_embeddings.projection.": "vision_model.embeddings.patch_embedding.",
    "temporal.temporal_embedder.": "vision_model.temporal_embedder.",
    "projector.": "",
    "llm.": "language_model.",
}
"""Beginnings of names in training, and in the checkpoint; layers of the tower are named below."""
LAYER = {
    "attention.projection_layer.": "attn.proj.",
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "lambda_1": "ls1",
    "lambda_2": "ls2",
    "mlp.": "mlp.",
}
TEMPORAL = {
    "temporal_attn.": "temporal_attn.",
    "temporal_ls": "temporal_ls",
    "adaln.temporal.": "temporal_norm_adaln.",
}


def write_pvc(model: TinyPvc, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Everything but the record of the training."""
    save_file(
        {**renamed(model, _names(model)), **_packed_attention(model)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    write_json(folder / "config.json", _config(model))
    write_json(folder / "generation_config.json", special_ids(tokenizer))
    tokenizer.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", image_processor(model.sizes.side))
    write_json(folder / "tokenloom.json", {"template": "tokenizer"})


def _names(model: TinyPvc) -> dict[str, str]:
    names = dict(NAMES)
    for number in range(model.depth):
        there = f"vision_model.encoder.layers.{number}."
        names |= {f"vision.encoder.layer.{number}.{ours}": there + theirs for ours, theirs in LAYER.items()}
        names |= {f"temporal.layers.{number}.{ours}": there + theirs for ours, theirs in TEMPORAL.items()}
    return names


def _packed_attention(model: TinyPvc) -> dict[str, Tensor]:
    """q, k and v of every layer as one tensor, as InternViT has them."""
    state, packed = model.state_dict(), dict[str, Tensor]()
    for number in range(model.depth):
        for what in ("weight", "bias"):
            parts = [state[f"vision.encoder.layer.{number}.attention.{p}_proj.{what}"] for p in "qkv"]
            packed[f"vision_model.encoder.layers.{number}.attn.qkv.{what}"] = torch.cat(parts).cpu().half()
    return packed


def _config(model: TinyPvc) -> dict[str, Any]:
    sizes, facts = model.sizes, model.facts
    return {
        "architectures": ["PVCInternVLModel"],
        "model_type": "pvc_internvl",
        "torch_dtype": "float16",
        "select_layer": -1,
        "force_image_size": sizes.side,
        "downsample_ratio": 1 / SIDE,
        "ps_version": "v2",
        "dynamic_image_size": False,
        "use_temporal": True,
        "image_repeat_time": COPIES,
        "video_repeat_time": 1,
        "tile_repeat_way": "tile",
        "proposed_pvc_options": {
            "num_temporal_layers": len(facts.layers),
            "adaln_on": list(facts.adaln_on),
            "time_embed": True,
            "time_dim": TIME_WIDTH,
            "time_mode": facts.time,
            "time_scale": facts.time_scale,
            "compressor_adaln": True,
        },
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": model.depth,
            "num_attention_heads": sizes.vision_heads,
            "num_channels": 3,
            "image_size": sizes.side,
            "patch_size": sizes.patch,
            "qkv_bias": True,
            "qk_normalization": False,
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu",
        },
        "llm_config": {**plain_config(model.llm.config), "architectures": ["LlamaForCausalLM"]},
    }
