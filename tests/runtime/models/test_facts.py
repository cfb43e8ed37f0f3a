"""JSON files of checkpoints become facts; what cannot be right is refused with the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenloom.nodes.models import load_model, load_vision_tower
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.configs import DEFAULTS
from tokenloom.runtime.models.facts import tile_size
from tokenloom.runtime.models.handle import ImageFacts, LanguageFacts, ModelFacts, TowerFacts

from ... import checkpoints as write

NATIVE = {
    "clip": "CLIPVision",
    "siglip": "SiglipVision",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def facts_of(folder: Path) -> ModelFacts:
    return load_model(checkpoint=str(folder)).chat.facts


def message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder))
    return str(error.value)


def edit(file: Path, **changes: Any) -> None:
    write.write_json(file, json.loads(file.read_text()) | changes)


def test_llava15_original(tmp_path: Path) -> None:
    """All facts of a LLaVA-1.5 in the original layout."""
    write.write_llava15_original(tmp_path, config={"tokenizer_model_max_length": 128})
    facts = facts_of(tmp_path)
    assert facts.name == str(tmp_path)
    assert facts.image == ImageFacts(size=32, mean=MEAN, std=STD, aspect="pad", merge_type="flat")
    assert facts.tower == TowerFacts(
        family="clip", hidden=32, intermediate=48, depth=3, heads=4, patch=8, size=32, has_cls=True,
        select_layer=-2,
    )  # fmt: skip
    assert facts.language == LanguageFacts(
        family="llama", hidden=24, depth=2, heads=4, kv_heads=2, head_dim=6, intermediate=40, vocab=64,
        max_length=128, bos=1, eos=(2,), pad=0,
    )  # fmt: skip
    assert facts.chat is not None
    assert (facts.chat.template, facts.chat.image_token) == ("vicuna_v1", None)
    assert not facts.chat.random_weights


def test_next_original(tmp_path: Path) -> None:
    """Anyres, pinpoints as (width, height), spatial_unpad with plain rounding."""
    write.write_next_original(tmp_path)
    image = facts_of(tmp_path).image
    assert image is not None
    assert (image.aspect, image.merge_type, image.unpad_rounding) == ("anyres", "spatial_unpad", "int")
    assert image.pinpoints == ((32, 64), (64, 32), (64, 64))


def test_pinpoints_as_text(tmp_path: Path) -> None:
    """Pinpoints may be the text of a list."""
    write.write_next_original(tmp_path, config={"image_grid_pinpoints": "[(32, 64), (64, 64)]"})
    image = facts_of(tmp_path).image
    assert image is not None
    assert image.pinpoints == ((32, 64), (64, 64))


@pytest.mark.parametrize("value", ["[(1x1),(2x2)]", "__import__('os')", [[1, 2, 3]], [["a", 2]], 7])
def test_bad_pinpoints(tmp_path: Path, value: Any) -> None:
    """Anything but pairs is refused; text is never evaluated as code."""
    write.write_next_original(tmp_path, config={"image_grid_pinpoints": value})
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: image_grid_pinpoints is {value!r}, wanted pairs such as "
        f"[[336, 672], ...]"
    )


def test_llava_hf(tmp_path: Path) -> None:
    """llava-hf's 1.5 crops squares, as its processor does, and has a real image token."""
    write.write_llava_hf(tmp_path)
    facts = facts_of(tmp_path)
    assert facts.image == ImageFacts(size=32, mean=MEAN, std=STD, aspect="square", unpad_rounding="hf")
    assert facts.chat is not None
    assert facts.chat.image_token == 63
    edit(tmp_path / "preprocessor_config.json", do_pad=True)
    image = facts_of(tmp_path).image
    assert image is not None
    assert image.aspect == "pad"


def test_llava_next_hf(tmp_path: Path) -> None:
    """llava-hf's pinpoints are (height, width) and come out as (width, height)."""
    write.write_llava_hf(tmp_path, next=True)
    image = facts_of(tmp_path).image
    assert image is not None
    assert (image.aspect, image.merge_type, image.unpad_rounding) == ("anyres", "spatial_unpad", "hf")
    assert image.pinpoints == ((32, 64), (64, 32), (64, 64))


