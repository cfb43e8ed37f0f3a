"""Handles of a checkpoint's parts: fingerprints and facts from headers and JSON, never weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError
from .checkpoint import Checkpoint, Section, open_checkpoint, open_projector, open_tower
from .device import pick_device, pick_dtype
from .given import Given
from .handle import Model
from .headers import read_header, stored_in
from .hub import resolve
from .identity import fingerprint
from .lora import chosen_alpha


class Handles(NamedTuple):
    """The four parts of a LLaVA checkpoint, as handles."""

    vision: Model[Any]
    projector: Model[Any]
    llm: Model[Any]
    chat: Model[Any]


def describe_model(
    checkpoint: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    lora_alpha: float | None = None,
    tower: str = "auto",
    given: Given | None = None,
) -> Handles:
    """Handles of the tower, projector, language model and chat format of a checkpoint.

    tower: `video` or `image` of a Video-LLaVA, which has two; `auto`: its video tower.
    lora_alpha: how strongly the LoRA layers of a checkpoint that has some count; None: 14.
    given: what stands before its config.json.
    Errors: CheckpointError for whatever is wrong with its files, LoomError for an impossible device.
    """
    from .chat import ChatFormat
    from .language import LanguageModel
    from .projector import Projector
    from .tower import VisionTower

    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    found = open_checkpoint(resolve(checkpoint, revision), checkpoint, given)
    alpha = chosen_alpha(checkpoint, found.language.lora if found.language else {}, lora_alpha)

    def handle(kind: type[Any], part: str, alpha: float | None = None) -> Model[Any]:
        return _handle(kind, f"llava {part}", found, part, dtype, device, alpha, given)

    vision = handle(VisionTower, "tower")
    if tower != "auto" and found.image_tower is None:
        raise CheckpointError(
            f"load_model.tower: {tower}, but {checkpoint} has one tower for pictures and clips; leave it out"
        )
    if tower == "image":
        vision = replace(
            handle(VisionTower, "image_tower"), facts=replace(found.facts, tower=found.image_tower_facts)
        )
    return Handles(
        vision,
        handle(Projector, "projector"),
        handle(LanguageModel, "language", alpha),  # two strengths are two models; the other parts are shared
        handle(ChatFormat, "chat"),
    )


def describe_tower(
    checkpoint: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    select_layer: int = -2,
    select_feature: str = "patch",
) -> Model[Any]:
    """A handle of a plain CLIP or SigLIP tower."""
    from .tower import VisionTower

    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    found = open_tower(resolve(checkpoint, revision), checkpoint, select_layer, select_feature)
    return _handle(VisionTower, "plain tower", found, "tower", dtype, device)


def describe_projector(
    checkpoint: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    kind: str | None = None,
    given: Given | None = None,
) -> Model[Any]:
    """A handle of a projector, from a safetensors file or a folder with one among other tensors."""
    from .projector import Projector

    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    file = Path(os.path.expanduser(checkpoint))
    if file.is_file():
        folder, name = file.resolve().parent, file.name
    else:
        folder, name = resolve(checkpoint, revision), ""
    found = open_projector_at(folder, name, checkpoint, kind, given)
    handle = _handle(Projector, "plain projector", found, "projector", dtype, device, given=given)
    return replace(handle, options={**handle.options, "file": name}) if name else handle


def open_projector_at(
    folder: Path, file: str, shown: str, kind: str | None, given: Given | None = None
) -> Checkpoint:
    """The projector in one file of a folder, or in the folder's weights."""
    if file and not file.endswith(".safetensors"):
        raise CheckpointError(
            f"{shown}: not a .safetensors file; write one with\n  tokenloom convert SRC DST"
        )
    stored = read_header(folder / file) if file else stored_in(folder, shown)
    return open_projector(folder, stored, shown, kind, given)


def _handle(
    kind: type[Any],
    loader: str,
    found: Checkpoint,
    part: str,
    dtype: str,
    device: str,
    lora_alpha: float | None = None,
    given: Given | None = None,
) -> Model[Any]:
    options = {} if lora_alpha is None else {"lora_alpha": repr(lora_alpha)}
    if given:
        options["given"] = given.dump()
    return Model(
        kind=kind,
        loader=loader,
        folder=str(found.folder),
        fingerprint=part_print(found, part, lora_alpha),
        dtype=dtype,
        device=device,
        facts=found.facts,
        options=options,
    )


def part_print(checkpoint: Checkpoint, part: str, lora_alpha: float | None = None) -> str:
    """Fingerprint of one part: its files, configuration, and every fact that travels with the handle."""
    facts = asdict(replace(checkpoint.facts, name=""))
    if part == "chat":
        return fingerprint(checkpoint.tokenizer_files, part, facts)
    section: Section = getattr(checkpoint, part)
    config = json.loads(json.dumps(section.config))
    more: list[Any] = [] if lora_alpha is None else [lora_alpha]
    if section.added:  # a data file says which tensor is what
        more += [{ours: tensor.name for ours, tensor in {**section.tensors, **section.added}.items()}]
    return fingerprint(_files(section), part, section.family, config, facts, *more)


def _files(section: Section) -> Iterable[Path]:
    updates = [half for update in section.lora.values() for half in (update.down, update.up)]
    return {tensor.file for tensor in (*section.tensors.values(), *section.added.values(), *updates)}
