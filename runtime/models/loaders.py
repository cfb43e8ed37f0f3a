"""What the pool calls to read a part of a checkpoint. Each checks that the files are those of the plan."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError
from .checkpoint import Checkpoint, Section, open_checkpoint, open_tower
from .configs import read_json
from .describe import open_projector_at, part_print
from .device import DTYPES
from .given import Given
from .handle import Model
from .intern import native_language_tensors, native_tower_tensors
from .pool import loader
from .tokenizer_intern import internlm2_tokenizer
from .weights import fill, native_language, native_tower, read_tensors

TOKENIZERS = (
    "PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast",
    "InternLM2Tokenizer",
)  # fmt: skip

T = TypeVar("T")


@loader("llava tower")
def load_llava_tower(handle: Model[Any]) -> Any:
    """The VisionTower of a LLaVA checkpoint."""
    return _tower(handle, _open(handle, "tower"))


@loader("llava image_tower")
def load_llava_image_tower(handle: Model[Any]) -> Any:
    """The VisionTower for pictures of a Video-LLaVA checkpoint."""
    found = _open(handle, "image_tower")
    return _tower(handle, replace(found, tower=found.image_tower))


@loader("plain tower")
def load_plain_tower(handle: Model[Any]) -> Any:
    """The VisionTower of a CLIP or SigLIP folder."""
    facts = _known(handle.facts.tower)
    found = open_tower(Path(handle.folder), handle.facts.name, facts.select_layer, facts.select_feature)
    return _tower(handle, _unchanged(found, "tower", handle))


@loader("llava projector")
def load_llava_projector(handle: Model[Any]) -> Any:
    """The Projector of a LLaVA checkpoint."""
    return _projector(handle, _open(handle, "projector"))


@loader("plain projector")
def load_plain_projector(handle: Model[Any]) -> Any:
    """The Projector of a file or folder."""
    facts = _known(handle.facts.projector)
    file = handle.options.get("file", "")
    found = open_projector_at(Path(handle.folder), file, handle.facts.name, facts.kind, _given(handle))
    return _projector(handle, _unchanged(found, "projector", handle))


@loader("llava language")
def load_llava_language(handle: Model[Any]) -> Any:
    """The LanguageModel of a LLaVA checkpoint."""
    from .language import LanguageModel

    section, dtype = _section(_open(handle, "language").language), DTYPES[handle.dtype]
    tensors = section.tensors
    if section.family == "internlm2":
        tensors = native_language_tensors(tensors, section.config)
    module = fill(
        native_language(section.family, section.config, dtype),
        tensors,
        dtype=dtype,
        device=handle.device,
        tied=section.tied,
        lora=section.lora,
        lora_alpha=_alpha(handle) or 0.0,
    )
    return LanguageModel(module, _known(handle.facts.language))


@loader("llava chat")
def load_llava_chat(handle: Model[Any]) -> Any:
    """The ChatFormat of a LLaVA checkpoint; without tokenizer files it can format, but not tokenise."""
    from .chat import ChatFormat

    found = _open(handle, "chat")
    return ChatFormat(_tokenizer(found), _known(handle.facts.chat))


def _tokenizer(found: Checkpoint) -> Any:
    """The tokenizer exactly as tokenizer.json has it; older files by the class that the checkpoint names."""
    names = {file.name for file in found.tokenizer_files}
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        return None
    import transformers

    settings = read_json(found.folder / "tokenizer_config.json")
    kind, more = settings.get("tokenizer_class", "LlamaTokenizer"), {}
    if "tokenizer.json" in names:
        kind = "PreTrainedTokenizerFast"
    elif kind.startswith("Llama"):  # what the class did by itself when these files were written
        more = {"add_bos_token": settings.get("add_bos_token", True)}
    if kind not in TOKENIZERS:
        raise CheckpointError(
            f"{found.facts.name}: tokenizer {kind!r} is not known; add a tokenizer.json, or use one of "
            f"{', '.join(TOKENIZERS)}"
        )
    try:
        if kind == "InternLM2Tokenizer":
            return internlm2_tokenizer(found.folder)
        return getattr(transformers, kind).from_pretrained(str(found.folder), local_files_only=True, **more)
    except Exception as error:
        raise CheckpointError(
            f"{found.facts.name}: its tokenizer ({', '.join(sorted(names))}) cannot be read: {error}"
        ) from error


def _tower(handle: Model[Any], found: Checkpoint) -> Any:
    from .tower import VisionTower
    from .tower_intern import InternTower
    from .tower_qwen import QwenTower

    section, facts, dtype = _section(found.tower), _known(handle.facts.tower), DTYPES[handle.dtype]
    packed = section.family == "internvit" and not section.config["native"]
    module = fill(
        native_tower(section.family, section.config, dtype),
        native_tower_tensors(section.tensors) if packed else section.tensors,
        dtype=dtype,
        device=handle.device,
        prefix="vision_model.",
    )
    if facts.pvc is not None:
        return _pvc_tower(handle, section, module)
    kinds = {"qwen2_5_vl": QwenTower, "internvit": InternTower}
    return kinds.get(section.family, VisionTower)(module, facts)


def _pvc_tower(handle: Model[Any], section: Section, module: Any) -> Any:
    """An InternViT with what PVC adds to it."""
    from .pvc import TemporalModules
    from .tower_pvc import PvcTower

    facts = _known(handle.facts.tower)
    eps = section.config["layer_norm_eps"]
    made = partial(TemporalModules, facts.hidden, facts.heads, eps, _known(facts.pvc))
    temporal: Any = fill(made, section.added, dtype=DTYPES[handle.dtype], device=handle.device)
    return PvcTower(module, facts, temporal)


def _projector(handle: Model[Any], found: Checkpoint) -> Any:
    from .projector import Projector, build_projector

    section, facts = _section(found.projector), _known(handle.facts.projector)
    dtype, tensors = DTYPES[handle.dtype], dict(section.tensors)
    line = tensors.pop("image_newline", None)
    newline = None if line is None else read_tensors({"": line}, dtype=dtype, device=handle.device)[""]
    if facts.pvc is not None:
        tensors = {f"mlp1.{name}": tensor for name, tensor in tensors.items()} | dict(section.added)
    module = fill(lambda: build_projector(facts), tensors, dtype=dtype, device=handle.device)
    return Projector(module, facts, newline)


def _open(handle: Model[Any], part: str) -> Checkpoint:
    found = open_checkpoint(Path(handle.folder), handle.facts.name, _given(handle))
    return _unchanged(found, part, handle)


def _unchanged(found: Checkpoint, part: str, handle: Model[Any]) -> Checkpoint:
    if part_print(found, part, _alpha(handle)) != handle.fingerprint:
        raise CheckpointError(f"{handle.facts.name}: its files changed after the run was planned; run again")
    return found


def _alpha(handle: Model[Any]) -> float | None:
    """How strongly LoRA layers count; None for a model without."""
    return float(handle.options["lora_alpha"]) if "lora_alpha" in handle.options else None


def _given(handle: Model[Any]) -> Given:
    """What stands before config.json."""
    return Given.load(handle.options.get("given", ""))


def _section(section: Section | None) -> Section:
    assert section is not None, "a handle of a part that its checkpoint lacks"
    return section


def _known(facts: T | None) -> T:
    assert facts is not None, "a handle without the facts of its own part"
    return facts
