"""The configuration of an OpenAI CLIP tower, read off its tensors.

For a checkpoint that holds its tower and names a folder that only the machine had where it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import PurePath
from typing import Any

from .headers import Stored

HEAD = 64  # width of a head of every CLIP that OpenAI released
ASSUMED = (
    f"the vision tower's configuration is not there; its sizes are read off its tensors, heads of {HEAD} and "
    "quick_gelu are as in OpenAI's"
)


def clip_of_tensors(named: str, tensors: Mapping[str, Stored]) -> dict[str, Any] | None:
    """What config.json of `named` would say; None unless name and tensors are those of an OpenAI CLIP.

    named: as mm_vision_tower has it, e.g. ./clip-vit-large-patch14-336. tensors: by canonical names.
    """
    wanted = ("embeddings.patch_embedding.weight", "embeddings.position_embedding.weight")
    patch, position = (tensors[name].shape if name in tensors else () for name in wanted)
    gate = tensors.get("encoder.layers.0.mlp.fc1.weight")
    openai = re.fullmatch(r"clip-vit-(base|large)-patch\d+(-\d+)?", PurePath(named).name)
    if not openai or len(patch) != 4 or len(position) != 2 or gate is None or patch[0] % HEAD:
        return None
    side = isqrt(max(position[0] - 1, 0))
    if side * side != position[0] - 1:
        return None
    layers = {m[1] for name in tensors if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}
    return {
        "model_type": "clip_vision_model",
        "hidden_size": patch[0],
        "intermediate_size": gate.shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": patch[0] // HEAD,
        "num_channels": patch[1],
        "patch_size": patch[2],
        "image_size": side * patch[2],
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
