"""The parts of a stock transformers model as handles: facts from its configuration, weights in place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, cast
from uuid import uuid4

import torch
from torch import nn

from ..errors import ModelError
from ..models.configs import Files, Json, language_config, tower_config
from ..models.facts import feature_choice, image_facts, language_facts, tower_facts
from ..models.handle import Model, ModelFacts, ProjectorFacts, T_co
from ..models.language import LanguageModel
from ..models.projector import Projector
from ..models.tower import VisionTower
from .shadow import with_sdpa

Family = Literal["llava", "llava_next", "llava_onevision"]
FAMILIES: Mapping[str, Family] = {
    "LlavaForConditionalGeneration": "llava",
    "LlavaNextForConditionalGeneration": "llava_next",
    "LlavaOnevisionForConditionalGeneration": "llava_onevision",
}


@dataclass(frozen=True, kw_only=True)
class LiveModel(Model[T_co], Generic[T_co]):
    """A part that is in memory: `load()` gives it as it is; nothing is read, copied or pooled.

    Its fingerprint is no other object's, and no cache key is made of it.
    """

    part: Any = field(repr=False, compare=False)

    def load(self) -> T_co:
        """The part itself."""
        return cast("T_co", self.part)


@dataclass(frozen=True, kw_only=True)
class Live:
    """A model's parts. image, video: the token ids that stand for visual tokens; -1: there is none."""

    family: Family
    name: str
    vision: LiveModel[VisionTower]
    projector: LiveModel[Projector]
    llm: LiveModel[LanguageModel]
    image: int
    video: int

    @property
    def facts(self) -> ModelFacts:
        """What its configuration says."""
        return self.llm.facts

    @property
    def device(self) -> torch.device:
        """Where its weights lie now."""
        return self.llm.load().device


def live(model: Any) -> Live:
    """Handles around the modules of `model`, whose weights stay where they are.

    Errors: ModelError for an object of another class, a quantised model, one that lies on several devices or
    on none; CheckpointError for a tower or a language model of an unknown family.
    """
    family = _family(model)
    _check_place(model)
    facts = _facts(_files(model), model)
    body = model.model
    projector = body.multi_modal_projector
    print_ = uuid4().hex
    assert facts.tower is not None
    assert facts.projector is not None
    assert facts.language is not None
    tower = VisionTower(body.vision_tower, facts.tower)
    mlp = nn.Sequential(projector.linear_1, projector.act, projector.linear_2)
    projected = Projector(mlp, facts.projector, getattr(body, "image_newline", None))
    layers = _WithHead(with_sdpa(body.language_model), model.lm_head)

    def handle(part: Any, weight: torch.Tensor) -> LiveModel[Any]:
        return LiveModel(
            kind=type(part),
            loader="live",
            folder="",
            fingerprint=f"live-{print_}-{type(part).__name__}",
            dtype=str(weight.dtype).removeprefix("torch."),
            device=str(weight.device),
            facts=facts,
            part=part,
        )

    return Live(
        family=family,
        name=facts.name,
        vision=handle(tower, next(body.vision_tower.parameters())),
        projector=handle(projected, projector.linear_1.weight),
        llm=handle(LanguageModel(layers, facts.language), model.lm_head.weight),
        image=_token(model.config, "image"),
        video=_token(model.config, "video"),
    )


class _WithHead(nn.Module):
    """A body and a head under the names of a ForCausalLM; both belong to another module, too."""

    def __init__(self, body: Any, head: nn.Module) -> None:
        super().__init__()
        self.config = body.config
        self.model, self.lm_head = body, head
        self.training = body.training


def _family(model: Any) -> Family:
    for kind in type(model).__mro__:
        if kind.__module__.startswith("transformers.") and kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__]
    got, wanted = type(model).__name__, ", ".join(FAMILIES)
    todo = "load it with that class's from_pretrained"
    if isinstance(model, str | Path):
        got, todo = repr(str(model)), f"{todo}, or use tokenloom.run(graph, checkpoint=...)"
    elif hasattr(model, "get_base_model"):
        todo = "give model.get_base_model(), which has the adapter's layers in it"
    elif hasattr(model, "_orig_mod"):
        todo = "give the model that was compiled"
    raise ModelError(f"compress.model: {got}; wanted one of transformers' {wanted}; {todo}")


def _check_place(model: Any) -> None:
    if getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None) is not None:
        raise ModelError(
            "compress.model: it is quantised, whose layers hold no plain numbers; load it in bfloat16 or "
            "float16"
        )
    places = sorted({str(tensor.device) for tensor in model.parameters()})
    if len(places) > 1:
        raise ModelError(
            f"compress.model: it lies on {' and '.join(places)}; wanted one device: load it with "
            "device_map={'': 0}, or move it with model.to(...)"
        )
    if places == ["meta"]:
        raise ModelError("compress.model: it has no weights (device meta); load it with from_pretrained")


def _files(model: Any) -> Files:
    """The model's configuration as the JSON files that it would be saved as."""
    config: Json = json.loads(model.config.to_json_string(use_diff=False))
    return Files(Path(type(model).__name__), config, {}, {}, {}, {})


def _facts(files: Files, model: Any) -> ModelFacts:
    where = str(files.folder / "config.json")
    tower_family, tower = tower_config(files.config["vision_config"], f"{where}, vision_config")
    family, text = language_config(files)
    layer, feature = feature_choice(files, tower_family == "clip")
    seen = tower_facts(tower_family, tower, layer, feature, where)
    return ModelFacts(
        name=type(model).__name__,
        tower=seen,
        projector=ProjectorFacts(
            kind="mlp2x_gelu",
            inputs=seen.hidden,
            outputs=text["hidden_size"],
            newline=getattr(model.model, "image_newline", None) is not None,
        ),
        language=replace(language_facts(family, text, files), eos=()),  # what ends an answer, generate says
        image=image_facts(files, seen, {}),
    )


def _token(config: Any, what: str) -> int:
    """The id of a placeholder; transformers' older name for it is its index."""
    for name in (f"{what}_token_id", f"{what}_token_index"):
        value = getattr(config, name, None)
        if value is not None:
            return int(value)
    return -1
