"""InternVL checkpoints: InternViT, pixel shuffle, and InternLM2, Llama or Qwen2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import CheckpointError
from .configs import Files, language_config, tower_config
from .facts import chat_facts, language_facts, plain_image_facts, tower_facts
from .handle import ImageFacts, ModelFacts, ProjectorFacts, TowerFacts
from .headers import Stored
from .intern_hf import as_released
from .names import Part
from .pvc_parts import PvcParts
from .sections import Checkpoint, Section, language_section
from .strict import compare, projector_shapes, refuse, tower_shapes

KIND = "pixel_shuffle"


def open_intern(
    files: Files,
    parts: Mapping[Part, dict[str, Stored]],
    problems: list[str],
    shown: str,
    pvc: PvcParts | None = None,
) -> Checkpoint:
    """Its parts, checked against its configuration.

    parts: its tensors by part, as their files call them. problems: what is wrong with them so far. pvc: what
    a PVC checkpoint has beside them. Errors: CheckpointError for values that cannot be, and one that lists
    every wrong tensor.
    """
    where = str(files.folder / "config.json")
    if files.config["model_type"] == "internvl":
        files, parts = as_released(files, parts)
    family, config = tower_config(files.config["vision_config"], f"{where}, vision_config")
    problems += compare("vision tower", tower_shapes(family, config), parts["tower"])
    language_family, text = language_config(files)
    language = language_section(language_family, text, parts["language"], problems)
    tower = intern_tower_facts(files, config, where)
    projector = shuffle_facts(files, tower, text["hidden_size"], where)
    found = parts["projector"] | parts["newline"]
    group = tower.hidden * shuffle_side(projector.ratio, where) ** 2
    problems += compare("projector", projector_shapes(KIND, group, projector.outputs), found)
    if pvc is not None:
        tower, projector = pvc.facts(files, tower, projector, problems)
    refuse(shown, problems)
    facts = ModelFacts(
        name=shown,
        tower=tower,
        projector=projector,
        language=language_facts(language_family, text, files),
        chat=chat_facts(language_family, files, shown),
        image=intern_image_facts(files, tower, where),
    )
    own = pvc.own if pvc is not None else {"tower": {}, "projector": {}}
    section = Section(family, config, parts["tower"], added=own["tower"])
    mlp = Section(KIND, {}, found, added=own["projector"])
    return Checkpoint(files.folder, None, facts, section, mlp, language)


def intern_tower_facts(files: Files, config: Mapping[str, Any], where: str) -> TowerFacts:
    """InternViT: its own layer, and tiles of `force_image_size`, to which its positions are fitted."""
    layer, size = files.config.get("select_layer", -1), files.config.get("force_image_size")
    if type(layer) is not int:
        raise CheckpointError(f"{where}: select_layer is {layer!r}, wanted a whole number")
    facts = tower_facts("internvit", dict(config), layer, "patch", where)
    if size is None:
        return facts
    if type(size) is not int or size < facts.patch:
        raise CheckpointError(
            f"{where}: force_image_size is {size!r}, wanted at least a patch of {facts.patch}"
        )
    return replace(facts, size=size)


def shuffle_facts(files: Files, tower: TowerFacts, outputs: int, where: str) -> ProjectorFacts:
    """Pixel shuffle at the checkpoint's ratio, and its MLP."""
    version = files.config.get("ps_version", "v1")
    if version not in ("v1", "v2"):
        raise CheckpointError(f"{where}: ps_version is {version!r}, wanted v1 or v2")
    ratio = files.config.get("downsample_ratio", 0.5)
    shuffle_side(ratio, where)
    return ProjectorFacts(
        kind=KIND, inputs=tower.hidden, outputs=outputs, ratio=float(ratio), ps_version=version
    )


def shuffle_side(ratio: Any, where: str) -> int:
    """Patches along the side of a group, 1 / ratio; a CheckpointError when that is no whole number."""
    if isinstance(ratio, int | float) and 0 < ratio <= 1 and abs(1 / ratio - round(1 / ratio)) < 1e-6:
        return round(1 / ratio)
    raise CheckpointError(f"{where}: downsample_ratio is {ratio!r}, wanted 1, 0.5, 0.25 or the like")


def intern_image_facts(files: Files, tower: TowerFacts, where: str) -> ImageFacts:
    """Pictures cut into tiles on the grid that fits them best, or squeezed if dynamic_image_size is off."""
    plain = plain_image_facts(tower, files.preprocessor, where)
    if not files.config.get("dynamic_image_size", False):
        return ImageFacts(**plain)
    least, most = files.config.get("min_dynamic_patch", 1), files.config.get("max_dynamic_patch", 6)
    if type(least) is not int or type(most) is not int or not 1 <= least <= most:
        raise CheckpointError(
            f"{where}: {least!r} to {most!r} tiles (min_dynamic_patch, max_dynamic_patch), wanted 1 or more, "
            "rising"
        )
    thumbnail = bool(files.config.get("use_thumbnail", False))
    return ImageFacts(**{**plain, "aspect": "dynamic"}, min_tiles=least, max_tiles=most, thumbnail=thumbnail)
