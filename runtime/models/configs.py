"""Read the JSON files of a checkpoint: which layout, which families, and complete configurations.

Hub files leave out what equals the class default, so the defaults are written here, where they do not change
with the installed transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError
from .given import Given

Json = dict[str, Any]
Layout = Literal["original", "hf", "qwen", "intern"]
_DEEPEST = 10_000  # layers

DEFAULTS: dict[str, Json] = {
    "clip": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "siglip": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
    "llama": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "mistral": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    },
    "qwen2": {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096,
        "use_sliding_window": False, "max_window_layers": 28, "tie_word_embeddings": False,
    },
    "qwen2_5_vl": {
        "vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 80,
        "tie_word_embeddings": False, "bos_token_id": 151643, "eos_token_id": 151645,
    },
    "internlm2": {
        "vocab_size": 103168, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "bias": True, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    },
    "internvit": {
        "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48, "num_attention_heads": 25,
        "num_channels": 3, "image_size": 224, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm", "native": False,
    },
    "qwen2_5_vl tower": {
        "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "num_heads": 16,
        "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "window_size": 112, "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31],
    },
}  # fmt: skip

# Fields that the native classes read beyond those with defaults above.
CARRIED = {
    "tower": (),
    "language": (
        "num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "rope_parameters", "sliding_window",
        "layer_types", "pad_token_id", "bos_token_id", "eos_token_id",
    ),
}  # fmt: skip

NULLABLE = ("sliding_window",)  # null means something else than absent

LANGUAGE_FAMILIES = {  # model_type, or a word of `architectures` for original checkpoints called "llava"
    "llama": "llama", "llava_llama": "llama", "llavallamaforcausallm": "llama",
    "mistral": "mistral", "llava_mistral": "mistral", "llavamistralforcausallm": "mistral",
    "qwen2": "qwen2", "llava_qwen": "qwen2", "llavaqwenforcausallm": "qwen2",
    "qwen2_5_vl": "qwen2_5_vl", "internlm2": "internlm2",
}  # fmt: skip
TOWER_FAMILIES = {
    "clip": "clip", "clip_vision_model": "clip", "siglip": "siglip", "siglip_vision_model": "siglip",
    "intern_vit_6b": "internvit",
}  # fmt: skip

INTERN_TYPES = ("internvl_chat", "pvc_internvl", "internvl")  # the last in the layout of transformers
HF_TYPES = ("llava", "llava_next", "llava_onevision", "video_llava")


@dataclass(frozen=True)
class Files:
    """The JSON files of one checkpoint folder; those it lacks are empty. `given` stands in `config` too."""

    folder: Path
    config: Json
    preprocessor: Json
    tokenizer: Json
    generation: Json
    extra: Json  # tokenloom.json: what only we know, e.g. that the weights are random
    given: Given = field(default_factory=Given)

    @classmethod
    def read(cls, folder: Path, shown: str, given: Given | None = None) -> Files:
        """Read the folder; CheckpointError without a config.json or with one that is not a JSON mapping."""
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{shown}: no config.json there; wanted the folder of a checkpoint")
        names = ("config", "preprocessor_config", "tokenizer_config", "generation_config", "tokenloom")
        config, *others = (read_json(folder / f"{name}.json") for name in names)
        preprocessor, tokenizer, generation, extra = others
        given = given or Given()
        return cls(folder, config | given.config, preprocessor, tokenizer, generation, extra, given)

    @property
    def layout(self) -> Layout:
        """`original` (liuhaotian) or `hf` (llava-hf); both call themselves `llava`.

        `qwen`: Qwen2.5-VL. `intern`: InternVL as released, or `-hf`.
        """
        nested = self.config.get("vision_config")
        if self.config.get("model_type") == "qwen2_5_vl" and isinstance(nested, dict):
            return "qwen"
        if self.config.get("model_type") in INTERN_TYPES and isinstance(nested, dict):
            return "intern"
        if "mm_vision_tower" in self.config or "mm_projector_type" in self.config:
            return "original"
        if "text_config" in self.config and self.config.get("model_type") in HF_TYPES:
            return "hf"
        kind = self.config.get("model_type")
        raise CheckpointError(
            f"{self.folder / 'config.json'}: model_type {kind!r} is neither an original LLaVA (no "
            f"mm_vision_tower) nor llava-hf's {', '.join(HF_TYPES)} (no text_config)"
        )

    @property
    def pllava(self) -> bool:
        """PLLaVA calls itself `llava` too, in llava-hf's layout; its class or its pooling tells."""
        return "pooling_shape" in self.config or "pllava" in f"{self.config.get('architectures')}".lower()


