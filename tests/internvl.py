"""A tiny InternVL2: the native model, and the same weights in OpenGVLab's layout."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenloom.runtime.values import Tile, Tiles

from .checkpoints import Names, hf_names, save, shaken, write_json

SIDE, PATCH, DEPTH = 28, 7, 3  # pixels: 4 x 4 patches
PIECES = 320  # of the tokenizer, before the tokens that are added to it
CHAT = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
CONTEXT = PIECES + ADDED.index("<IMG_CONTEXT>")
TEXT: dict[str, Any] = {
    "vocab_size": PIECES + len(ADDED), "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": DEPTH, "num_attention_heads": 4,
    "image_size": SIDE, "patch_size": PATCH, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
}  # fmt: skip
ROPE = {"type": "dynamic", "factor": 2.0}
TOP: dict[str, Any] = {
    "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "template": "internlm2-chat",
    "select_layer": -1, "force_image_size": SIDE, "downsample_ratio": 0.5, "ps_version": "v2",
    "dynamic_image_size": True, "use_thumbnail": True, "min_dynamic_patch": 1, "max_dynamic_patch": 4,
}  # fmt: skip
LINES = [
    "the cat sat on a mat", "what is in the picture?", "a red ball and a blue ball", "Frame1: a video",
    "Describe this picture in detail.", "system user assistant", "two  spaces\n\nand lines",
]  # fmt: skip


def native_internvl(*, large: bool = False, bias: bool = False, longest: int = 512) -> Any:
    """An InternVLForConditionalGeneration over a Llama. large: with the 6B tower's norms, and no bias."""
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLVisionConfig,
        LlamaConfig,
    )

    torch.manual_seed(7)
    norms: dict[str, Any] = {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False}
    plain: dict[str, Any] = {"norm_type": "layer_norm", "use_qk_norm": False, "attention_bias": True}
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}
    text = {**TEXT, "max_position_embeddings": longest, "attention_bias": bias, "rope_parameters": rope}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**VISION, **(norms if large else plain), use_mean_pooling=True),
        text_config=LlamaConfig(**text),
        image_token_id=CONTEXT,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return shaken(InternVLForConditionalGeneration(config))


def write_internvl(
    folder: Path, *, large: bool = False, bias: bool = False, longest: int = 512, **config: Any
) -> Any:
    """The released layout with an InternLM2; returns the native model. config: of the top level."""
    model = native_internvl(large=large, bias=bias, longest=longest)
    save(folder, released(model))
    llm = {**TEXT, "model_type": "internlm2", "bias": bias, "rope_theta": 1e6, "rope_scaling": ROPE}
    vision = {**VISION, "model_type": "intern_vit_6b", "qkv_bias": not large, "qk_normalization": large}
    vision["norm_type"] = "rms_norm" if large else "layer_norm"
    llm["max_position_embeddings"] = longest
    write_json(folder / "config.json", {**TOP, "llm_config": llm, "vision_config": vision} | config)
    write_tokenizer(folder)
    return model


