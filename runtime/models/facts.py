"""From the JSON files of a checkpoint to the facts that travel on every handle."""

from __future__ import annotations

import ast
import itertools
import re
from typing import Any, cast

from ..errors import CheckpointError
from .configs import Files, Json, qwen_tower_config, whole
from .handle import ChatFacts, ImageFacts, LanguageFacts, TowerFacts

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
USUAL = {  # mean and std of each tower family's pictures
    "clip": (CLIP_MEAN, CLIP_STD), "siglip": (HALF, HALF), "internvit": (IMAGENET_MEAN, IMAGENET_STD),
}  # fmt: skip
MERGES = ("flat", "spatial", "spatial_unpad")
NEWLINES = {"one_token": "clip", "frame": "frame", "grid": "row", "no_token": "none"}
SPAN = r"\((\d+)x(\d+)\), *\.\.\., *\((\d+)x(\d+)\)"
ONEVISION_PINPOINTS = tuple((384 * row, 384 * col) for row in range(1, 7) for col in range(1, 7))

# The word in a checkpoint's name that decides its template, as in LLaVA's run_llava.py; all else is vicuna_v1
# as in its benchmark scripts (run_llava.py itself takes llava_v1).
TEMPLATE_WORDS = (
    ("llama-2", "llava_llama_2"),
    ("mistral", "mistral_instruct"),
    ("34b", "chatml_direct"),
    ("mpt", "mpt"),
)


def tower_facts(family: str, config: Json, select_layer: int, select_feature: str, where: str) -> TowerFacts:
    """Shape and feature choice of a tower."""
    has_cls = family in ("clip", "internvit")
    if select_feature not in ("patch", "cls_patch"):
        raise CheckpointError(f"{where}: select_feature is {select_feature!r}, wanted 'patch' or 'cls_patch'")
    depth = config["num_hidden_layers"]
    if not -depth - 1 <= select_layer <= depth:
        raise CheckpointError(f"{where}: select_layer {select_layer} of a tower with {depth} layers")
    return TowerFacts(
        family=cast(Any, family),
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        depth=depth,
        heads=config["num_attention_heads"],
        patch=config["patch_size"],
        size=config["image_size"],
        has_cls=has_cls,
        select_layer=select_layer,
        select_feature="cls_patch" if has_cls and select_feature == "cls_patch" else "patch",
    )


def feature_choice(files: Files, has_cls: bool) -> tuple[int, str]:
    """(select_layer, select_feature) of the checkpoint, in the original layout's words."""
    config, where = files.config, files.folder / "config.json"
    if files.layout == "original":
        layer = config.get("mm_vision_select_layer", -2)
        feature = config.get("mm_vision_select_feature", "patch")
    else:
        onevision = config["model_type"] == "llava_onevision"
        layer = config.get("vision_feature_layer", -1 if onevision else -2)
        strategy = config.get("vision_feature_select_strategy", "full" if onevision else "default")
        if strategy not in ("default", "full"):
            raise CheckpointError(
                f"{where}: vision_feature_select_strategy is {strategy!r}, wanted 'default' or 'full'"
            )
        if strategy == "default" and not has_cls:
            raise CheckpointError(
                f"{where}: vision_feature_select_strategy 'default' drops the first row as [CLS], but this "
                f"tower has none; set it to 'full'"
            )
        feature = "patch" if strategy == "default" else "cls_patch"
    if type(layer) is not int:
        raise CheckpointError(f"{where}: features of layers {layer!r} together; only one layer is supported")
    return layer, str(feature)