def test_siglip_facts(tmp_path: Path) -> None:
    """A SigLIP tower has no [CLS] and its own mean, and squeezes pictures instead of cropping them."""
    write.write_siglip(tmp_path)
    facts = load_vision_tower(checkpoint=str(tmp_path), select_layer=-1).facts
    assert facts.image == ImageFacts(size=32, mean=(0.5,) * 3, std=(0.5,) * 3, aspect="stretch")  # type: ignore[arg-type]
    assert facts.tower is not None
    assert (facts.tower.has_cls, facts.tower.select_layer, facts.tower.select_feature) == (False, -1, "patch")


@pytest.mark.parametrize(
    ("given", "aspect"),
    [({"crop_size": None}, "stretch"), ({"do_center_crop": True}, "square"), ({"crop_size": 32}, "square")],
)
def test_siglip_may_crop(tmp_path: Path, given: dict[str, Any], aspect: str) -> None:
    """Where its preprocessor says so."""
    write.write_siglip(tmp_path)
    edit(tmp_path / "preprocessor_config.json", **given)
    image = load_vision_tower(checkpoint=str(tmp_path), select_layer=-1).facts.image
    assert image is not None
    assert image.aspect == aspect


@pytest.mark.parametrize(("position", "newline"), [("grid", "row"), ("no_token", "none")])
def test_newline_of_a_clip(tmp_path: Path, position: str, newline: str) -> None:
    """LLaVA-Video ends every row, LLaVA-OneVision the clip, as one that does not say does."""
    write.write_next_original(tmp_path / "says", config={"mm_newline_position": position})
    write.write_next_original(tmp_path / "silent")
    images = [facts_of(tmp_path / name).image for name in ("says", "silent")]
    assert [image.newline for image in images if image] == [newline, "clip"]


def test_select_cls_patch(tmp_path: Path) -> None:
    """The checkpoint's own layer and feature choice travel with the tower."""
    choice = {"mm_vision_select_feature": "cls_patch", "mm_vision_select_layer": -3}
    write.write_llava15_original(tmp_path, config=choice)
    tower = facts_of(tmp_path).tower
    assert tower is not None
    assert (tower.select_layer, tower.select_feature) == (-3, "cls_patch")


@pytest.mark.parametrize(
    ("preprocessor", "size"),
    [
        ({"size": 336}, 336),
        ({"size": {"height": 384, "width": 384}}, 384),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 336, "width": 336}}, 336),
        ({"size": {"shortest_edge": 224}, "crop_size": 336, "do_center_crop": False}, 224),
        ({}, None),
    ],
)
def test_tile_size(preprocessor: dict[str, Any], size: int | None) -> None:
    """Every form of size and crop_size that preprocessor files use."""
    assert tile_size(preprocessor) == size


def test_eos_from_generation_config(tmp_path: Path) -> None:
    """generation_config.json has the last word on end tokens, one or several."""
    write.write_llava15_original(tmp_path)
    write.write_json(tmp_path / "generation_config.json", {"eos_token_id": [2, 7]})
    language = facts_of(tmp_path).language
    assert language is not None
    assert language.eos == (2, 7)


@pytest.mark.parametrize(
    ("name", "language", "template"),
    [
        ("llava-v1.5-7b", "llama", "vicuna_v1"),
        ("llava-v1.6-34b", "llama", "chatml_direct"),
        ("llava-llama-2-13b", "llama", "llava_llama_2"),
        ("llava-v1.6-mistral-7b", "mistral", "mistral_instruct"),
        ("some-qwen", "qwen2", "qwen_1_5"),
    ],
)
def test_template(tmp_path: Path, name: str, language: str, template: str) -> None:
    """The template is guessed from name and language model."""
    write.write_llava15_original(tmp_path / name, language=language)
    chat = facts_of(tmp_path / name).chat
    assert chat is not None
    assert chat.template == template


