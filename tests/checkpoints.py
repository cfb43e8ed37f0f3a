"""Tiny checkpoints in every true layout, made from native modules with seeded random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

RANDOM = Path(__file__).parent / "data" / "checkpoints"
"""Where `tiny-random` and its kin lie, which make_checkpoints.py writes."""
Names = Literal["4.x", "5.x", "mixed"]

TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8, "num_channels": 3,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip
PREPROCESSOR: dict[str, Any] = {
    "do_resize": True, "do_center_crop": True, "do_normalize": True, "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
LLAVA_TYPES = {"llama": "llava_llama", "mistral": "llava_mistral", "qwen2": "llava_qwen"}


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def native_tower(family: str = "clip", seed: int = 0, **sizes: int) -> Any:
    """A CLIPVisionModel or SiglipVisionModel."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(seed)
    settings = {**TOWER, **sizes}
    if family == "clip":
        return shaken(CLIPVisionModel(CLIPVisionConfig(**settings)))
    return shaken(SiglipVisionModel(SiglipVisionConfig(**settings)))


def native_language(family: str = "llama", seed: int = 1, **sizes: Any) -> Any:
    """A LlamaForCausalLM, MistralForCausalLM or Qwen2ForCausalLM."""
    import transformers

    torch.manual_seed(seed)
    name = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[family]
    config = getattr(transformers, f"{name}Config")(**{**TEXT, **sizes})
    return shaken(getattr(transformers, f"{name}ForCausalLM")(config))


def shaken(module: Any) -> Any:
    """All parameters random, norms and biases included, so that a swapped tensor shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def tower_tensors(module: Any) -> dict[str, Tensor]:
    """Names as in hub files: always below `vision_model.`."""
    return {
        f"vision_model.{name.removeprefix('vision_model.')}": t for name, t in module.state_dict().items()
    }


def projector_tensors(kind: str, inputs: int, outputs: int, seed: int = 2) -> dict[str, Tensor]:
    """Names below `mm_projector.`."""
    torch.manual_seed(seed)
    if kind == "identity":
        return {}
    if kind == "linear":
        return {"weight": torch.randn(outputs, inputs), "bias": torch.randn(outputs)}
    out: dict[str, Tensor] = {}
    for i in range(int(kind[3])):
        out[f"{2 * i}.weight"] = torch.randn(outputs, outputs if i else inputs) * 0.2
        out[f"{2 * i}.bias"] = torch.randn(outputs) * 0.2
    return out


def save(folder: Path, tensors: dict[str, Tensor], shards: int = 1) -> None:
    """model.safetensors, or shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.contiguous().clone() for name, t in tensors.items()}
    if shards == 1:
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
        return
    names, weight_map = sorted(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, str(folder / file), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_tower(folder: Path, family: str = "clip", seed: int = 0, **sizes: int) -> Path:
    """A plain CLIP or SigLIP vision folder."""
    module = native_tower(family, seed, **sizes)
    save(folder, tower_tensors(module))
    settings = {**TOWER, **sizes}
    kind = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}[family]
    write_json(folder / "config.json", {"model_type": kind, **settings})
    mean = PREPROCESSOR if family == "clip" else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    size = settings["image_size"]
    write_json(folder / "preprocessor_config.json", {**mean, "size": size, "crop_size": size} if
               family == "clip" else {**mean, "size": {"height": size, "width": size}})  # fmt: skip
    return folder


def write_siglip(folder: Path, **sizes: int) -> Path:
    """A plain SigLIP folder."""
    return write_tower(folder, "siglip", **sizes)


def write_llava15_original(
    folder: Path,
    *,
    language: str = "llama",
    tower: str = "clip",
    inside: bool = False,
    projector: str = "mlp2x_gelu",
    shards: int = 1,
    config: dict[str, Any] | None = None,
    more: dict[str, Tensor] | None = None,
    **sizes: Any,
) -> Path:
    """A liuhaotian checkpoint, its tower in the subfolder `vision_tower`.

    inside: other (fine-tuned) tower weights in the checkpoint as well. config, more: added last. sizes: of
    the language model, or of the tower with `tower_` in front.
    """
    tower_sizes = {k.removeprefix("tower_"): v for k, v in sizes.items() if k.startswith("tower_")}
    text_sizes = {k: v for k, v in sizes.items() if not k.startswith("tower_")}
    write_tower(folder / "vision_tower", tower, **tower_sizes)
    model = native_language(language, **text_sizes)
    tensors = dict(model.state_dict())
    width = {**TOWER, **tower_sizes}["hidden_size"]
    text = {**TEXT, **text_sizes}
    for name, tensor in projector_tensors(projector, width, text["hidden_size"]).items():
        tensors[f"model.mm_projector.{name}"] = tensor
    if inside:
        tuned = tower_tensors(native_tower(tower, seed=5, **tower_sizes))
        tensors |= {f"model.vision_tower.vision_tower.{name}": t for name, t in tuned.items()}
    if text.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight")
    save(folder, tensors | (more or {}), shards)
    settings = {
        "model_type": LLAVA_TYPES[language],
        "architectures": [f"Llava{language.capitalize()}ForCausalLM"],
        "mm_vision_tower": "vision_tower",
        "mm_projector_type": projector,
        "mm_hidden_size": width,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "image_aspect_ratio": "pad",
        "hidden_act": "silu",
        **text,
    }
    write_json(folder / "config.json", settings | (config or {}))
    return folder


