"""A checkpoint looked at without reading weights: its parts, checked against their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path

from ..errors import CheckpointError
from .clip_shapes import ASSUMED, clip_of_tensors
from .configs import Files, Json, language_config, qwen_tower_config, read_json, tower_config
from .facts import (
    chat_facts,
    feature_choice,
    image_facts,
    language_facts,
    plain_image_facts,
    qwen_image_facts,
    qwen_tower_facts,
    tower_facts,
)
from .given import Given
from .handle import ImageFacts, ModelFacts, ProjectorFacts
from .headers import Stored, has_weights, stored_in
from .hub import tower_folder
from .intern_parts import open_intern
from .names import ROUTES, TOWER_ROUTES, Part, route
from .packer import KIND, is_packer, packer_facts, packer_levels
from .pvc_parts import take_pvc
from .sections import Checkpoint as Checkpoint
from .sections import Section as Section
from .sections import language_section
from .strict import compare, fold, linears, projector_shapes, refuse, tower_shapes


def open_checkpoint(folder: Path, shown: str, given: Given | None = None) -> Checkpoint:
    """Everything about a LLaVA, Qwen2.5-VL or InternVL checkpoint that its JSON files and headers say.

    shown: what the user called it. given: what stands before its config.json. Errors: CheckpointError for
    unknown layouts and families, for what is given and means nothing here, and one that lists every missing,
    unknown or misshapen tensor.
    """
    files = Files.read(folder, shown, given)
    _refuse_adapters(folder, shown)
    if files.layout != "original":  # which is refused before looking for weights if it is neither
        files.given.refuse(shown, "vision_tower", "holds its tower")
        files.given.refuse(shown, "patch_num", "has another way to cut pictures")
    stored, pvc = take_pvc(files, stored_in(folder, shown))
    parts, problems = _split(stored)
    packs = is_packer(parts["projector"])
    if not packs:
        files.given.refuse(shown, "scale_factor", "has a projector that is no TokenPacker")
    if files.layout == "qwen":
        return _qwen(files, parts, problems, shown)
    if files.layout == "intern":
        return open_intern(files, parts, problems, shown, pvc)
    apart, tower = _tower(files, parts["tower"], problems)
    image_tower = _image_tower(files, tower, parts["image_tower"], problems)
    family, config = language_config(files)
    language = language_section(family, config, parts["language"], problems)
    layer, feature = feature_choice(files, tower.family == "clip")
    layer = min(layer + tower.cut, -1) if tower.cut else layer  # the same layer, or the last that there is
    tower_part = tower_facts(tower.family, tower.config, layer, feature, str(folder / "config.json"))
    tower_part = replace(tower_part, assumed=tower.assumed)
    image_part = tower_part if image_tower else None
    if image_tower:  # what the configuration says of [CLS] is for pictures; frames of a clip always keep it
        tower_part = replace(tower_part, select_feature="cls_patch")
    widths = tower_part.hidden, config["hidden_size"]
    found = parts["projector"] | parts["newline"]
    kind = KIND if packs else _projector_kind(files)
    projector = _projector(kind, *widths, found, problems, files)
    refuse(shown, problems)
    preprocessor = read_json(apart / "preprocessor_config.json") if apart else {}
    preprocessor = preprocessor or files.preprocessor
    facts = ModelFacts(
        name=shown,
        tower=tower_part,
        projector=packer_facts(found, *widths, files, "load_model", tower_part.depth)
        if packs
        else ProjectorFacts(
            kind=kind, inputs=widths[0], outputs=widths[1], newline="image_newline" in projector.tensors
        ),
        language=language_facts(family, config, files),
        chat=chat_facts(family, files, shown),
        image=image_facts(files, tower_part, preprocessor),
    )
    return Checkpoint(folder, apart, facts, tower, projector, language, image_tower, image_part)


def open_tower(folder: Path, shown: str, select_layer: int, select_feature: str) -> Checkpoint:
    """A plain CLIP, SigLIP or InternViT folder."""
    where = str(folder / "config.json")
    raw = Files.read(folder, shown).config
    tower = _tower_section(folder, raw, where, shown)
    facts = tower_facts(tower.family, tower.config, select_layer, select_feature, where)
    preprocessor = read_json(folder / "preprocessor_config.json")
    image = ImageFacts(**plain_image_facts(facts, preprocessor, where))
    return Checkpoint(folder, None, ModelFacts(name=shown, tower=facts, image=image), tower=tower)


def open_projector(
    folder: Path, stored: Mapping[str, Stored], shown: str, kind: str | None, given: Given | None = None
) -> Checkpoint:
    """The projector among these tensors; its kind is guessed from their names unless given."""
    found: dict[str, Stored] = {}
    for name, tensor in stored.items():
        routed = route(name)
        if routed and routed[0] in ("projector", "newline"):
            found[routed[1]] = tensor
    if is_packer(found):
        return _packer(folder, found, shown, given or Given())
    if given is not None:
        given.refuse(shown, "scale_factor", "has a projector that is no TokenPacker", "load_projector")
    if "ln_q.weight" in found:
        return _merger(folder, found, shown)
    if any(tensor.name.startswith("mlp1.") for tensor in found.values()):
        raise CheckpointError(
            f"{shown}: InternVL's projector, of which no tensor says how many patches are a token; use "
            "load_model, which reads that from config.json"
        )
    weights = sorted(
        (n for n in found if n.endswith("weight")), key=lambda n: int(n.split(".")[0]) if "." in n else 0
    )
    if not weights and kind != "identity":
        raise CheckpointError(
            f"{shown}: no projector there; wanted tensors called model.mm_projector.*, mm_projector.* or "
            f"multi_modal_projector.*"
        )
    guessed = "linear" if weights == ["weight"] else f"mlp{len(weights)}x_gelu"
    kind = kind or guessed
    linears(kind)
    first, last = (found[weights[0]].shape, found[weights[-1]].shape) if weights else ((0, 0), (0, 0))
    if len(first) != 2 or len(last) != 2:
        raise CheckpointError(
            f"{shown}: projector weights have shapes {list(first)} and {list(last)}, wanted 2 axes"
        )
    facts = ProjectorFacts(kind=kind, inputs=first[1], outputs=last[0], newline="image_newline" in found)
    problems = compare("projector", _with_newline(kind, first[1], last[0], found), found)
    refuse(shown, problems)
    return Checkpoint(
        folder, None, ModelFacts(name=shown, projector=facts), projector=Section(kind, {}, found)
    )


def _packer(folder: Path, found: Mapping[str, Stored], shown: str, given: Given) -> Checkpoint:
    """A TokenPacker, and what a config.json beside it says, as the first stage of training writes one."""
    query, last = (found.get(name) for name in ("q_proj_1.weight", "mlp.2.weight"))
    width, outputs = (tensor.shape[0] if tensor and tensor.shape else 1 for tensor in (query, last))
    wanted = projector_shapes(KIND, width, outputs, packer_levels(found, width))
    refuse(shown, compare("projector", wanted, found))
    config = read_json(folder / "config.json") | given.config
    files = Files(folder, config, {}, {}, {}, {}, given)
    facts = packer_facts(found, width, outputs, files, "load_projector")
    return Checkpoint(
        folder, None, ModelFacts(name=shown, projector=facts), projector=Section(KIND, {}, found)
    )


def _qwen(
    files: Files, parts: Mapping[Part, dict[str, Stored]], problems: list[str], shown: str
) -> Checkpoint:
    """A Qwen2.5-VL checkpoint, whose projector is the patch merger."""
    config = qwen_tower_config(files)
    problems += compare("vision tower", tower_shapes("qwen2_5_vl", config), parts["tower"])
    family, text = language_config(files)
    language = language_section(family, text, parts["language"], problems)
    tower = qwen_tower_facts(config)
    projector = ProjectorFacts(
        kind=f"merger{tower.merge}x{tower.merge}", inputs=tower.hidden, outputs=text["hidden_size"]
    )
    wanted = projector_shapes(projector.kind, projector.inputs, projector.outputs)
    problems += compare("projector", wanted, parts["projector"] | parts["newline"])
    refuse(shown, problems)
    facts = ModelFacts(
        name=shown,
        tower=tower,
        projector=projector,
        language=language_facts(family, text, files),
        chat=chat_facts(family, files, shown),
        image=qwen_image_facts(files, tower),
    )
    return Checkpoint(
        files.folder,
        None,
        facts,
        Section(family, config, parts["tower"]),
        Section(projector.kind, {}, parts["projector"]),
        language,
    )


def _merger(folder: Path, found: Mapping[str, Stored], shown: str) -> Checkpoint:
    """A Qwen2.5-VL merger alone; its sizes are read off its tensors."""
    width, group, out = (
        found[name].shape[0] if name in found else 0
        for name in ("ln_q.weight", "mlp.0.weight", "mlp.2.weight")
    )
    merge = isqrt(group // width) if width else 0
    facts = ProjectorFacts(kind=f"merger{merge}x{merge}", inputs=width, outputs=out)
    refuse(shown, compare("projector", projector_shapes(facts.kind, width, out), found))
    return Checkpoint(
        folder, None, ModelFacts(name=shown, projector=facts), projector=Section(facts.kind, {}, found)
    )


def _split(stored: Mapping[str, Stored]) -> tuple[dict[Part, dict[str, Stored]], list[str]]:
    """Tensors by part and canonical name; and sentences about unknown and doubled ones."""
    parts: dict[Part, dict[str, Stored]] = {
        "tower": {}, "image_tower": {}, "projector": {}, "newline": {}, "language": {}, "ignored": {}
    }  # fmt: skip
    unknown: dict[str, tuple[int, ...] | str] = {}
    problems: list[str] = []
    for name, tensor in stored.items():
        routed = route(name, ROUTES)
        if routed is None:
            unknown[name] = tensor.shape
            continue
        part, canonical = routed
        if part != "ignored" and canonical in parts[part]:
            problems.append(f"two tensors for the same place: {parts[part][canonical].name} and {name}")
        parts[part][canonical] = tensor
    if unknown:
        problems.append(_unknown(unknown))
    return parts, problems


def _unknown(shapes: Mapping[str, tuple[int, ...] | str]) -> str:
    noun = "tensor" if len(shapes) == 1 else "tensors"
    return f"{len(shapes)} {noun} of no known part: {fold(shapes)}"


def _tower(files: Files, inside: Mapping[str, Stored], problems: list[str]) -> tuple[Path | None, Section]:
    """The tower's folder when it lies apart, and the tower; weights inside the checkpoint win."""
    if files.layout == "hf":
        where = f"{files.folder / 'config.json'}, vision_config"
        family, config = tower_config(files.config.get("vision_config") or {}, where)
        problems += compare("vision tower", tower_shapes(family, config), inside)
        return None, Section(family, config, inside)
    config = files.config
    named = files.given.tower or config.get("mm_vision_tower") or config.get("vision_tower") or ""
    if not isinstance(named, str) or not named:
        raise CheckpointError(
            f"{files.folder / 'config.json'}: mm_vision_tower is "
            f"{files.config.get('mm_vision_tower')!r}, wanted a name"
        )
    whose = "" if files.given.vision_tower is None else "load_model.vision_tower"
    try:
        apart = tower_folder(files.folder, named, weights=not inside, whose=whose)
    except CheckpointError:
        read_off = None if whose else clip_of_tensors(named, inside)
        if read_off is None:
            raise
        family, config = tower_config(read_off, str(files.folder))
        problems += compare("vision tower", tower_shapes(family, config), inside)
        return None, Section(family, config, inside, assumed=ASSUMED)
    raw, where = Files.read(apart, named).config, str(apart / "config.json")
    if not inside:
        if apart.is_relative_to(files.folder):
            return apart, _tower_section(apart, raw, where, str(apart))
        beside = "" if Path(named).is_absolute() else str(files.folder / named)
        return apart, _tower_section(apart, raw, where, named, beside)
    family, config = tower_config(raw, where)
    cut = _cut(config, inside) if family == "siglip" else 0
    config["num_hidden_layers"] -= cut
    problems += compare("vision tower", tower_shapes(family, config), inside)
    return apart, Section(family, config, inside, cut=cut)


