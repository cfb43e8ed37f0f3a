"""The arguments of Hugging Face's `generate` that there are here; all others are refused, unless they say
what is true anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from operator import index
from typing import Any, TypeVar

import torch

from ..errors import GraphError, did_you_mean
from .inputs import NAMES

TAKEN = (
    "max_new_tokens",
    "max_length",
    "min_new_tokens",
    "min_length",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "eos_token_id",
    "pad_token_id",
    "generation_config",
)
# arguments of generate that are no fields of a GenerationConfig
OTHERS = (
    "assistant_model",
    "assistant_tokenizer",
    "custom_generate",
    "inputs_embeds",
    "labels",
    "logits_processor",
    "negative_prompt_ids",
    "past_key_values",
    "position_ids",
    "prefix_allowed_tokens_fn",
    "stopping_criteria",
    "streamer",
    "synced_gpus",
    "tokenizer",
    "vision_aspect_ratio",
    "vision_feature_layer",
    "vision_feature_select_strategy",
)
# what changes nothing here: how the plain model holds its cache, and what only beams and assistants read
IDLE = frozenset({
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight",
    "assistant_lookbehind", "bos_token_id", "cache_config", "cache_implementation", "compile_config",
    "continuous_batching_config", "decoder_start_token_id", "disable_compile", "diversity_penalty",
    "early_stopping", "is_assistant", "length_penalty", "low_memory", "max_cache_len",
    "max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "prefill_chunk_size",
    "speculation_type", "target_lookbehind", "transformers_version", "use_cache",
})  # fmt: skip
ONLY_SAMPLING = frozenset({"epsilon_cutoff", "eta_cutoff", "min_p", "top_h", "typical_p"})
NEUTRAL = {  # values that ask for nothing, beside null and false
    "encoder_repetition_penalty": 1.0, "encoder_no_repeat_ngram_size": 0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "guidance_scale": 1.0, "no_repeat_ngram_size": 0, "num_beam_groups": 1,
    "num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0, "typical_p": 1.0,
}  # fmt: skip
T = TypeVar("T")
DEFAULT_TOKENS = 20  # transformers', when nobody says how long the answer may be


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the answers are decoded. eos: the ids that end one. pad: what fills the shorter ones."""

    max_new_tokens: int
    min_new_tokens: int
    temperature: float
    top_p: float | None
    top_k: int | None
    seed: int
    eos: tuple[int, ...]
    pad: int

    def widgets_of(self, row: int) -> dict[str, Any]:
        """The settings of the node `generate`; rows draw by seeds of their own."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "min_new_tokens": self.min_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed + row,
            "stop_ids": self.eos,
        }


def asked_for(model: Any, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `given` says, before the GenerationConfig `config` (if any), before that of the model.

    Errors: GraphError for arguments that there are not, and for those that would change the answer and are
    not done here.
    """
    own = model.generation_config
    usual: dict[str, Any] = type(own)().to_dict()
    said = dict.fromkeys(usual)
    for one in (own, config):
        said |= {} if one is None else {n: v for n, v in one.to_dict().items() if v is not None}
    _check_names(given, said)
    if said["max_length"] == usual["max_length"]:
        said["max_length"] = None  # transformers 5.5 writes its default there
    _check_idle({**said, **given}, usual, given)
    return {**said, **given}


def decoding(said: Mapping[str, Any], *, length: int, longest: int, seed: int | None) -> Decoding:
    """How to decode, of what is asked for.

    length: of the padded prompt. longest: positions of the model. seed: None: drawn from torch's own
    generator, as the plain model's samples are. Errors: GraphError for lengths that leave no room, and for
    a temperature of 0, and for values of another type.
    """
    sampled = bool(said.get("do_sample"))
    eos = _ids(said, "eos_token_id")
    pad = _ids(said, "pad_token_id") or eos or (0,)
    top_k, top_p = _or(_whole(said, "top_k"), 50), _or(_number(said, "top_p"), 1.0)
    return Decoding(
        max_new_tokens=_most(said, length, longest),
        min_new_tokens=max(
            _whole(said, "min_new_tokens") or 0, (_whole(said, "min_length") or 0) - length, 0
        ),
        temperature=_temperature(_or(_number(said, "temperature"), 1.0), sampled),
        top_p=top_p if sampled and top_p < 1 else None,
        top_k=top_k if sampled and top_k else None,
        seed=_seed(_whole({"seed": seed}, "seed")) if sampled else 0,
        eos=eos,
        pad=pad[0],
    )


def padding(said: Mapping[str, Any]) -> int | None:
    """The id that is padding in a prompt without attention_mask; None when an end token may be it."""
    pad, eos = _ids(said, "pad_token_id"), _ids(said, "eos_token_id")
    return pad[0] if pad and pad[0] not in eos else None


def _check_names(given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in OTHERS and not _nothing(value):
            raise GraphError(
                f"generate: {name} is not supported with compressed tokens; supported: {', '.join(TAKEN)}"
            )
        if name not in OTHERS and name not in fields:
            raise GraphError(
                f"generate: no argument is called {name!r}{did_you_mean(name, (*TAKEN, *NAMES))}"
            )


def _check_idle(said: Mapping[str, Any], usual: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a setting, given or the model's own, that would change the answer and is not done here."""
    sampled = bool(said.get("do_sample"))
    for name, value in said.items():
        idle = name in TAKEN or name in OTHERS or name in IDLE or name.startswith("_")
        if idle or _nothing(value) or value in (NEUTRAL.get(name), usual.get(name)):
            continue
        if name in ONLY_SAMPLING and not sampled:
            continue
        whose = "" if name in given else " of the generation_config"
        raise GraphError(
            f"generate: {name}={value!r}{whose} is not supported with compressed tokens; supported: "
            f"{', '.join(TAKEN)}"
        )


def _nothing(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, list | tuple | dict) and not value)


def _most(said: Mapping[str, Any], length: int, longest: int) -> int:
    new, whole = _whole(said, "max_new_tokens"), _whole(said, "max_length")
    if new is not None:
        return new
    if whole is None:
        return max(1, min(DEFAULT_TOKENS, longest - length))
    if whole <= length:
        raise GraphError(
            f"generate.max_length: {whole}, but the prompt has {length} ids already; give max_new_tokens"
        )
    return whole - length


def _temperature(value: float, sampled: bool) -> float:
    if sampled and not value > 0:
        raise GraphError(f"generate.temperature: {value!r}; wanted more than 0, or do_sample=False")
    return value if sampled else 0.0


def _seed(seed: int | None) -> int:
    return int(torch.randint(2**31, ())) if seed is None else seed


def _whole(said: Mapping[str, Any], name: str) -> int | None:
    """An argument that is a whole number, of Python, NumPy or torch."""
    value = said.get(name)
    if value is None:
        return None
    if not isinstance(value, bool):
        with suppress(TypeError):
            return index(value)
    raise GraphError(f"generate.{name}: {value!r} is a {type(value).__name__}, wanted int")


def _number(said: Mapping[str, Any], name: str) -> float | None:
    """An argument that is a finite number."""
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise GraphError(f"generate.{name}: {value!r} is a {type(value).__name__}, wanted a finite number")
    return float(value)


def _ids(said: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """An argument that is an id or several."""
    value = said.get(name)
    if value is None:
        return ()
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    found = [_whole({name: one}, name) for one in (value if isinstance(value, list | tuple) else [value])]
    return tuple(one for one in found if one is not None)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
