"""Write the checkpoints of tests/data, `tiny-random` and its kin: true layouts, seeded random weights.

    python tests/make_checkpoints.py [FOLDER]

Small and exact, for tests of every family. Their answers are random words: nothing was ever trained.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tokenloom.runtime.models import pvc_names
from tokenloom.runtime.models.handle import PvcFacts
from tokenloom.runtime.models.strict import language_shapes, projector_shapes, tower_shapes

TEXT = """
a the one two three some many no every this that and or but with without near under over behind between
beside inside outside above below red green blue yellow orange purple white black grey brown bright dark
pale warm cold small big tall wide thin round flat soft smooth rough shiny quiet loud empty full old new
young happy calm busy cat dog bird horse cow sheep fox bear mouse fish tree flower leaf grass field hill
river lake sea beach sand stone rock cloud sky sun moon star rain snow wind house door window wall roof
garden street road bridge tower boat train bus car bicycle wheel chair table lamp book paper pen cup plate
spoon apple pear bread cheese cake box bag hat coat shoe clock mirror picture frame ball kite drum piano
guitar man woman child girl boy friend crowd hand face eye is are was has have sits stands runs walks jumps
flies swims sleeps looks holds carries opens closes moves turns slowly quickly quietly gently suddenly
together alone again always never here there today morning evening night shape square circle line corner
middle left right top bottom front back side edge colour light shadow
"""
WORDS = TEXT.split()

TOWER: dict[str, Any] = {
    "architectures": ["CLIPVisionModel"],
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": 168,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
PREPROCESSOR: dict[str, Any] = {
    "crop_size": 168,
    "size": 168,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}
LANGUAGE: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava_llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float16",
    "mm_hidden_size": 64,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "tokenizer_model_max_length": 4096,
}
LLAVA15 = {"mm_vision_tower": "vision_tower", "image_aspect_ratio": "pad"}
NEXT = {
    "mm_vision_tower": "../tiny-random/vision_tower",
    "image_aspect_ratio": "anyres",
    "mm_patch_merge_type": "spatial_unpad",
    "image_grid_pinpoints": [[168, 336], [336, 168], [336, 336], [504, 168], [168, 504]],
}
PLLAVA: dict[str, Any] = {
    "architectures": ["PllavaForConditionalGeneration"],
    "model_type": "llava",  # as LLaVA's: PLLaVA says what it is by its class and its pooling
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "num_frames": 16,
    "frame_shape": [24, 24],
    "pooling_method": "avg",
    "pooling_shape": [16, 12, 12],
    "vision_config": TOWER | {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "image_size": 48, "patch_size": 2,
    },
    "text_config": {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 12,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
LORA_RANK = 16
SIGLIP: dict[str, Any] = {
    "architectures": ["SiglipVisionModel"],
    "model_type": "siglip_vision_model",
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,  # of which the checkpoint leaves out the last, as released ones do
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": 108,
    "patch_size": 4,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
ONEVISION: dict[str, Any] = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "mm_hidden_size": SIGLIP["hidden_size"],
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "vision_tower",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_spatial_pool_mode": "bilinear",
    "mm_newline_position": "one_token",
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": "(1x1),...,(6x6)",
    "tokenizer_model_max_length": 32768,
}
PACKED_TOWER = TOWER | {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 24, "image_size": 96, "patch_size": 4,
}  # fmt: skip
TOKENPACKER: dict[str, Any] = LANGUAGE | {
    "model_type": "llava",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 8,
    "mm_hidden_size": PACKED_TOWER["hidden_size"],
    "mm_projector_type": "tokenpacker",
    "mm_vision_tower": "vision_tower",
    "image_aspect_ratio": "pad",
    "scale_factor": 2,
}
INTERNVIT: dict[str, Any] = {
    "architectures": ["InternVisionModel"],
    "model_type": "intern_vit_6b",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": 128,
    "patch_size": 4,  # 32 x 32 patches of a tile, as the released ones have
    "qkv_bias": True,
    "qk_normalization": False,
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
}
INTERNLM2: dict[str, Any] = {
    "architectures": ["InternLM2ForCausalLM"],
    "model_type": "internlm2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
INTERNVL2: dict[str, Any] = {
    "architectures": ["InternVLChatModel"],
    "model_type": "internvl_chat",
    "torch_dtype": "float16",
    "select_layer": -1,
    "force_image_size": 128,
    "downsample_ratio": 0.5,
    "ps_version": "v2",
    "template": "internlm2-chat",
    "dynamic_image_size": True,
    "use_thumbnail": True,
    "min_dynamic_patch": 1,
    "max_dynamic_patch": 12,
}
NARROW = {"hidden_size": 12, "intermediate_size": 24, "num_attention_heads": 3}  # 4 x 4 of them stay small
PVC: dict[str, Any] = INTERNVL2 | {
    "architectures": ["PVCInternVLModel"],
    "model_type": "pvc_internvl",
    "downsample_ratio": 0.25,
    "use_temporal": True,
    "image_repeat_time": 4,
    "video_repeat_time": 1,
    "tile_repeat_way": "tile",
    "proposed_pvc_options": {  # nobody knows what the released configuration calls them
        "num_temporal_layers": 2, "adaln_on": ["temporal"], "time_embed": True, "time_dim": 256,
        "time_mode": "fraction", "time_scale": 1.0, "compressor_adaln": True,
    },
}  # fmt: skip
CARD = """---
license: apache-2.0
tags: [random-weights]
---
# {name}

