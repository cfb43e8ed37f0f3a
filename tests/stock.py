"""Stock transformers models, tiny and random, and what their processors would return for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .checkpoints import TEXT, TOWER, shaken
from .onevision import IMAGE, PINPOINTS, SIDE, VIDEO, native_onevision

BOS, PAD = 1, 0
NEW = 10  # ids to generate
FAMILIES = ("llava", "llava_next", "llava_onevision")
SIZES = torch.tensor([[50, 20], [40, 41], [20, 70]])  # height and width of three pictures
NEXT_PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32]]  # (height, width)


def stock(family: str, **text: Any) -> Any:
    """A model of the family in eval mode: towers of 4 x 4 patches (OneVision: 5 x 5).

    text: of the language model's configuration.
    """
    import transformers

    if family == "llava_onevision":
        return native_onevision()
    torch.manual_seed(11)
    kinds = {"llava": "Llava", "llava_next": "LlavaNext"}
    more: dict[str, Any] = {"image_grid_pinpoints": NEXT_PINPOINTS} if family == "llava_next" else {}
    config = getattr(transformers, f"{kinds[family]}Config")(
        vision_config=transformers.CLIPVisionConfig(**TOWER),
        text_config=transformers.LlamaConfig(
            **{**TEXT, "max_position_embeddings": 512, "num_hidden_layers": 4, **text}
        ),
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **more,
    )
    return shaken(getattr(transformers, f"{kinds[family]}ForConditionalGeneration")(config))


def other(visual: str, language: str, **more: Any) -> Any:
    """A LlavaForConditionalGeneration of another tower (`clip`, `siglip`) or language model."""
    import transformers

    torch.manual_seed(12)
    text: dict[str, Any] = {**TEXT, "max_position_embeddings": 512}
    text |= {"tie_word_embeddings": bool(more.get("tie_word_embeddings"))}
    text |= {"sliding_window": 8} if language == "mistral" else {}
    towers = {"clip": transformers.CLIPVisionConfig, "siglip": transformers.SiglipVisionConfig}
    texts = {
        "llama": transformers.LlamaConfig,
        "mistral": transformers.MistralConfig,
        "qwen2": transformers.Qwen2Config,
    }
    config = transformers.LlavaConfig(
        vision_config=towers[visual](**TOWER),
        text_config=texts[language](**text),
        image_token_index=IMAGE,
        **{"vision_feature_layer": -2, **more},
    )
    return shaken(transformers.LlavaForConditionalGeneration(config))


def batch(*rows: Sequence[int], side: str = "left") -> dict[str, Any]:
    """input_ids and attention_mask of rows of ids, padded on one side."""
    most = max(map(len, rows))
    ids, mask = torch.full((len(rows), most), PAD), torch.zeros(len(rows), most, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(most - len(row), most) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def pictures(count: int, side: int = TOWER["image_size"], seed: int = 0) -> Tensor:
    """[count, 3, side, side]."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tiled(*counts: int, side: int, seed: int = 0) -> Tensor:
    """[P, K, 3, side, side]: pictures of so many tiles, zeros behind, as the processors pad them."""
    out = torch.zeros(len(counts), max(counts), 3, side, side)
    for i, count in enumerate(counts):
        out[i, :count] = pictures(count, side, seed + i)
    return out


def row(before: int, visual: int, after: int, token: int = IMAGE) -> list[int]:
    """Text, the ids that stand for visual tokens, and text."""
    return [BOS, *[5 + i % 7 for i in range(before)], *[token] * visual, *[20 + i % 11 for i in range(after)]]


def processor(family: str) -> Any:
    """The family's own processor, for these models: a word is a token, pictures are prepared by Pillow."""
    import transformers

    side = {"height": TOWER["image_size"], "width": TOWER["image_size"]}
    common: dict[str, Any] = {
        "tokenizer": _tokenizer(),
        "vision_feature_select_strategy": "default",
        "image_token": "<image>",
    }
    clip = {"patch_size": TOWER["patch_size"], "num_additional_image_tokens": 1}  # which is [CLS]
    if family == "llava":
        pixels: Any = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": TOWER["image_size"]}, crop_size=side, resample=3
        )
        return transformers.LlavaProcessor(pixels, **common, **clip)
    if family == "llava_next":
        pixels = transformers.LlavaNextImageProcessorPil(
            size={"shortest_edge": TOWER["image_size"]},
            crop_size=side,
            image_grid_pinpoints=NEXT_PINPOINTS,
            resample=3,
        )
        return transformers.LlavaNextProcessor(pixels, **common, **clip)
    raise ValueError(f"{family}: its processor wants torchvision")


def onevision_pictures(*images: Any) -> dict[str, Any]:
    """pixel_values, image_sizes and batch_num_images of pictures, a list for each prompt."""
    import transformers

    made: Any = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=PINPOINTS, resample=3
    )
    return dict(made(images=[list(some) for some in images], return_tensors="pt"))


def _tokenizer() -> Any:
    """64 words: <pad>, <s>, </s>, w3, ..., w60, <unk>, <image>, <video>."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, 61)), "<unk>", "<image>", "<video>"]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", "<video>"],
        padding_side="left",
    )


def inputs(family: str) -> dict[str, Any]:
    """One picture in the first row, two in the second, text before and after; padded on the left."""
    if family == "llava":
        rows = [row(3, 16, 5), [*row(1, 16, 2), *row(0, 16, 9)[1:]]]
        return {**batch(*rows), "pixel_values": pictures(3)}
    if family == "llava_next":
        rows = [row(3, 56, 5), [*row(1, 88, 2), *row(0, 34, 9)[1:]]]
        return {**batch(*rows), "pixel_values": tiled(3, 5, 3, side=32), "image_sizes": SIZES}
    rows = [row(3, 85, 5), [*row(1, 135, 2), *row(0, 43, 9)[1:]]]
    sizes = torch.tensor([[60, 30], [100, 101], [20, 34]])
    return {**batch(*rows), "pixel_values": tiled(3, 10, 2, side=SIDE), "image_sizes": sizes}


def clips(frames: int = 6) -> dict[str, Any]:
    """A clip in each of two rows, of 3 x 3 pooled tokens a frame, and a newline."""
    rows = batch(row(2, 9 * frames + 1, 5, VIDEO), row(0, 9 * frames + 1, 9, VIDEO))
    return {**rows, "pixel_values_videos": pictures(2 * frames, SIDE).view(2, frames, 3, SIDE, SIDE)}


def plain(model: Any, given: dict[str, Any], **more: Any) -> Tensor:
    """What the model itself generates."""
    return cast("Tensor", model.generate(**given, **{"max_new_tokens": NEW, "do_sample": False, **more}))


def image(width: int, height: int) -> Any:
    """A picture of many colours."""
    from PIL import Image

    shades = torch.arange(width * height * 3) * 37 % 256
    return Image.fromarray(shades.to(torch.uint8).view(height, width, 3).numpy())


__all__ = [
    "FAMILIES",
    "IMAGE",
    "NEW",
    "PAD",
    "SIDE",
    "VIDEO",
    "batch",
    "clips",
    "image",
    "inputs",
    "onevision_pictures",
    "other",
    "pictures",
    "plain",
    "processor",
    "row",
    "stock",
    "tiled",
]