def read_json(file: Path) -> Json:
    """The mapping in a JSON file; {} when the file is not there."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: holds a {type(value).__name__}, wanted a mapping")
    return value


def language_config(files: Files) -> tuple[str, Json]:
    """Family and complete configuration of the language model."""
    where = str(files.folder / "config.json")
    if files.layout == "original":
        raw, kinds = files.config, [files.config.get("model_type"), *files.config.get("architectures", [])]
    elif files.layout == "qwen":
        raw, kinds = files.config.get("text_config") or files.config, ["qwen2_5_vl"]
    elif files.layout == "intern":
        raw = files.config.get("llm_config") or {}
        kinds, where = [raw.get("model_type")], f"{where}, llm_config"
    else:
        raw = files.config["text_config"]
        kinds = [raw.get("model_type", "llama")]
        where += ", text_config"
    names = [str(kind).lower() for kind in kinds]
    family = next((LANGUAGE_FAMILIES[name] for name in names if name in LANGUAGE_FAMILIES), None)
    if family is None and names == ["llava"]:
        family = "llama"  # released 1.5 configurations without `architectures`
    if family is None:
        raise CheckpointError(
            f"{where}: language model {', '.join(map(str, kinds))} is not known; known: llama, mistral, "
            "qwen2, internlm2"
        )
    config = _complete(family, "language", raw, where)
    if family == "internlm2":
        config = _as_llama(config, where)
    if "vocab_size" not in raw and files.layout == "hf" and "vocab_size" in files.config:
        config["vocab_size"] = files.config["vocab_size"]
    if files.config.get("tie_word_embeddings"):
        config["tie_word_embeddings"] = True
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    _check_sizes(config, where, ("vocab_size", "num_key_value_heads", "head_dim", "max_position_embeddings"))
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % groups:
        raise CheckpointError(f"{where}: {heads} heads over {groups} key-value heads, wanted a multiple")
    return family, config


def _as_llama(config: Json, where: str) -> Json:
    """An InternLM2's configuration in Llama's words; rotary scaling as its released code knows it."""
    out = {k: v for k, v in config.items() if k not in ("bias", "rope_theta", "rope_scaling")}
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor", 1.0)
    theta: Any = config.get("rope_theta", scaling.get("rope_theta", DEFAULTS["internlm2"]["rope_theta"]))
    rope: Json = {"rope_type": kind, "rope_theta": float(theta)}
    if kind != "default":
        if kind not in ("dynamic", "linear") or not isinstance(factor, int | float) or not factor >= 1:
            raise CheckpointError(
                f"{where}: rope_scaling is {scaling!r}, wanted type dynamic or linear, factor 1 or more"
            )
        rope["factor"] = float(factor)
    return {**out, "attention_bias": bool(config["bias"]), "mlp_bias": False, "rope_parameters": rope}


def tower_config(raw: Json, where: str) -> tuple[str, Json]:
    """Family and complete configuration of a vision tower, from its own or a whole CLIP's configuration."""
    if isinstance(raw.get("vision_config"), dict):
        raw = {"model_type": raw.get("model_type", "clip"), **raw["vision_config"]}
    kind = str(raw.get("model_type", "clip_vision_model"))
    if kind not in TOWER_FAMILIES:
        raise CheckpointError(f"{where}: vision tower {kind!r} is not known; known: CLIP, SigLIP, InternViT")
    config = _complete(TOWER_FAMILIES[kind], "tower", raw, where)
    _check_sizes(config, where, ("image_size", "patch_size", "num_channels"))
    return TOWER_FAMILIES[kind], config


def qwen_tower_config(files: Files) -> Json:
    """Complete configuration of a Qwen2.5-VL tower; hub files call `in_channels` `in_chans`."""
    raw, where = files.config["vision_config"], f"{files.folder / 'config.json'}, vision_config"
    usual = DEFAULTS["qwen2_5_vl tower"]
    config = usual | {key: raw[key] for key in usual if raw.get(key) is not None}
    config["in_channels"] = raw.get("in_channels") or raw.get("in_chans") or usual["in_channels"]
    _check_sizes(config, where, tuple(key for key, value in usual.items() if type(value) is int))
    full = config["fullatt_block_indexes"]
    if not isinstance(full, list) or any(type(n) is not int for n in full):
        raise CheckpointError(f"{where}: fullatt_block_indexes is {full!r}, wanted a list of block numbers")
    group = config["patch_size"] * config["spatial_merge_size"]
    if config["window_size"] < group or config["hidden_size"] % (4 * config["num_heads"]):
        raise CheckpointError(
            f"{where}: windows of {config['window_size']} pixels and {config['num_heads']} heads of a width "
            f"of {config['hidden_size']}; wanted windows of at least {group}, and heads of a multiple of 4"
        )
    return config


def _complete(family: str, part: str, raw: Json, where: str) -> Json:
    known = {*DEFAULTS[family], *CARRIED[part]}
    given = {key: raw[key] for key in known if key in raw and (raw[key] is not None or key in NULLABLE)}
    if given.get("rope_parameters") or given.get("rope_scaling"):
        rope = given.get("rope_parameters") or given["rope_scaling"]
        if not isinstance(rope, dict):
            raise CheckpointError(f"{where}: rope settings are {rope!r}, wanted a mapping")
    config = {**DEFAULTS[family], **given}
    if "rope_parameters" in given:  # the 5.x form holds theta itself
        config.pop("rope_theta", None)
        config.pop("rope_scaling", None)
    _check_sizes(
        config, where, ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    )
    return config


def whole(value: Any, key: str, where: str) -> int:
    """A positive whole number; also one that is written as text, as evaluation scripts want patch_num."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if type(number) is not int or number < 1:
        raise CheckpointError(f"{where}: {key} is {value!r}, wanted a positive whole number")
    return number


def _check_sizes(config: Json, where: str, keys: tuple[str, ...]) -> None:
    for key in keys:
        value = config[key]
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{where}: {key} is {value!r}, wanted a positive whole number")
        if key == "num_hidden_layers" and value > _DEEPEST:  # else their names alone would fill the memory
            raise CheckpointError(f"{where}: {key} is {value}, wanted {_DEEPEST} at most")