A {kind} checkpoint in {layout} with **random weights**, made by
`tests/make_checkpoints.py` of tokenloom. It was never trained: its answers are random words and say
nothing about the picture. It exists for the tests of tokenloom.
"""


def write_all(root: Path) -> None:
    """All checkpoints below `root`."""
    tokenizer = make_tokenizer()
    base = root / "tiny-random"
    tower = draw(tower_shapes("clip", TOWER), seed=1)
    save(base / "vision_tower", {f"vision_model.{n}": t for n, t in tower.items()}, TOWER)
    write_json(base / "vision_tower" / "preprocessor_config.json", PREPROCESSOR)
    write_model(base, "LLaVA-1.5", LLAVA15, tokenizer, seed=2)
    write_model(root / "tiny-random-next", "LLaVA-NeXT", NEXT, tokenizer, seed=3)
    write_pllava(root / "tiny-random-pllava")
    write_onevision(root / "tiny-random-onevision")
    write_tokenpacker(root / "tiny-random-tokenpacker")
    write_internvl2(root / "tiny-random-internvl2", "InternVL2", INTERNVL2, INTERNVIT, seed=15)
    write_internvl2(root / "tiny-random-pvc", "PVC", PVC, INTERNVIT | NARROW, seed=18)


def write_model(folder: Path, kind: str, config: dict[str, Any], tokenizer: Tokenizer, seed: int) -> None:
    """Language model, projector, tokenizer and card."""
    config = {**LANGUAGE, "vocab_size": tokenizer.get_vocab_size(), **config}
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    tensors = quiet(draw(language_shapes("llama", {**config, "head_dim": head_dim}), seed), tokenizer)
    projector = draw(projector_shapes("mlp2x_gelu", TOWER["hidden_size"], config["hidden_size"]), seed + 10)
    tensors |= {f"model.mm_projector.{n}": t for n, t in projector.items()}
    if config["image_aspect_ratio"] == "anyres":
        tensors |= draw({"model.image_newline": (config["hidden_size"],)}, seed + 20)
    save(folder, tensors, config)
    write_small_files(folder, kind, "the original layout", tokenizer, "vicuna_v1")


def write_pllava(folder: Path) -> None:
    """PLLaVA: one file with all parts, its language model wrapped by peft, LoRA on queries and values."""
    tokenizer = make_tokenizer(first="<unk>", last=("<image>", "<pad>"))
    image, size = tokenizer.get_vocab()["<image>"], tokenizer.get_vocab_size()
    text = {**PLLAVA["text_config"], "vocab_size": size, "pad_token_id": image + 1}
    config = {**PLLAVA, "text_config": text, "image_token_index": image, "pad_token_id": image + 1}
    width, tower = text["hidden_size"], PLLAVA["vision_config"]
    shapes = language_shapes("llama", {**text, "head_dim": width // text["num_attention_heads"]})
    model = quiet(draw(shapes, seed=5), tokenizer)
    tensors = {
        f"vision_tower.vision_model.{n}": t for n, t in draw(tower_shapes("clip", tower), seed=4).items()
    }
    for name, tensor in draw(projector_shapes("mlp2x_gelu", tower["hidden_size"], width), seed=6).items():
        number, _, kind = name.partition(".")
        tensors[f"multi_modal_projector.linear_{int(number) // 2 + 1}.{kind}"] = tensor
    updates: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.items():
        layer = f"language_model.base_model.model.{name.removesuffix('.weight')}"
        lora = name.endswith(("q_proj.weight", "v_proj.weight"))
        tensors[f"{layer}.base_layer.weight" if lora else f"{layer}.weight"] = tensor
        if lora:
            updates[f"{layer}.lora_A.default.weight"] = (LORA_RANK, tensor.shape[1])
            updates[f"{layer}.lora_B.default.weight"] = (tensor.shape[0], LORA_RANK)
    save(folder, tensors | {n: t / 4 for n, t in draw(updates, seed=7).items()}, config)
    crop = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    write_json(folder / "preprocessor_config.json", PREPROCESSOR | crop)
    write_small_files(folder, "PLLaVA", "PLLaVA's layout (peft's names)", tokenizer, "pllava")


def write_onevision(folder: Path) -> None:
    """LLaVA-OneVision: a SigLIP with 27 x 27 patches inside, grouped-query attention, a text without <s>."""
    tokenizer = make_tokenizer(last=("<|im_start|>", "<|im_end|>"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    ids = {"eos_token_id": tokenizer.token_to_id("<|im_end|>"), "pad_token_id": 0}
    config = {**ONEVISION, **ids, "vocab_size": tokenizer.get_vocab_size()}
    width = config["hidden_size"]
    shapes = language_shapes("qwen2", {**config, "head_dim": width // config["num_attention_heads"]})
    tensors = quiet(draw(shapes, seed=8), tokenizer)
    whole = {**SIGLIP, "num_hidden_layers": SIGLIP["num_hidden_layers"] - 1}
    for name, tensor in draw(tower_shapes("siglip", whole), seed=9).items():
        tensors[f"model.vision_tower.vision_tower.vision_model.{name}"] = tensor
    for name, tensor in draw(projector_shapes("mlp2x_gelu", SIGLIP["hidden_size"], width), seed=10).items():
        tensors[f"model.mm_projector.{name}"] = tensor
    save(folder, tensors | draw({"model.image_newline": (width,)}, seed=11), config)
    (folder / "vision_tower").mkdir(exist_ok=True)
    write_json(folder / "vision_tower" / "config.json", SIGLIP)
    write_json(folder / "vision_tower" / "preprocessor_config.json", {
        "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3, "rescale_factor": 1 / 255,
        "size": {"height": 108, "width": 108}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })  # fmt: skip
    write_small_files(folder, "LLaVA-OneVision", "the original layout", tokenizer, "qwen_1_5")
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>", "pad_token": "<pad>",
        "model_max_length": 32768,
        "clean_up_tokenization_spaces": False,
    })  # fmt: skip
    write_json(folder / "generation_config.json", ids)


def write_tokenpacker(folder: Path) -> None:
    """TokenPacker: a CLIP of 24 layers with 24 x 24 patches inside, as training leaves it there."""
    tokenizer = make_tokenizer()
    config = {**TOKENPACKER, "vocab_size": tokenizer.get_vocab_size()}
    width, seen = config["hidden_size"], PACKED_TOWER["hidden_size"]
    shapes = language_shapes("llama", {**config, "head_dim": width // config["num_attention_heads"]})
    tensors = quiet(draw(shapes, seed=12), tokenizer)
    for name, tensor in draw(tower_shapes("clip", PACKED_TOWER), seed=13).items():
        tensors[f"model.vision_tower.vision_tower.vision_model.{name}"] = tensor
    for name, tensor in draw(projector_shapes("tokenpacker", seen, width), seed=14).items():
        tensors[f"model.mm_projector.{name}"] = tensor
    save(folder, tensors, config)
    (folder / "vision_tower").mkdir(exist_ok=True)
    write_json(folder / "vision_tower" / "config.json", PACKED_TOWER)
    write_json(
        folder / "vision_tower" / "preprocessor_config.json", PREPROCESSOR | {"crop_size": 96, "size": 96}
    )
    write_small_files(folder, "LLaVA-TokenPacker", "the original layout", tokenizer, "vicuna_v1")


def write_internvl2(
    folder: Path, kind: str, config: dict[str, Any], tower: dict[str, Any], seed: int
) -> None:
    """InternVL2 or PVC: packed queries, keys and values, a SentencePiece model, PVC's names as proposed."""
    pieces, special = sentencepieces()
    text = {**INTERNLM2, "vocab_size": max(special) + 1}
    width, seen = text["hidden_size"], tower["hidden_size"]
    side = round(1 / config["downsample_ratio"])
    heads = {"head_dim": width // text["num_attention_heads"], "attention_bias": text["bias"]}
    model = draw(language_shapes("internlm2", {**text, **heads}), seed)
    spoken = {f"▁{word}" for word in WORDS}
    model["output.weight"][[i for i, p in enumerate(pieces.pieces) if p.piece not in spoken]] = 0
    model["output.weight"][len(pieces.pieces) :] = 0
    tensors = {f"language_model.{name}": tensor for name, tensor in model.items()}
    for name, tensor in draw(tower_shapes("internvit", {**tower, "native": False}), seed + 1).items():
        tensors[f"vision_model.{name}"] = tensor
    shuffled = draw(projector_shapes("pixel_shuffle", seen * side**2, width), seed + 2)
    shuffled["0.weight"] += 1  # a LayerNorm
    tensors |= {f"mlp1.{name}": tensor for name, tensor in shuffled.items()}
    if "proposed_pvc_options" in config:
        tensors |= draw(pvc_shapes(config, tower, side), seed + 3)
    save(folder, tensors, {**config, "vision_config": tower, "llm_config": text})
    write_small_files(folder, kind, "the original layout", None, "internlm2-chat")
    (folder / "tokenizer.model").write_bytes(pieces.SerializeToString())
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "InternLM2Tokenizer",
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>",
        "added_tokens_decoder": {str(i): {"content": text, "special": True} for i, text in special.items()},
        "clean_up_tokenization_spaces": False,
    })  # fmt: skip
    ends = [i for i, text in special.items() if text in ("<|im_end|>", "<|im_start|>")]
    write_json(folder / "generation_config.json", {"eos_token_id": ends})