def write_hf(folder: Path, *, names: Names = "4.x", tied: bool = False, **config: Any) -> Any:
    """The layout of transformers, with a Qwen2; returns the native model. config: of the top level."""
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLVisionConfig,
        Qwen2Config,
    )

    torch.manual_seed(8)
    vision: dict[str, Any] = {**VISION, "attention_bias": True, "use_mean_pooling": True}
    text = {**TEXT, "tie_word_embeddings": tied}
    settings = InternVLConfig(
        vision_config=InternVLVisionConfig(**vision), text_config=Qwen2Config(**text), image_token_id=CONTEXT,
        downsample_ratio=0.5, tie_word_embeddings=tied,
    )  # fmt: skip
    model = shaken(InternVLForConditionalGeneration(settings))
    tensors = {name: t for name, t in model.state_dict().items() if not (tied and name.startswith("lm_head"))}
    save(folder, hf_names(tensors, names))
    vision |= {"model_type": "internvl_vision", "image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}
    write_json(folder / "config.json", {
        "architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl",
        "vision_config": vision, "text_config": {"model_type": "qwen2", **TEXT}, "downsample_ratio": 0.5,
        "image_token_id": CONTEXT, "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
    } | config)  # fmt: skip
    write_json(folder / "preprocessor_config.json", {
        "size": {"height": SIDE, "width": SIDE}, "min_patches": 1, "max_patches": 6, "crop_to_patches": True,
    })  # fmt: skip
    write_tokenizer(folder)
    return model


def released(model: Any) -> dict[str, Tensor]:
    """Its tensors by the names and in the packing of released files."""
    tensors = {name.removeprefix("model."): t for name, t in model.state_dict().items()}
    text = model.config.text_config
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"multi_modal_projector\.(layer_norm|linear_1|linear_2)\.(.*)", name):
            number = {"layer_norm": 0, "linear_1": 1, "linear_2": 3}[match[1]]
            out[f"mlp1.{number}.{match[2]}"] = tensor
        elif match := re.fullmatch(r"(vision_tower|language_model)\.(.*)\.([qkv])_proj\.(.*)", name):
            if match[3] == "q":
                others = (tensors[f"{match[1]}.{match[2]}.{part}_proj.{match[4]}"] for part in "kv")
                packed = tensor, *others
                grouped = match[1] == "language_model"
                whole = _grouped(packed, text) if grouped else torch.cat(packed)
                out[_name(f"{match[1]}.{match[2]}.{'wqkv' if grouped else 'qkv'}.{match[4]}")] = whole
        else:
            out[_name(name)] = tensor
    return out


def _grouped(packed: tuple[Tensor, ...], text: Any) -> Tensor:
    """For each key-value head its queries, its key, its value."""
    heads = [x.unflatten(0, (text.num_key_value_heads, -1)) for x in packed]
    return torch.cat(heads, 1).flatten(0, 1)


NAMES = (
    (r"^vision_tower\.", "vision_model."), (r"cls_token$", "class_embedding"),
    (r"position_embeddings$", "position_embedding"), (r"patch_embeddings\.projection", "patch_embedding"),
    (r"encoder\.layer\.", "encoder.layers."), (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.", ".attn."), (r"\.layernorm_before\.", ".norm1."), (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_", ".ls"), (r"^language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.output."), (r"embed_tokens", "tok_embeddings"),
    (r"\.self_attn\.o_proj\.", ".attention.wo."), (r"\.self_attn\.", ".attention."),
    (r"\.mlp\.gate_proj\.", ".feed_forward.w1."), (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
    (r"\.mlp\.down_proj\.", ".feed_forward.w2."), (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
)  # fmt: skip


def _name(native: str) -> str:
    for pattern, becomes in NAMES:
        native = re.sub(pattern, becomes, native)
    return native


def write_tokenizer(folder: Path, *, dummy_prefix: bool = True) -> None:
    """tokenizer.model and its settings: the chat's tokens in place of unused pieces, InternVL's behind."""
    import sentencepiece

    unused = [f"[UNUSED_TOKEN_{141 + i}]" for i in range(len(CHAT))]
    model = io.BytesIO()
    trainer: Any = sentencepiece.SentencePieceTrainer  # pyright: ignore[reportAttributeAccessIssue]
    trainer.train(
        sentence_iterator=iter(LINES * 40), model_writer=model, vocab_size=PIECES, model_type="bpe",
        hard_vocab_limit=True, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=dummy_prefix, user_defined_symbols=unused,
        minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    special = {0: "<unk>", 1: "<s>", 2: "</s>"} | {3 + i: text for i, text in enumerate(CHAT)}
    special |= {PIECES + i: text for i, text in enumerate(ADDED)}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "InternLM2Tokenizer", "bos_token": "<s>", "eos_token": "</s>",
        "pad_token": "</s>", "unk_token": "<unk>",
        "added_tokens_decoder": {str(i): {"content": text, "special": True} for i, text in special.items()},
    })  # fmt: skip


def tiles(*counts: int, side: int = SIDE) -> Tiles:
    """Random pictures of so many tiles each."""
    frames = [frame for frame, count in enumerate(counts) for _ in range(count)]
    layout = tuple(Tile(frame=frame, box=(0, 0, side, side)) for frame in frames)
    pixels = torch.randn(len(frames), 3, side, side, generator=torch.Generator().manual_seed(3))
    return Tiles(pixels, layout, ((side, side),) * len(counts), (0.0,) * len(counts))
