"""A trained model as a checkpoint folder, in the layout of the real ones."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .model import MEAN, STD, TinyLlava

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LLAVA_NAMES = {
    "vision.": "vision_tower.vision_model.",
    "projector.0.": "multi_modal_projector.linear_1.",
    "projector.2.": "multi_modal_projector.linear_2.",
    "llm.": "language_model.",
}
"""Beginnings of names in training, and in llava-hf's checkpoints."""


def export(
    model: TinyLlava, tokenizer: PreTrainedTokenizerFast, folder: Path, record: Mapping[str, Any]
) -> None:
    """Writes a folder that is there as a whole or not at all; an older one is replaced. Weights in float16.

    record: what `training.json` is to say. Errors: OSError or SafetensorError when it cannot be written.
    """
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        _writer(model)(model, tokenizer, temporary)
        write_json(temporary / "training.json", record)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _writer(model: TinyLlava) -> Callable[[Any, PreTrainedTokenizerFast, Path], None]:
    """What writes the folder of such a model."""
    from .export_packer import write_packer
    from .export_pvc import write_pvc
    from .packer import TinyTokenPacker
    from .pvc import TinyPvc

    writers: dict[type, Any] = {TinyTokenPacker: write_packer, TinyPvc: write_pvc}
    found: Callable[[Any, PreTrainedTokenizerFast, Path], None] = writers.get(type(model), write_llava)
    return found


def write_llava(model: TinyLlava, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Everything but the record of the training, in llava-hf's layout."""
    ids = special_ids(tokenizer)
    save_file(renamed(model, LLAVA_NAMES), folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", llava_config(model, tokenizer))
    write_json(folder / "generation_config.json", ids)
    tokenizer.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", image_processor(model.sizes.side))
    write_json(
        folder / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": model.sizes.patch,
            "vision_feature_select_strategy": "default",
        },
    )
    write_json(folder / "tokenloom.json", {"template": "tokenizer"})  # its own, whatever the folder is called


def renamed(model: TinyLlava, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights in float16 by their names in a checkpoint; those under no known beginning stay behind."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                found[theirs + name.removeprefix(ours)] = tensor.detach().cpu().to(torch.float16).contiguous()
    return found


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Ids of the first, the last and the padding token."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def llava_config(model: TinyLlava, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """config.json in llava-hf's words."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": "float16",
        "vision_config": plain_config(model.vision.config),
        "text_config": plain_config(model.llm.config),
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "image_seq_length": model.sizes.grid**2,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "tie_word_embeddings": False,
        **special_ids(tokenizer),
    }


def plain_config(config: Any) -> dict[str, Any]:
    """All its settings, without the attention that only training knows."""
    told: dict[str, Any] = config.to_dict()
    return {name: value for name, value in told.items() if "attn_implementation" not in name}


def image_processor(side: int) -> dict[str, Any]:
    """preprocessor_config.json for square pictures of that many pixels."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """JSON for people to read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