def image_facts(files: Files, tower: TowerFacts, preprocessor: Json) -> ImageFacts:
    """How pictures become tiles; `preprocessor` is the tower's own file or the checkpoint's."""
    where = files.folder / "config.json"
    plain = plain_image_facts(tower, preprocessor, str(where))
    frames = plain.pop("aspect")
    if files.pllava:
        return ImageFacts(**plain, aspect="pllava", pooling=_pooling(files))
    aspect, merge, rounding, pinpoints = _asked(files, preprocessor, frames, tower.size)
    found = re.fullmatch(r"(anyres)_max_([1-9]\d*)", str(aspect))
    aspect, max_tiles = (found[1], int(found[2])) if found else (aspect, 0)
    if aspect not in ("pad", "square", "stretch", "anyres", "slice"):
        raise CheckpointError(
            f"{where}: image_aspect_ratio {aspect!r} is not supported; supported: pad, square, anyres, "
            "anyres_max_9, slice"
        )
    if merge not in MERGES:
        raise CheckpointError(f"{where}: mm_patch_merge_type {merge!r} is not one of {', '.join(MERGES)}")
    if aspect == "anyres" and not pinpoints:
        raise CheckpointError(f"{where}: image_aspect_ratio is anyres, but image_grid_pinpoints is missing")
    return ImageFacts(
        **plain,
        aspect=cast(Any, aspect),
        pinpoints=pinpoints if aspect == "anyres" else (),
        merge_type=cast(Any, merge),
        unpad_rounding=cast(Any, rounding),
        frames=frames,
        max_tiles=max_tiles,
        newline=cast(Any, _newline(files.config.get("mm_newline_position", "one_token"), str(where))),
        patch_num=_patch_num(files),
    )


def _patch_num(files: Files) -> int:
    """Crops of a picture at most (TokenPacker-HD); 0: it does not say, as its training never writes it."""
    value = files.config.get("patch_num")
    if files.layout != "original" or value is None:
        return 0
    return whole(value, "patch_num", str(files.folder / "config.json"))


def _newline(position: Any, where: str) -> str:
    if position not in NEWLINES:
        raise CheckpointError(
            f"{where}: mm_newline_position {position!r} is not one of {', '.join(NEWLINES)}"
        )
    return NEWLINES[position]


def _asked(
    files: Files, preprocessor: Json, frames: str, side: int
) -> tuple[Any, Any, str, tuple[tuple[int, int], ...]]:
    """Aspect (`anyres_max_9` too), merge type, rounding and canvases of a checkpoint; `frames`: if plain."""
    config, where = files.config, str(files.folder / "config.json")
    if files.layout == "original":
        aspect, merge = config.get("image_aspect_ratio") or "square", config.get("mm_patch_merge_type")
        pinpoints = _pinpoints(config.get("image_grid_pinpoints"), where, side)
        return frames if aspect == "square" else aspect, merge or "flat", "int", pinpoints
    if config["model_type"] in ("llava", "video_llava"):
        return "pad" if preprocessor.get("do_pad") else frames, "flat", "hf", ()
    onevision, rows_first = config["model_type"] == "llava_onevision", config.get("image_grid_pinpoints")
    if onevision and rows_first is None:
        rows_first = ONEVISION_PINPOINTS
    pinpoints = tuple((width, height) for height, width in _pinpoints(rows_first, where, side))
    aspect = config.get("vision_aspect_ratio", "anyres_max_9") if onevision else "anyres"
    return aspect, "spatial_unpad", "hf", pinpoints


def _pooling(files: Files) -> tuple[int, int]:
    """Rows and columns of a PLLaVA's frames after pooling, those of its evaluation where it does not say."""
    where, method = files.folder / "config.json", files.config.get("pooling_method", "avg")
    if method != "avg":
        raise CheckpointError(f"{where}: pooling_method {method!r} is not supported; supported: avg")
    shape = files.config.get("pooling_shape", [16, 12, 12])
    if not isinstance(shape, list) or len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
        raise CheckpointError(f"{where}: pooling_shape is {shape!r}, wanted frames, rows and columns")
    return shape[1], shape[2]


def qwen_tower_facts(config: Json) -> TowerFacts:
    """A Qwen2.5-VL tower: any picture size; the projector takes the output of the last block."""
    return TowerFacts(
        family="qwen2_5_vl",
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        depth=config["depth"],
        heads=config["num_heads"],
        patch=config["patch_size"],
        size=0,
        has_cls=False,
        select_layer=-1,
        merge=config["spatial_merge_size"],
        temporal=config["temporal_patch_size"],
    )