def _image_tower(
    files: Files, tower: Section, inside: Mapping[str, Stored], problems: list[str]
) -> Section | None:
    """Video-LLaVA's tower for pictures, made like the one for clips; of another model, unknown tensors."""
    if files.config.get("model_type") == "video_llava":
        problems += compare("image tower", tower_shapes(tower.family, tower.config), inside)
        return Section(tower.family, tower.config, inside)
    if inside:
        problems.append(_unknown({stored.name: stored.shape for stored in inside.values()}))
    return None


def _cut(config: Json, inside: Mapping[str, Stored]) -> int:
    """1 for a SigLIP without its last layer, which LLaVA-NeXT's code cuts off since nothing reads it."""
    last = config["num_hidden_layers"] - 1
    return int(last > 0 and not any(name.startswith(f"encoder.layers.{last}.") for name in inside))


def _tower_section(folder: Path, raw: Json, where: str, shown: str, target: str = "") -> Section:
    """A tower from a folder of its own; `target` is where a converted one would be found."""
    family, config = tower_config(raw, where)
    found: dict[str, Stored] = {}
    for name, tensor in stored_in(folder, shown, target).items():
        routed = route(name, TOWER_ROUTES)
        if routed and routed[0] == "tower":
            found[routed[1]] = tensor
    refuse(str(folder), compare("vision tower", tower_shapes(family, config), found))
    return Section(family, config, found)


