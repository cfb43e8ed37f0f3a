"""A TokenPacker in a checkpoint: known by its tensors' names, for configurations call it anything.

Released ones say `mlp2x_gelu` or `tokenpacker`, and no tensor's shape tells the scale factor: it stands in
config.json as `scale_factor` (before July 2024: `down_rate`), or load_model must be told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .configs import Files, whole
from .handle import ProjectorFacts
from .headers import Stored
from .tokenpacker import check_heads, usual_heads

KIND = "tokenpacker"
_PARTS = ("q_proj_1.", "k_proj_1.", "v_proj_1.", "ln_q_1.", "ln_k_1.", "ln_v_1.", "clip_attn.")
_SCALES = ("scale_factor", "down_rate")


def is_packer(names: Collection[str]) -> bool:
    """True for canonical names of a projector that is a TokenPacker, whole or not."""
    return any(name.startswith(_PARTS) for name in names)


def packer_levels(found: Mapping[str, Stored], width: int) -> int:
    """How many layers of a tower of this width go into the keys; the released 4 when no tensor tells."""
    weight = found.get("k_proj_1.0.weight")
    if weight is None or len(weight.shape) != 2 or weight.shape[1] % width or not weight.shape[1]:
        return 4
    return weight.shape[1] // width


def packer_facts(
    found: Mapping[str, Stored], width: int, outputs: int, files: Files, where: str
) -> ProjectorFacts:
    """Shape, heads, and the scale factor with who said it.

    where: the node that was given what is in `files.given`. Errors: CheckpointError for a scale factor or
    number of heads that cannot be.
    """
    config, file = files.config, str(files.folder / "config.json")
    key = next((key for key in _SCALES if config.get(key) is not None), None)
    heads = config.get("tiny_num_heads")  # released ones leave it out
    return ProjectorFacts(
        kind=KIND,
        inputs=width,
        outputs=outputs,
        scale_factor=None if key is None else whole(config[key], key, file),
        scale_from="" if key is None else files.given.source(key, where),
        heads=usual_heads(width) if heads is None else _heads(heads, width, file),
        levels=packer_levels(found, width),
    )


def _heads(value: Any, width: int, file: str) -> int:
    return check_heads(f"{file}: tiny_num_heads", width, whole(value, "tiny_num_heads", file))
