"""InternVL in the layout of transformers (InternVL3-*-hf), in the words of the released one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import CheckpointError
from .configs import Files, Json
from .headers import Stored
from .names import Part

PROJECTOR = (("norm.", "0."), ("0.", "1."), ("2.", "3."))  # as routed, and as `mlp1` counts its parts
VISION = {"attention_bias": "qkv_bias", "use_qk_norm": "qk_normalization"}
USUAL: Json = {  # InternVLVisionConfig's defaults
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "hidden_act": "gelu", "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "image_size": 448,
    "patch_size": 14, "num_channels": 3, "attention_bias": False, "use_qk_norm": False,
}  # fmt: skip


def as_released(
    files: Files, parts: Mapping[Part, dict[str, Stored]]
) -> tuple[Files, dict[Part, dict[str, Stored]]]:
    """Configuration and tensors of `internvl` as `internvl_chat` would have them; its tower stays native.

    Errors: CheckpointError for features with [CLS], and for tiles that are no squares.
    """
    config, where = files.config, str(files.folder / "config.json")
    strategy = config.get("vision_feature_select_strategy", "default")
    if strategy != "default":
        raise CheckpointError(f"{where}: vision_feature_select_strategy is {strategy!r}, wanted 'default'")
    given = files.preprocessor
    released: Json = {
        "select_layer": config.get("vision_feature_layer", -1),
        "downsample_ratio": config.get("downsample_ratio", 0.5),
        "ps_version": "v2",
        "template": config.get("template", "internvl2_5"),
        "dynamic_image_size": given.get("crop_to_patches") is not False,
        "use_thumbnail": True,
        "min_dynamic_patch": given.get("min_patches", 1),
        "max_dynamic_patch": given.get("max_patches", 12),
        "vision_config": _vision(config["vision_config"], f"{where}, vision_config"),
        "llm_config": _language(config, parts["language"]),
        "image_token_id": config.get("image_token_id", 151667),
        "model_type": "internvl_chat",
    }
    return replace(files, config=released), {**parts, "projector": _projector(parts["projector"])}


def _vision(given: Json, where: str) -> Json:
    """InternViT's configuration; `native`: its tensors have native names."""
    told = USUAL | {key: value for key, value in given.items() if key in USUAL and value is not None}
    for key in ("image_size", "patch_size"):
        sides = told[key] if isinstance(told[key], list) else [told[key]]
        if len(set(sides)) != 1:
            raise CheckpointError(f"{where}: {key} is {told[key]!r}, wanted a square")
        told[key] = sides[0]
    renamed = {VISION.get(key, key): value for key, value in told.items()}
    return {**renamed, "model_type": "intern_vit_6b", "native": True}


def _language(config: Json, found: Mapping[str, Stored]) -> Json:
    """A head that is not there is tied: released files do not all say so."""
    text: Json = config.get("text_config") or {}
    return {"model_type": "qwen2", **text, "tie_word_embeddings": "lm_head.weight" not in found}


def _projector(found: Mapping[str, Stored]) -> dict[str, Stored]:
    out: dict[str, Stored] = {}
    for name, stored in found.items():
        became = next((new + name.removeprefix(old) for old, new in PROJECTOR if name.startswith(old)), name)
        out[became] = stored
    return out
