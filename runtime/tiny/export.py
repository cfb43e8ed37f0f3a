"""A trained model as a checkpoint folder in the layout of the real ones."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .model import MEAN, STD, TinyLlava
from .recipe import TrainingError

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast


def export(
    model: TinyLlava, tokenizer: PreTrainedTokenizerFast, folder: Path, record: Mapping[str, Any]
) -> None:
    """Writes a folder that stands as a whole or not at all; an older one is replaced. Weights in float16.

    record: what `training.json` is to say. Errors: OSError when it cannot be written.
    """
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        kind = type(model).__name__
        if type(model) is not TinyLlava:
            raise TrainingError(f"export: {kind} cannot be written as a checkpoint yet")
        _llava(model, tokenizer, temporary)
        _write(temporary / "training.json", record)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _llava(model: TinyLlava, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    stock = stock_llava(model, tokenizer).to(torch.float16)
    stock.save_pretrained(folder)
    _tokenizer_and_processor(model, tokenizer, folder)
    # chat template of the tokeniser, whatever the folder is called
    _write(folder / "tokenloom.json", {"template": "tokenizer"})


def stock_llava(model: TinyLlava, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """transformers' own LLaVA with the same weights, on the CPU in float32."""
    from transformers import LlavaForConditionalGeneration

    stock = LlavaForConditionalGeneration(llava_config(model, tokenizer)).eval()
    inner: Any = stock.model
    for target, source in (
        (inner.vision_tower, model.vision),
        (inner.language_model, model.llm.model),
        (stock.lm_head, model.llm.lm_head),
        (inner.multi_modal_projector.linear_1, _linear(model.projector, 0)),
        (inner.multi_modal_projector.linear_2, _linear(model.projector, 2)),
    ):
        target.load_state_dict(source.state_dict())
    return stock


def _linear(projector: nn.Module, number: int) -> nn.Module:
    assert isinstance(projector, nn.Sequential)
    return projector[number]


def llava_config(model: TinyLlava, tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """Its configuration."""
    from transformers import LlavaConfig

    tower, language = (plain_config(part.config) for part in (model.vision, model.llm))
    return LlavaConfig(
        vision_config=tower,
        text_config=language,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        multimodal_projector_bias=True,
        image_seq_length=model.sizes.grid**2,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def plain_config(config: Any) -> dict[str, Any]:
    """Without the attention that only the training knows."""
    told: dict[str, Any] = config.to_dict()
    return {name: value for name, value in told.items() if "attn_implementation" not in name}


def _tokenizer_and_processor(model: TinyLlava, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = model.sizes.side
    images = CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    images.save_pretrained(folder)
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=model.sizes.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