def pvc_shapes(config: dict[str, Any], tower: dict[str, Any], side: int) -> dict[str, tuple[int, ...]]:
    """What PVC adds, by the names that the bundled pvc.yaml proposes."""
    count, depth = config["proposed_pvc_options"]["num_temporal_layers"], tower["num_hidden_layers"]
    facts = PvcFacts(layers=tuple(range(depth - count, depth)))
    told = yaml.safe_load(pvc_names.BUNDLED.read_text(encoding="utf-8"))
    theirs = told["tower"] | told["projector"]
    ours = pvc_names.tower_names(facts, tower["hidden_size"])
    ours |= pvc_names.compressor_names(facts, tower["hidden_size"] * side**2)
    out: dict[str, tuple[int, ...]] = {}
    for name, shape in ours.items():
        stem, dot, end = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
        layer = re.search(r"(?<=^layers\.)\d+", stem)
        number = layer[0] if layer else ""
        known = theirs[stem.replace(f"layers.{number}.", "layers.{}.") if layer else stem]
        out[str(known).replace("{}", number) + dot + end] = shape
    return out


def sentencepieces() -> tuple[Any, dict[int, str]]:
    """A SentencePiece model that knows every word of WORDS as one piece, and special tokens by id.

    As InternLM2's: some special tokens stand in unused places of the model, the others behind its pieces.
    """
    inside = (
        "<|plugin|>",
        "<|interpreter|>",
        "<|action_end|>",
        "<|action_start|>",
        "<|im_end|>",
        "<|im_start|>",
    )
    behind = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = 2, True
    model.normalizer_spec.name, model.normalizer_spec.add_dummy_prefix = "identity", False
    model.normalizer_spec.remove_extra_whitespaces = False
    kind = model.SentencePiece
    starts = dict.fromkeys(f"▁{word[:end]}" for word in WORDS for end in range(1, len(word) + 1))
    letters = dict.fromkeys(["▁", *map(chr, range(ord("!"), ord("~") + 1))])
    pieces = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    pieces += [(f"[UNUSED_TOKEN_{i}]", kind.USER_DEFINED) for i in range(len(inside))]
    pieces += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    scored = len(pieces)
    pieces += [(text, kind.NORMAL) for text in (*sorted(starts, key=len), *letters)]
    for i, (text, sort) in enumerate(pieces):
        model.pieces.add(piece=text, score=float(min(scored - i, 0)), type=sort)
    special = dict(enumerate(("<unk>", "<s>", "</s>", *inside)))
    return model, special | {len(pieces) + i: text for i, text in enumerate(behind)}