def qwen_image_facts(files: Files, tower: TowerFacts) -> ImageFacts:
    """Pictures in their own size, within the bounds of preprocessor_config.json or the usual ones."""
    given, where = files.preprocessor, str(files.folder / "preprocessor_config.json")
    size = given.get("size") or {}
    if not isinstance(size, dict):
        raise CheckpointError(f"{where}: size is {size!r}, wanted shortest_edge and longest_edge")
    least = _first(given.get("min_pixels"), size.get("shortest_edge"), 56 * 56)
    most = _first(given.get("max_pixels"), size.get("longest_edge"), 28 * 28 * 1280)
    if type(least) is not int or type(most) is not int or not 0 < least <= most:
        raise CheckpointError(f"{where}: pictures of {least!r} to {most!r} pixels, wanted 1 or more, rising")
    return ImageFacts(
        size=0,
        mean=_three(given.get("image_mean"), CLIP_MEAN, where),
        std=_three(given.get("image_std"), CLIP_STD, where),
        aspect="qwen",
        multiple=tower.patch * tower.merge,
        min_pixels=least,
        max_pixels=most,
    )


def plain_image_facts(tower: TowerFacts, preprocessor: Json, where: str) -> dict[str, Any]:
    """size, mean, std and aspect (`square` or `stretch`): its file's, else the tower family's."""
    size = tile_size(preprocessor)
    if size not in (None, tower.size):
        raise CheckpointError(
            f"{where}: preprocessor_config.json makes pictures of {size} pixels, the tower takes {tower.size}"
        )
    mean, std = USUAL[tower.family]
    return {
        "size": tower.size,
        "mean": _three(preprocessor.get("image_mean"), mean, where),
        "std": _three(preprocessor.get("image_std"), std, where),
        "aspect": "square" if _crops(tower, preprocessor) else "stretch",
    }


def _crops(tower: TowerFacts, preprocessor: Json) -> bool:
    """Whether the tower's own processor crops the centre, as CLIP's; SigLIP's squeezes the whole picture.

    So does InternVL's code, whatever the preprocessor_config.json says that its checkpoints hold.
    """
    if tower.family == "internvit":
        return False
    given = preprocessor.get("do_center_crop")
    return bool(given or (given is None and (preprocessor.get("crop_size") or tower.family == "clip")))


def tile_size(preprocessor: Json) -> int | None:
    """Side of the pictures that preprocessor_config.json makes: `336`, `{"height": 336, ...}`."""
    cropped = preprocessor.get("do_center_crop", "crop_size" in preprocessor)
    for key in ("crop_size", "size") if cropped else ("size",):
        value = preprocessor.get(key)
        if isinstance(value, dict):
            value = value.get("height", value.get("shortest_edge"))
        if isinstance(value, int):
            return value
    return None


def language_facts(family: str, config: Json, files: Files) -> LanguageFacts:
    """Shape and limits; token ids from generation_config.json before config.json."""
    given, top = files.generation, files.config
    longest = config["max_position_embeddings"]
    rope = _first(config.get("rope_parameters"), config.get("rope_scaling")) or {}
    if rope.get("rope_type", rope.get("type")) == "dynamic":  # made for more positions than trained on
        longest = int(longest * rope["factor"])
    limit = top.get("tokenizer_model_max_length") if files.layout == "original" else None
    eos = _first(given.get("eos_token_id"), config.get("eos_token_id"), top.get("eos_token_id"), ())
    return LanguageFacts(
        family=family,
        hidden=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        max_length=min(limit, longest) if isinstance(limit, int) and limit > 0 else longest,
        bos=_first(given.get("bos_token_id"), config.get("bos_token_id"), top.get("bos_token_id")),
        eos=tuple(eos) if isinstance(eos, list | tuple) else (eos,),
        pad=_first(given.get("pad_token_id"), config.get("pad_token_id"), top.get("pad_token_id")),
        rope_grid=_rope_grid(files, config),
    )


