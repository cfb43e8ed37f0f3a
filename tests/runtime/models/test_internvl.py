"""InternVL2 in its released layout: against the native model, its options, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints import native_language
from tests.internvl import CONTEXT, SIDE, TEXT, tiles, write_internvl
from tokenloom.nodes import (
    encode_vision,
    generate,
    load_model,
    load_projector,
    place_tokens,
    prefill,
    project_pixel_shuffle,
    read_logits,
    render_chat,
)
from tokenloom.nodes.models import Loaded
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.models.intern import native_language_tensors
from tokenloom.runtime.values import LLMInput, Prompt, Tiles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released layout."""
    folder = tmp_path_factory.mktemp("internvl")
    write_internvl(folder)
    return folder


def loaded(folder: Path) -> Loaded:
    return load_model(checkpoint=str(folder), dtype="float32", device="cpu")


def prompted(model: Loaded, given: Tiles, question: str = "what is it?") -> LLMInput:
    visual = project_pixel_shuffle(model.projector, encode_vision(model.vision, given))
    prompt = render_chat(model.chat, question=question, images=len(given.sizes))
    return place_tokens(model.llm, prompt, visual)


@pytest.mark.parametrize(("large", "bias"), [(False, False), (True, True)])
def test_logits_are_the_native_models(tmp_path: Path, large: bool, bias: bool) -> None:
    """Packed tensors of grouped heads, biases and the 6B tower's norms land where they belong."""
    native = write_internvl(tmp_path, large=large, bias=bias)
    given = tiles(2, 1)
    placed = prompted(model := loaded(tmp_path), given)
    ids = placed.ids.masked_fill(placed.visual, CONTEXT)
    with torch.no_grad():
        want = native(input_ids=ids[None], pixel_values=given.pixels).logits[0]
    got = read_logits(model.llm, prefill(model.llm, placed), rows="all").values
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_every_native_tensor_is_the_one_that_was_packed(tmp_path: Path) -> None:
    """To the bit, and in one memory of its own each."""
    native = write_internvl(tmp_path, bias=True)
    model = loaded(tmp_path)
    wanted: dict[str, Tensor] = native.state_dict()
    parts = {"model.vision_tower.": model.vision, "model.language_model.": model.llm}
    for prefix, handle in parts.items():
        found = handle.load().module.state_dict()
        for name, tensor in found.items():
            key = prefix + name.removeprefix("model.") if name != "lm_head.weight" else name
            assert tensor.equal(wanted[key]), name
            assert tensor.is_contiguous()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_other_language_models_need_no_conversion(tmp_path: Path, family: str) -> None:
    """InternVL2-40B, and InternVL 2.5 and 3, hold a Llama or Qwen2 under its native names."""
    write_internvl(tmp_path, template="internvl2_5")
    rest = {k: t for k, t in load_file(tmp_path / "model.safetensors").items() if "language" not in k}
    native = native_language(family, **TEXT)
    text = {f"language_model.{name}": tensor for name, tensor in native.state_dict().items()}
    save_file(rest | text, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config["llm_config"]["model_type"] = family
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = loaded(tmp_path)
    found = model.llm.load()
    assert all(found.module.state_dict()[name].equal(tensor) for name, tensor in native.state_dict().items())
    turned, _ = found.rope(torch.zeros(1, 600, 24), torch.arange(600)[None])  # beyond 512: scaled
    plain, _ = found.rope(torch.zeros(1, 500, 24), torch.arange(500)[None])
    assert not turned[:, :500].equal(plain)
    prompt = render_chat(model.chat, question="Q", system="")
    assert prompt.text == "<|im_start|>user\n<img><image></img>\nQ<|im_end|>\n<|im_start|>assistant\n"


def test_facts_are_the_checkpoints_own(folder: Path) -> None:
    """Layer, ratio, version, tiles, template and the id that stands for a picture."""
    facts = loaded(folder).vision.facts
    assert facts.tower is not None
    assert facts.projector is not None
    assert facts.language is not None
    assert facts.chat is not None
    assert (facts.tower.family, facts.tower.select_layer, facts.tower.has_cls) == ("internvit", -1, True)
    assert (facts.projector.kind, facts.projector.ratio, facts.projector.ps_version) == (
        "pixel_shuffle", 0.5, "v2",
    )  # fmt: skip
    assert facts.language.max_length == 1024  # dynamic scaling by 2 of 512
    assert facts.language.eos == (2,)
    assert (facts.chat.template, facts.chat.image_token) == ("internlm2-chat", CONTEXT)
    assert facts.image == ImageFacts(
        size=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), aspect="dynamic",
        min_tiles=1, max_tiles=4, thumbnail=True,
    )  # fmt: skip