def quiet(tensors: dict[str, np.ndarray[Any, Any]], tokenizer: Tokenizer) -> dict[str, np.ndarray[Any, Any]]:
    """Only whole words are ever said."""
    spoken = {f"Ġ{word}" for word in WORDS}
    silent = [i for token, i in tokenizer.get_vocab().items() if token not in spoken]
    tensors["lm_head.weight"][silent] = 0
    return tensors


def write_small_files(
    folder: Path, kind: str, layout: str, tokenizer: Tokenizer | None, template: str
) -> None:
    """Tokenizer and token ids, unless they are written elsewhere, and the card."""
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        write_json(folder / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
            "model_max_length": 4096,
            "clean_up_tokenization_spaces": False,
        })  # fmt: skip
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": tokenizer.get_vocab()["<pad>"]}
        write_json(folder / "generation_config.json", ids)
    write_json(folder / "tokenloom.json", {"random_weights": True, "template": template})
    card = CARD.format(name=folder.name, kind=kind, layout=layout)
    (folder / "README.md").write_text(card, encoding="utf-8")


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random tensors: norms near one, biases near zero, matrices that keep the size of what passes."""
    random = np.random.RandomState(seed)  # the legacy generator: its stream never changes
    out: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape)
        if len(shape) == 1:
            norm = "norm" in name or name.startswith("ln_")
            scales = name.endswith(("ls1", "ls2", "temporal_ls"))  # of whole layers
            values = values * 0.1 + (scales or (norm and name.endswith("weight")))
        elif "embed_tokens" in name or "tok_embeddings" in name:
            values *= 0.2  # small beside what the layers add, so that the next word hangs on all before it
        elif "position" not in name:
            values *= 2.5 / np.sqrt(np.prod(shape[1:]))
        out[name] = values.astype(np.float16)
    return out


def make_tokenizer(first: str = "<pad>", last: tuple[str, ...] = ()) -> Tokenizer:
    """Byte-level BPE that knows every word of WORDS as one token, and any other text as pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True) for text in (first, "<s>", "</s>")]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f" {word}" for word in WORDS), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in last])
    return tokenizer


def save(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner alone
    write_json(folder / "config.json", config)


def write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).parent / "data" / "checkpoints"
    write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
