"""tiny-tokenpacker in the released layout: LLaVA with its tower inside, and a TokenPacker as projector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from .export import image_processor, plain_config, renamed, special_ids, write_json
from .packer import LEVELS, SCALE, TinyTokenPacker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMES = {
    "vision.": "model.vision_tower.vision_tower.vision_model.",
    "projector.": "model.mm_projector.",
    "llm.": "",
}
"""Beginnings of names in training, and in the released checkpoints."""
TOWER = "vision_tower"


def write_packer(model: TinyTokenPacker, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Everything but the record of the training."""
    save_file(renamed(model, NAMES), folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", _config(model, tokenizer))
    write_json(folder / "generation_config.json", special_ids(tokenizer))
    tokenizer.save_pretrained(folder)
    (folder / TOWER).mkdir()
    write_json(
        folder / TOWER / "config.json",
        {**plain_config(model.vision.config), "architectures": ["CLIPVisionModel"]},
    )
    write_json(folder / TOWER / "preprocessor_config.json", image_processor(model.sizes.side))
    write_json(folder / "tokenloom.json", {"template": "tokenizer"})


def _config(model: TinyTokenPacker, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        **plain_config(model.llm.config),
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "torch_dtype": "float16",
        "mm_hidden_size": model.sizes.vision_width,
        "mm_projector_type": "tokenpacker",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": TOWER,
        "image_aspect_ratio": "pad",
        "scale_factor": SCALE,
        "mm_projector_levels": list(LEVELS),
        "tokenizer_model_max_length": tokenizer.model_max_length,
    }
