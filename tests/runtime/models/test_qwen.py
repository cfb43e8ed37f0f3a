"""Qwen2.5-VL checkpoints: both layouts, strictness, facts; its tower's layers and side channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenloom.nodes.models import load_model, load_projector
from tokenloom.runtime.errors import CheckpointError, MediaError, NeedError
from tokenloom.runtime.models.handle import ImageFacts, ProjectorFacts, TowerFacts
from tokenloom.runtime.models.tower import VisionTower
from tokenloom.runtime.models.tower_qwen import QwenTower
from tokenloom.runtime.needs import Need

from ...checkpoints import write_json
from ...qwen import PREPROCESSOR, QwenNames, write_qwen

PIXELS = torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))  # 5 x 7 groups, 2 x 2 a window


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen")
    write_qwen(made)
    return made


@pytest.fixture(scope="module")
def tower(folder: Path) -> VisionTower:
    return load_model(checkpoint=str(folder), dtype="float32", device="cpu").vision.load()


def copied(folder: Path, to: Path, **config: Any) -> Path:
    """The checkpoint again, with other settings."""
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    write_json(to / "config.json", json.loads((folder / "config.json").read_text()) | config)
    return to


def message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder))
    return str(error.value)


@pytest.mark.parametrize("names", ["4.51", "5.x"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_tensor_comes_back(tmp_path: Path, names: QwenNames, tied: bool) -> None:
    """Whatever the files call it; a tied head is the embedding itself."""
    native = write_qwen(tmp_path, names=names, tied=tied)
    model = load_model(checkpoint=str(tmp_path), dtype="float32", device="cpu")
    want, got = dict(native.state_dict()), dict[str, Tensor]()
    got |= {f"model.visual.{n}": t for n, t in model.vision.load().module.state_dict().items()}
    got |= {f"model.visual.merger.{n}": t for n, t in model.projector.load().module.state_dict().items()}
    language = model.llm.load().module
    for name, tensor in language.state_dict().items():
        got[name.replace("model.", "model.language_model.", 1)] = tensor
    assert got.keys() == want.keys()
    assert all(got[name].equal(want[name]) for name in want)
    shared = language.get_parameter("lm_head.weight") is language.get_parameter("model.embed_tokens.weight")
    assert shared is tied


def test_facts(folder: Path) -> None:
    """What travels on every handle."""
    facts = load_model(checkpoint=str(folder)).chat.facts
    assert facts.tower == TowerFacts(
        family="qwen2_5_vl", hidden=32, intermediate=48, depth=4, heads=2, patch=4, size=0, has_cls=False,
        select_layer=-1, merge=2, temporal=2,
    )  # fmt: skip
    assert facts.projector == ProjectorFacts(kind="merger2x2", inputs=32, outputs=48)
    assert facts.image == ImageFacts(
        size=0, mean=tuple(PREPROCESSOR["image_mean"]), std=tuple(PREPROCESSOR["image_std"]), aspect="qwen",
        multiple=8, min_pixels=24 * 24, max_pixels=64 * 64,
    )  # fmt: skip
    assert facts.language is not None
    assert (facts.language.rope_grid, facts.language.eos) == (2, (2,))
    assert facts.chat is not None
    assert (facts.chat.template, facts.chat.image_token) == ("qwen2_5_vl", 5)


def test_bounds_in_the_newer_words(folder: Path, tmp_path: Path) -> None:
    """`size` with edges, as transformers 5 writes it; the processor's defaults when nothing is said."""
    copied(folder, tmp_path)
    for given, want in (
        ({"size": {"shortest_edge": 100, "longest_edge": 900}}, (100, 900)),
        ({}, (56 * 56, 28 * 28 * 1280)),
    ):
        write_json(tmp_path / "preprocessor_config.json", given)
        image = load_model(checkpoint=str(tmp_path)).chat.facts.image
        assert image is not None
        assert (image.min_pixels, image.max_pixels) == want
    write_json(tmp_path / "preprocessor_config.json", {"min_pixels": 9, "max_pixels": 4})
    where = tmp_path / "preprocessor_config.json"
    assert message(tmp_path) == f"{where}: pictures of 9 to 4 pixels, wanted 1 or more, rising"


