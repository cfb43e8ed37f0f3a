"""A TokenPacker in a checkpoint: known by its tensors' names, for configurations call it anything.

Released ones say `mlp2x_gelu` or `tokenpacker`, and no tensor's shape tells the scale factor: it stands in
config.json as `scale_factor` (before July 2024: `down_rate`), or load_model must be told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import CheckpointError
from .configs import Files, whole
from .handle import ProjectorFacts
from .headers import Stored
from .tokenpacker import check_heads, usual_heads

KIND = "tokenpacker"
RELEASED = (12, 16, 22, 23)  # layers of CLIP's 24 that released ones read
_PARTS = ("q_proj_1.", "k_proj_1.", "v_proj_1.", "ln_q_1.", "ln_k_1.", "ln_v_1.", "clip_attn.")
_SCALES = ("scale_factor", "down_rate")
_LAYERS = "mm_projector_levels"  # our key; released configurations do not say which layers are read


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
    found: Mapping[str, Stored], width: int, outputs: int, files: Files, where: str, depth: int | None = None
) -> ProjectorFacts:
    """Shape, heads, the layers that it reads, and the scale factor with who said it.

    where: the node that was given what is in `files.given`. depth: layers of the tower, None: not known.
    Errors: CheckpointError for a scale factor, number of heads or layers that cannot be.
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
        layers=_layers(config.get(_LAYERS), packer_levels(found, width), depth, file),
    )


def _layers(value: Any, levels: int, depth: int | None, file: str) -> tuple[int, ...] | None:
    """As the configuration says, else the released ones of a tower that has them; None: nobody knows."""
    if value is None:
        deep = depth is None or depth >= max(RELEASED)
        return RELEASED if deep and levels == len(RELEASED) else None
    if not isinstance(value, list) or any(type(layer) is not int for layer in value):
        raise CheckpointError(f"{file}: {_LAYERS} is {value!r}, wanted a list of layers such as [1, 2, 3, 4]")
    if len(value) != levels:
        raise CheckpointError(f"{file}: {_LAYERS} are {len(value)} layers, the weights read {levels}")
    if depth is not None and not all(-depth - 1 <= layer <= depth for layer in value):
        raise CheckpointError(f"{file}: {_LAYERS} is {value!r}, the tower has layers {-depth - 1}..{depth}")
    return tuple(value)


def _heads(value: Any, width: int, file: str) -> int:
    return check_heads(f"{file}: tiny_num_heads", width, whole(value, "tiny_num_heads", file))
