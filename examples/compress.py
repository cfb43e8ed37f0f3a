"""A stock transformers model answers from fewer visual tokens: `tokenloom.compress`.

    python examples/compress.py llava-hf/llava-1.5-7b-hf cat.jpg "What is it?"

Without arguments a tiny LLaVA with random weights reads noise: it shows tokens and shapes, not answers.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

import tokenloom


def answers(model: Any, inputs: Any, keep: int, targets: int = 10, max_new_tokens: int = 64) -> Any:
    """Token ids of the model itself and with VisionZip, and what the stages of that did."""
    with tokenloom.compress(model, "visionzip", keep=keep, targets=targets) as small:
        fewer = small.generate(**inputs, max_new_tokens=max_new_tokens)
        whole = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return whole, fewer, small.last


def published(name: str, picture: str, question: str) -> tuple[Any, Any, Any]:
    """Model, processor and inputs of a checkpoint in llava-hf's layout."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto", device_map="auto")
    processor: Any = AutoProcessor.from_pretrained(name)
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    text = processor.apply_chat_template(said, add_generation_prompt=True)
    inputs = processor(images=Image.open(picture).convert("RGB"), text=text, return_tensors="pt")
    return model, processor, inputs.to(model.device, model.dtype)


def tiny() -> tuple[Any, dict[str, torch.Tensor]]:
    """A LLaVA with 8 x 8 patches and random weights, and inputs as a processor makes them."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, num_hidden_layers=3, image_size=64, patch_size=8),
        text_config=LlamaConfig(**size, num_hidden_layers=4, vocab_size=100, max_position_embeddings=256),
        image_token_index=99,
    )
    model: Any = LlavaForConditionalGeneration(config).eval()
    ids = torch.tensor([[1, 5, *[99] * 64, 6, 7, 8]])  # one id for every patch
    return model, {"input_ids": ids, "pixel_values": torch.randn(1, 3, 64, 64)}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        model, processor, inputs = published(*sys.argv[1:])
        whole, fewer, report = answers(model, inputs, keep=54)
        for ids in (whole, fewer):
            print(processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])
    else:
        model, inputs = tiny()
        whole, fewer, report = answers(model, inputs, keep=6, targets=2, max_new_tokens=8)
        print(whole[0, -8:].tolist(), fewer[0, -8:].tolist())
    print(report)
