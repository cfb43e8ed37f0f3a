"""A tiny Qwen2.5-VL with random weights: the native model, and checkpoints of it in every true layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .checkpoints import save, shaken, write_json

QwenNames = Literal["4.51", "5.x"]

TOWER: dict[str, Any] = {
    "depth": 4, "hidden_size": 32, "hidden_act": "silu", "intermediate_size": 48, "num_heads": 2,
    "in_channels": 3, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 16,
    "out_hidden_size": 48, "fullatt_block_indexes": [1, 3],
}  # fmt: skip
WORDS = [
    "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "system", "user", "assistant", "You", "are", "a", "helpful", ".", "What", "is", "in",
    "the", "picture", "?", "red", "blue", "green",
]  # fmt: skip
START, END, IMAGE, VIDEO = (WORDS.index(f"<|{name}|>") for name in (
    "vision_start", "vision_end", "image_pad", "video_pad"
))  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": len(WORDS), "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]},
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "hidden_act": "silu",
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 3,
}  # fmt: skip
PREPROCESSOR: dict[str, Any] = {
    "min_pixels": 24 * 24, "max_pixels": 64 * 64, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
IDS: dict[str, Any] = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}


def native_qwen(*, tied: bool = False) -> Any:
    """A Qwen2_5_VLForConditionalGeneration."""
    import transformers

    torch.manual_seed(6)
    text = {**TEXT, "rope_scaling": dict(TEXT["rope_scaling"])}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config=dict(TOWER), tie_word_embeddings=tied, **IDS
    )
    return shaken(transformers.Qwen2_5_VLForConditionalGeneration(config))


def file_names(tensors: dict[str, Tensor], names: QwenNames) -> dict[str, Tensor]:
    """From names in memory (5.x) to those of 4.51's files, which the hub has."""
    if names == "5.x":
        return tensors
    old = {"model.visual.": "visual.", "model.language_model.": "model."}
    out = dict(tensors)
    for new, was in old.items():
        out = {name.replace(new, was) if name.startswith(new) else name: t for name, t in out.items()}
    return out


def write_qwen(folder: Path, *, names: QwenNames = "4.51", tied: bool = False) -> Any:
    """A checkpoint with configuration, preprocessor and tokenizer; returns the native model."""
    model = native_qwen(tied=tied)
    tensors = dict(model.state_dict())
    if tied:
        tensors.pop("lm_head.weight")
    save(folder, file_names(tensors, names), shards=2)
    config: dict[str, Any] = {"model_type": "qwen2_5_vl", "tie_word_embeddings": tied, **IDS}
    if names == "4.51":
        tower = {key: value for key, value in TOWER.items() if key != "in_channels"}
        config |= TEXT | {"vision_config": {"model_type": "qwen2_5_vl", "in_chans": 3, **tower}}
    else:
        config["text_config"] = {"model_type": "qwen2_5_vl_text", **TEXT}
        config["vision_config"] = {"model_type": "qwen2_5_vl_vision", **TOWER}
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_tokenizer(folder)
    return model


def write_tokenizer(folder: Path) -> None:
    """Whole words, the special ones first."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens([word for word in WORDS if word.startswith("<|")])
    core.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "<|im_end|>"},
    )