def write_next_original(folder: Path, **options: Any) -> Path:
    """A LLaVA-NeXT checkpoint in the original layout: anyres, fine-tuned tower inside, image_newline."""
    torch.manual_seed(3)
    width = options.get("hidden_size", TEXT["hidden_size"])
    size = options.get("tower_image_size", TOWER["image_size"])
    anyres = {
        "image_aspect_ratio": "anyres",
        "mm_patch_merge_type": "spatial_unpad",
        "image_grid_pinpoints": [[size, 2 * size], [2 * size, size], [2 * size, 2 * size]],
    }
    given = {"inside": True, **options}
    given["config"] = anyres | (options.get("config") or {})
    given["more"] = {"model.image_newline": torch.randn(width)} | (options.get("more") or {})
    return write_llava15_original(folder, **given)


def module_of(handle: Any) -> Any:
    """The loaded module of a handle, for tests that look inside."""
    return handle.load().module


def native_llava(*, next: bool = False, language: str = "llama", tower: str = "clip") -> Any:
    """A LlavaForConditionalGeneration or LlavaNextForConditionalGeneration of transformers."""
    import transformers

    torch.manual_seed(4)
    name = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config"}[language]
    text = getattr(transformers, name)(**TEXT)
    more = {} if tower == "clip" else {"vision_use_head": False}
    vision = getattr(transformers, "CLIPVisionConfig" if tower == "clip" else "SiglipVisionConfig")(
        **TOWER, **more
    )
    settings: dict[str, Any] = {"text_config": text, "vision_config": vision, "image_token_index": 63}
    settings["vision_feature_select_strategy"] = "default" if tower == "clip" else "full"
    if next:
        settings["image_grid_pinpoints"] = [[64, 32], [32, 64], [64, 64]]  # (height, width)
        config = transformers.LlavaNextConfig(**settings)
        model: Any = transformers.LlavaNextForConditionalGeneration(config)
    else:
        model = transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(**settings))
    return shaken(model)


def hf_names(tensors: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """From names in memory (5.x) to those of files: `4.x` hub, `5.x` as in memory, `mixed` as 5.5 saved."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part = name.removeprefix("model.")
        part = re.sub(r"^vision_tower\.(vision_model\.)?", "vision_tower.", part)
        if names == "4.x":
            part = re.sub(r"^vision_tower\.", "vision_tower.vision_model.", part)
            part = re.sub(r"^language_model\.", "language_model.model.", part)
            part = re.sub(r"^lm_head\.", "language_model.lm_head.", part)
        elif names == "mixed":
            part = re.sub(r"^language_model\.", "model.language_model.model.", part)
            part = re.sub(r"^lm_head\.", "model.language_model.lm_head.", part)
        elif not part.startswith("lm_head"):
            part = f"model.{part}"
        out[part] = tensor
    return out


def write_llava_hf(
    folder: Path, *, names: Names = "4.x", next: bool = False, language: str = "llama", tower: str = "clip",
    shards: int = 1,
) -> Any:  # fmt: skip
    """A llava-hf checkpoint; returns the native model that it was written from."""
    model = native_llava(next=next, language=language, tower=tower)
    save(folder, hf_names(dict(model.state_dict()), names), shards)
    size = TOWER["image_size"]
    config: dict[str, Any] = {
        "model_type": "llava_next" if next else "llava",
        "text_config": {"model_type": language, **{k: v for k, v in TEXT.items() if "tie" not in k}},
        "vision_config": {"model_type": f"{tower}_vision_model", **TOWER},
        "image_token_index": 63,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default" if tower == "clip" else "full",
    }  # fmt: skip
    if next:
        config["image_grid_pinpoints"] = [[64, 32], [32, 64], [64, 64]]
    write_json(folder / "config.json", config)
    crop = {"crop_size": {"height": size, "width": size}, "size": {"shortest_edge": size}}
    write_json(folder / "preprocessor_config.json", {**PREPROCESSOR, **crop})
    return model


ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")  # what PLLaVA's LoRA changes


def peft_names(tensors: dict[str, Tensor], targets: tuple[str, ...], rank: int) -> dict[str, Tensor]:
    """Hub names of a llava-hf model, with its language model wrapped by peft; LoRA on `targets`."""
    torch.manual_seed(6)
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^language_model\.", "language_model.base_model.model.", name)
        layer = name.removesuffix(".weight")
        if not layer.endswith(targets) or "language_model" not in name:
            out[name] = tensor
            continue
        out[f"{layer}.base_layer.weight"] = tensor
        out[f"{layer}.lora_A.default.weight"] = torch.randn(rank, tensor.shape[1]) * 0.2
        out[f"{layer}.lora_B.default.weight"] = torch.randn(tensor.shape[0], rank) * 0.2
    return out


def write_pllava(
    folder: Path, *, targets: tuple[str, ...] = ATTENTION, rank: int = 4, shards: int = 1, **config: Any
) -> Any:
    """A PLLaVA checkpoint, peft-wrapped or (without targets) plain; returns the native model without LoRA."""
    model = write_llava_hf(folder, shards=1)
    tensors = hf_names(dict(model.state_dict()), "4.x")
    (folder / "model.safetensors").unlink()
    save(folder, peft_names(tensors, targets, rank) if targets else tensors, shards)
    told = json.loads((folder / "config.json").read_text())
    told |= {
        "architectures": ["PllavaForConditionalGeneration"],
        "pooling_method": "avg",
        "pooling_shape": [4, 2, 2],
        "num_frames": 4,
    }
    write_json(folder / "config.json", told | config)
    return model


def write_word_tokenizer(folder: Path, words: list[str]) -> None:
    """A tokenizer.json of whole words, `<unk>` 0, `<s>` 1 and `</s>` 2 in front."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "model_max_length": 256,
    })  # fmt: skip