def test_a_merger_alone(folder: Path) -> None:
    """load_projector reads its sizes off the tensors."""
    handle = load_projector(checkpoint=str(folder), dtype="float32", device="cpu")
    assert handle.facts.projector == ProjectorFacts(kind="merger2x2", inputs=32, outputs=48)
    whole = load_model(checkpoint=str(folder), dtype="float32", device="cpu").projector.load()
    patches = torch.randn(5, 4, 32)
    assert handle.load()(patches).equal(whole(patches))


def test_missing_and_unknown_tensors_are_listed(tmp_path: Path) -> None:
    """Of tower, projector and language model, in one error."""
    write_qwen(tmp_path)
    tensors = {"visual.extra": torch.zeros(1)}
    for file in tmp_path.glob("*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    (tmp_path / "model.safetensors.index.json").unlink()
    for name in ("visual.merger.ln_q.weight", "visual.blocks.2.attn.qkv.bias", "model.norm.weight"):
        del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors")
    assert message(tmp_path) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        "  1 tensor of the vision tower missing: blocks.2.attn.qkv.bias [96]\n"
        "  1 tensor of the vision tower unknown: visual.extra [1]\n"
        "  1 tensor of the language model missing: model.norm.weight [48]\n"
        "  1 tensor of the projector missing: ln_q.weight [32]\n"
        "Check that config.json and the weight files belong together."
    )


def test_settings_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    """Rotary sections that do not add up, windows smaller than a group."""
    copied(folder, tmp_path, rope_scaling={"type": "mrope", "mrope_section": [2, 2, 3]})
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: rope settings have mrope_section [2, 2, 3], wanted three numbers that "
        "sum to 6"
    )
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    copied(folder, tmp_path, vision_config=vision | {"window_size": 4})
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}, vision_config: windows of 4 pixels and 2 heads of a width of 32; "
        "wanted windows of at least 8, and heads of a multiple of 4"
    )