def _rope_grid(files: Files, config: Json) -> int:
    """Patches along a side that share one M-RoPE position; checks that the frequencies are split in three."""
    if files.layout != "qwen":
        return 0
    rope = _first(config.get("rope_parameters"), config.get("rope_scaling")) or {}
    section, half = rope.get("mrope_section"), config["head_dim"] // 2
    if not isinstance(section, list) or len(section) != 3 or sum(section) != half:
        raise CheckpointError(
            f"{files.folder / 'config.json'}: rope settings have mrope_section {section!r}, wanted three "
            f"numbers that sum to {half}"
        )
    grid: int = qwen_tower_config(files)["spatial_merge_size"]
    return grid


def chat_facts(family: str, files: Files, shown: str) -> ChatFacts:
    """Template and image token; tokenloom.json may name the template and say that the weights are random."""
    image = _first(files.config.get("image_token_index"), files.config.get("image_token_id"))
    if files.layout == "intern":
        return _intern_chat(files, shown)
    if files.pllava or files.config.get("model_type") == "video_llava":
        family = "pllava" if files.pllava else "video_llava"
    return ChatFacts(
        template=str(
            files.extra.get("template")
            or _template(family, f"{shown} {files.config.get('_name_or_path', '')}")
        ),
        image_token=image if files.layout != "original" and isinstance(image, int) and image >= 0 else None,
        random_weights=bool(files.extra.get("random_weights", False)),
    )


def _intern_chat(files: Files, shown: str) -> ChatFacts:
    """The template that config.json names; the id of <IMG_CONTEXT>, if the tokenizer's settings tell."""
    added = files.tokenizer.get("added_tokens_decoder") or {}
    context = [int(number) for number, token in added.items() if token.get("content") == "<IMG_CONTEXT>"]
    named = files.extra.get("template") or files.config.get("template")
    if not named:
        raise CheckpointError(
            f"{files.folder / 'config.json'}: template is missing, which names the chat format"
        )
    return ChatFacts(
        template=str(named),
        image_token=context[0] if context else files.config.get("image_token_id"),
        random_weights=bool(files.extra.get("random_weights", False)),
    )


def _template(family: str, name: str) -> str:
    if family == "pllava" and "34b" not in name.lower():  # which is a Yi, and speaks ChatML
        return "pllava"
    if family == "video_llava":
        return "llava_v1"
    if family == "mistral":
        return "mistral_instruct"
    if family == "qwen2_5_vl":
        return "qwen2_5_vl"
    if family == "qwen2":
        return "qwen_1_5"
    for word, template in TEMPLATE_WORDS:
        if word in name.lower():
            return template
    return "vicuna_v1"


def _pinpoints(value: Any, where: str, side: int) -> tuple[tuple[int, int], ...]:
    """Pairs, from a list or its text form, in the order they are written.

    `(1x1),...,(6x6)` are all grids between these two, of tiles with this side (LLaVA-OneVision).
    """
    if value is None:
        return ()
    if isinstance(value, str) and (span := re.fullmatch(SPAN, value.strip())):
        across, down, most_across, most_down = map(int, span.groups())
        grid = itertools.product(range(across, most_across + 1), range(down, most_down + 1))
        return tuple((side * a, side * d) for a, d in grid if a and d)
    try:
        pairs = ast.literal_eval(value) if isinstance(value, str) else value
        out = tuple((a, b) for a, b in pairs)
        if all(type(n) is int and n > 0 for pair in out for n in pair):
            return out
    except (ValueError, SyntaxError, TypeError):
        pass
    raise CheckpointError(
        f"{where}: image_grid_pinpoints is {value!r}, wanted pairs such as [[336, 672], ...]"
    )


def _three(value: Any, default: tuple[float, float, float], where: str) -> tuple[float, float, float]:
    if value is None:
        return default
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return (float(value[0]), float(value[1]), float(value[2]))
    raise CheckpointError(f"{where}: image_mean or image_std is {value!r}, wanted three numbers")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