def _projector(
    kind: str, inputs: int, outputs: int, found: dict[str, Stored], problems: list[str], files: Files
) -> Section:
    if kind == "identity" and inputs != outputs:
        raise CheckpointError(
            f"{files.folder / 'config.json'}: an identity projector between a tower {inputs} wide and "
            f"a language model {outputs} wide"
        )
    wanted = _with_newline(kind, inputs, outputs, found)
    if files.layout == "hf" and files.config["model_type"] in ("llava_next", "llava_onevision"):
        wanted["image_newline"] = (outputs,)
    problems += compare("projector", wanted, found)
    return Section(kind, {}, found)


def _with_newline(
    kind: str, inputs: int, outputs: int, found: Mapping[str, Stored]
) -> dict[str, tuple[int, ...]]:
    newline = {"image_newline": (outputs,)} if "image_newline" in found else {}
    return {**projector_shapes(kind, inputs, outputs, packer_levels(found, inputs)), **newline}


def _projector_kind(files: Files) -> str:
    if files.layout == "original":
        kind = str(files.config.get("mm_projector_type") or "linear")
        if kind == KIND:  # whose tensors all miss
            return kind
        try:
            linears(kind)
        except CheckpointError as error:
            raise CheckpointError(f"{files.folder / 'config.json'}: {error}") from None
        return kind
    act = files.config.get("projector_hidden_act", "gelu")
    if act != "gelu":
        raise CheckpointError(
            f"{files.folder / 'config.json'}: projector_hidden_act {act!r} is not supported; supported: gelu"
        )
    return "mlp2x_gelu"


def _refuse_adapters(folder: Path, shown: str) -> None:
    if (folder / "adapter_config.json").is_file() and not has_weights(folder):
        raise CheckpointError(
            f"{shown}: a LoRA adapter, not a whole model; merge it into its base model first"
        )