def native_hidden(tower: VisionTower, folder: Path) -> list[Tensor]:
    """The native tower's hidden states of the first picture, in its own order of patches."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    from ...qwen import native_qwen

    model: Qwen2_5_VLForConditionalGeneration = native_qwen()
    cut = PIXELS[:1].reshape(3, 5, 2, 4, 7, 2, 4).permute(1, 4, 2, 5, 0, 3, 6)
    flat = cut[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(140, -1)
    seen: list[Tensor] = []
    visual: Any = model.model.visual
    hooks = [block.register_forward_hook(lambda _m, _a, out: seen.append(out)) for block in visual.blocks]
    with torch.no_grad():
        visual(flat, grid_thw=torch.tensor([[1, 10, 14]]))
    for hook in hooks:
        hook.remove()
    return seen


def windows() -> Tensor:
    """[P] long: which window each patch of a picture is in, patches row by row."""
    row, col = torch.arange(10)[:, None] // 4, torch.arange(14)[None] // 4
    return (row * 4 + col).flatten()


def native_order() -> Tensor:
    """[P] long: the patches, row by row, in the order in which the native tower runs them."""
    group_P = torch.arange(140).reshape(5, 2, 7, 2).transpose(1, 2).flatten()
    place_P = torch.empty(140, dtype=torch.long)
    place_P[group_P] = torch.arange(140)
    return (windows() * 140 + place_P).argsort()


def test_every_layer_is_the_native_one(tower: VisionTower, folder: Path) -> None:
    """Layer 1 to 4, put back row by row; a second picture beside it changes nothing."""
    order = native_order()
    for layer, want in enumerate(native_hidden(tower, folder), 1):
        got = tower.encode(PIXELS, layer=layer).hidden
        torch.testing.assert_close(got[0][order], want, rtol=0, atol=1e-5)
        torch.testing.assert_close(tower.encode(PIXELS[1:], layer=layer).hidden[0], got[1], rtol=0, atol=1e-5)


def test_attention_stays_within_windows(tower: VisionTower) -> None:
    """In blocks with windows; in full ones every patch sees every patch."""
    same = windows()[:, None] == windows()
    wanted = [Need(name, layer) for layer in (3, 4) for name in ("attention", "received_attention")]
    side = tower.encode(PIXELS, layer=-1, wanted=wanted).side
    for layer in (3, 4):
        attention = side[f"attention@{layer}"]
        torch.testing.assert_close(attention.sum(2), torch.ones(2, 140))
        torch.testing.assert_close(attention.sum(1), side[f"received_attention@{layer}"])
        assert bool((attention[:, ~same] == 0).all()) is (layer == 3)


def test_side_channels_are_those_that_the_block_used(tower: VisionTower) -> None:
    """Queries and keys that SDPA is given in the last block."""
    given: list[tuple[Tensor, Tensor]] = []
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
        given.append((query, key))
        return sdpa(query, key, value, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
        needs = [Need("keys"), Need("received_attention"), Need("keys", form="unsplit")]
        out = tower.encode(PIXELS[:1], layer=-1, wanted=needs)
    query, key = given[-1]
    received = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mean(1).sum(1)[0]
    whole = key[0].transpose(0, 1).flatten(1)
    for name, want in (("keys", key.mean(1)[0]), ("received_attention", received), ("keys/unsplit", whole)):
        torch.testing.assert_close(out.side[name][0][native_order()], want, rtol=1e-5, atol=1e-5)


def test_hidden_states_of_other_layers(tower: VisionTower) -> None:
    """`hidden@L` is what encode gives at that layer."""
    side = tower.encode(PIXELS, layer=1, wanted=[Need("hidden", 0), Need("hidden", 4)]).side
    for layer in (0, 4):
        assert side[f"hidden@{layer}"].equal(tower.encode(PIXELS, layer=layer).hidden)


def test_a_picture_is_its_own_second_moment(tower: VisionTower) -> None:
    """Repeating it by hand gives the same; another one does not."""
    alone = tower.encode(PIXELS, layer=1).hidden
    assert tower.encode(PIXELS[:, :, None].expand(-1, -1, 2, -1, -1), layer=1).hidden.equal(alone)
    pair = torch.stack([PIXELS, PIXELS.flip(0)], 2)
    assert not torch.allclose(tower.encode(pair, layer=1).hidden, alone)


def test_what_the_tower_cannot_do(tower: VisionTower) -> None:
    """Sides that are no multiples, scores of a [CLS] that is not there."""
    assert isinstance(tower, QwenTower)
    with pytest.raises(MediaError) as error:
        tower.encode(torch.zeros(1, 3, 40, 44), layer=-1)
    assert str(error.value) == (
        "encode_vision: tiles of 44x40 for a tower that takes multiples of 8; make them with preprocess"
    )
    with pytest.raises(NeedError) as need:
        tower.encode(PIXELS, layer=-1, wanted=[Need("cls_attention")])
    assert str(need.value) == "encode_vision: Qwen2.5-VL has no [CLS] token; set score: received"


@pytest.mark.gpu
def test_the_gpu_encodes_the_same(folder: Path, tower: VisionTower) -> None:
    """Features and scores, close."""
    other = load_model(checkpoint=str(folder), dtype="float32", device="cuda").vision.load()
    wanted = [Need("keys"), Need("received_attention")]
    cpu, gpu = (t.encode(PIXELS, layer=-1, wanted=wanted) for t in (tower, other))
    torch.testing.assert_close(gpu.hidden.cpu(), cpu.hidden, rtol=1e-3, atol=1e-3)
    for key in cpu.side:
        torch.testing.assert_close(gpu.side[key].cpu(), cpu.side[key], rtol=1e-3, atol=1e-3)