def test_the_processors_crop_is_not_the_codes(tmp_path: Path) -> None:
    """preprocessor_config.json tells of a centre crop that InternVL's code does not make."""
    write_internvl(tmp_path, dynamic_image_size=False)
    told = {"do_center_crop": True, "crop_size": SIDE, "size": SIDE, "image_mean": [0.485, 0.456, 0.406]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    image = loaded(tmp_path).vision.facts.image
    assert image is not None
    assert image.aspect == "stretch"


def test_end_tokens_are_those_of_generation_config(tmp_path: Path) -> None:
    """PVC's file names <|im_end|> and <|im_start|>."""
    write_internvl(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    language = loaded(tmp_path).llm.facts.language
    assert language is not None
    assert language.eos == (7, 8)


def test_tiles_of_force_image_size_need_no_asking(tmp_path: Path) -> None:
    """Positions of 4 x 4 patches are fitted to 8 x 8, as the released code always does."""
    write_internvl(tmp_path, force_image_size=2 * SIDE)
    model = loaded(tmp_path)
    patches = encode_vision(model.vision, tiles(1, side=2 * SIDE))
    assert (patches.source.rows, patches.source.cols) == (8, 8)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"downsample_ratio": 0.3}, "downsample_ratio is 0.3, wanted 1, 0.5, 0.25 or the like"),
        ({"ps_version": "v3"}, "ps_version is 'v3', wanted v1 or v2"),
        ({"select_layer": 7}, "select_layer 7 of a tower with 3 layers"),
        ({"select_layer": "last"}, "select_layer is 'last', wanted a whole number"),
        ({"force_image_size": 3}, "force_image_size is 3, wanted at least a patch of 7"),
        ({"template": None}, "template is missing, which names the chat format"),
        (
            {"min_dynamic_patch": 5},
            "5 to 4 tiles (min_dynamic_patch, max_dynamic_patch), wanted 1 or more, rising",
        ),
    ],
)
def test_a_setting_that_cannot_be(folder: Path, tmp_path: Path, config: dict[str, Any], said: str) -> None:
    """Which file, what it says, what was wanted."""
    told = json.loads((folder / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        loaded(tmp_path)
    assert str(error.value) == f"{tmp_path / 'config.json'}: {said}"


@pytest.mark.parametrize(
    ("llm", "said"),
    [
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "rope_scaling is {'type': 'yarn', 'factor': 2.0}, "
            "wanted type dynamic or linear, factor 1 or more",
        ),
        (
            {"model_type": "phi3"},
            "language model phi3 is not known; known: llama, mistral, qwen2, internlm2",
        ),
        ({"num_key_value_heads": 3}, "4 heads over 3 key-value heads, wanted a multiple"),
    ],
)
def test_a_language_model_that_cannot_be(
    folder: Path, tmp_path: Path, llm: dict[str, Any], said: str
) -> None:
    """Errors name the part of the file."""
    told = json.loads((folder / "config.json").read_text())
    told["llm_config"] |= llm
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        loaded(tmp_path)
    assert str(error.value) == f"{tmp_path / 'config.json'}, llm_config: {said}"


def test_wrong_tensors_are_named_as_the_files_name_them(tmp_path: Path) -> None:
    """Unknown, missing and misshapen ones, folded, in one error."""
    write_internvl(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    found["vision_model.encoder.layers.0.extra.weight"] = torch.zeros(2)
    found["mlp2.0.weight"] = torch.zeros(3)
    for layer in range(2):
        del found[f"language_model.model.layers.{layer}.feed_forward.w3.weight"]
    found["language_model.model.layers.1.attention.wqkv.weight"] = torch.zeros(49, 24)
    save_file(found, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        loaded(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        "  1 tensor of no known part: mlp2.0.weight [3]\n"
        "  1 tensor of the vision tower unknown: vision_model.encoder.layers.0.extra.weight [2]\n"
        "  2 tensors of the language model missing: model.layers.{0..1}.feed_forward.w3.weight [40, 24]\n"
        "  wrong shapes in the language model: language_model.model.layers.1.attention.wqkv.weight "
        "[49, 24], wanted [48, 24]\n"
        "Check that config.json and the weight files belong together."
    )


def test_the_answer_ends_at_im_end(folder: Path) -> None:
    """The template's stop string is one token of the vocabulary."""
    model = loaded(folder)
    placed = prompted(model, tiles(1))
    assert placed.stop == ("<|im_end|>",)
    chat = model.chat.load()
    assert chat.single(("<|im_end|>",)) == (7,)
    free = generate(model.llm, placed, max_new_tokens=4).answer
    assert generate(model.llm, placed, model.chat, max_new_tokens=4).answer.ids == free.ids
    assert chat.decode([*chat.tokenizer("a ball").input_ids, 7]) == "a ball"


def test_several_pictures_and_history_in_one_prompt(folder: Path) -> None:
    """Numbered slots in the first turn; no line break between turns."""
    chat = loaded(folder).chat
    prompt = render_chat(chat, question="And now?", history=("Compare.", "Same."), images=2, system="S")
    assert prompt.text == (
        "<|im_start|>system\nS<|im_end|><|im_start|>user\nImage-1: <img><image></img>\n"
        "Image-2: <img><image></img>\nCompare.<|im_end|><|im_start|>assistant\nSame.<|im_end|>"
        "<|im_start|>user\nAnd now?<|im_end|><|im_start|>assistant\n"
    )


def test_frames_of_a_clip_are_numbered_pictures(folder: Path) -> None:
    """Every frame has a slot of its own."""
    prompt = render_chat(loaded(folder).chat, question="Q", images=2, media="frame", system="")
    assert prompt.text == (
        "<|im_start|>user\nFrame1: <img><image></img>\nFrame2: <img><image></img>\nQ<|im_end|>"
        "<|im_start|>assistant\n"
    )
    assert [slot.media for slot in prompt.slots] == ["image", "image"]


def test_text_alone_needs_no_picture(folder: Path) -> None:
    """A prompt without slots."""
    model = loaded(folder)
    placed = place_tokens(model.llm, Prompt.of_ids([1, 20, 21]))
    assert len(generate(model.llm, placed, max_new_tokens=2).answer.ids) == 2


def test_a_tied_head_is_one_tensor(tmp_path: Path) -> None:
    """`output.weight` may be left out when the configuration ties it."""
    write_internvl(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    del found["language_model.output.weight"]
    save_file(found, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config["llm_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    module: Any = loaded(tmp_path).llm.load().module
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_nothing_is_read_to_find_the_rows_of_packed_tensors(folder: Path) -> None:
    """Names and spans follow from headers alone."""
    from tokenloom.runtime.models.headers import Rows, Stored

    packed = Stored("x", folder, "F32", (48, 24))
    config = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}
    found = native_language_tensors({"model.layers.0.attention.wqkv.weight": packed}, config)
    assert {name.split(".")[-2]: (stored.rows, stored.shape) for name, stored in found.items()} == {
        "q_proj": (Rows(2, 0, 12), (24, 24)),
        "k_proj": (Rows(2, 12, 18), (12, 24)),
        "v_proj": (Rows(2, 18, 24), (12, 24)),
    }


def test_its_projector_alone_does_not_say_its_ratio(folder: Path) -> None:
    """load_projector names the way out."""
    with pytest.raises(CheckpointError) as error:
        load_projector(checkpoint=str(folder))
    assert str(error.value) == (
        f"{folder}: InternVL's projector, of which no tensor says how many patches are a token; use "
        "load_model, which reads that from config.json"
    )