def test_tokenloom_json(tmp_path: Path) -> None:
    """tokenloom.json names the template and says that weights are random."""
    write.write_llava15_original(tmp_path)
    write.write_json(tmp_path / "tokenloom.json", {"template": "plain", "random_weights": True})
    chat = facts_of(tmp_path).chat
    assert chat is not None
    assert (chat.template, chat.random_weights) == ("plain", True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_aspect_ratio": "anyres_max_x"},
         "image_aspect_ratio 'anyres_max_x' is not supported; supported: pad, square, anyres, "
         "anyres_max_9, slice"),
        ({"mm_newline_position": "line"},
         "mm_newline_position 'line' is not one of one_token, frame, grid, no_token"),
        ({"mm_patch_merge_type": "maxpool"},
         "mm_patch_merge_type 'maxpool' is not one of flat, spatial, spatial_unpad"),
        ({"image_aspect_ratio": "anyres"},
         "image_aspect_ratio is anyres, but image_grid_pinpoints is missing"),
        ({"mm_vision_select_layer": [-2, -5]},
         "features of layers [-2, -5] together; only one layer is supported"),
        ({"mm_vision_select_layer": -9}, "select_layer -9 of a tower with 3 layers"),
        ({"mm_vision_select_feature": "all"}, "select_feature is 'all', wanted 'patch' or 'cls_patch'"),
        ({"hidden_size": "24"}, "hidden_size is '24', wanted a positive whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, wanted a positive whole number"),
        ({"model_type": "llava_gemma", "architectures": []},
         "language model llava_gemma is not known; known: llama, mistral, qwen2, internlm2"),
        ({"mm_vision_tower": None}, "mm_vision_tower is None, wanted a name"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    """Settings that we do not have, or that make no sense, are one message."""
    write.write_llava15_original(tmp_path, config=changes)
    assert message(tmp_path) == f"{tmp_path / 'config.json'}: {text}"


def test_sizes_that_disagree(tmp_path: Path) -> None:
    """Pictures of another size than the tower takes."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path / "vision_tower" / "preprocessor_config.json", crop_size=48, size=48)
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: preprocessor_config.json makes pictures of 48 pixels, the "
        f"tower takes 32"
    )


def test_not_a_llava(tmp_path: Path) -> None:
    """A language model alone is no LLaVA."""
    write.write_json(tmp_path / "config.json", {"model_type": "llama"})
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: model_type 'llama' is neither an original LLaVA (no "
        f"mm_vision_tower) nor llava-hf's llava, llava_next, llava_onevision, video_llava (no "
        f"text_config)"
    )


def test_no_config(tmp_path: Path) -> None:
    """A folder without config.json."""
    assert message(tmp_path) == f"{tmp_path}: no config.json there; wanted the folder of a checkpoint"


def test_config_that_is_no_json(tmp_path: Path) -> None:
    """Broken JSON names the file."""
    (tmp_path / "config.json").write_text("{")
    assert message(tmp_path).startswith(f"{tmp_path / 'config.json'}: not readable as JSON (")


def test_lora_adapter(tmp_path: Path) -> None:
    """An adapter alone is no model."""
    write.write_llava15_original(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write.write_json(tmp_path / "adapter_config.json", {})
    assert message(tmp_path) == (
        f"{tmp_path}: a LoRA adapter, not a whole model; merge it into its base model first"
    )


@pytest.mark.parametrize("family", list(NATIVE))
def test_defaults_are_those_of_transformers(family: str) -> None:
    """What hub files leave out is what the native configuration class would fill in."""
    import transformers

    native = getattr(transformers, f"{NATIVE[family]}Config")().to_dict()
    rope = native.get("rope_parameters") or {}
    # Qwen2 reports no window while use_sliding_window is False
    ours = {k: v for k, v in DEFAULTS[family].items() if not (family == "qwen2" and k == "sliding_window")}
    assert {k: native.get(k, rope.get(k)) for k in ours} == ours
