"""PLLaVA's checkpoints: told from llava-hf's, in both layouts, with LoRA as strong as is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenloom import Graph, run
from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError, LoomError
from tokenloom.runtime.models.convert import convert
from tokenloom.runtime.models.pool import pool
from tokenloom.runtime.plan import plan

from ... import checkpoints as write

IDS = torch.tensor([[1, 5, 9, 33, 20, 7]])
LINEARS = (*write.ATTENTION, "self_attn.k_proj", "self_attn.o_proj", "gate_proj", "up_proj", "down_proj")
PEFT = "language_model.base_model.model.model.layers."


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    pool().release()


def logits(module: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = module(inputs_embeds=module.get_input_embeddings()(IDS)).logits
    return out


def wrapped(native: Any, folder: Path, alpha: float) -> Any:
    """The native model with every LoRA layer as peft runs it: beside its linear layer, not merged."""
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if ".lora_A." in n]:
        down, up = tensors[name], tensors[name.replace("lora_A", "lora_B")]
        path = name.removeprefix("language_model.base_model.model.").partition(".lora_A")[0]
        linear = native.model.language_model.get_submodule(path.removeprefix("model."))

        def beside(
            _: nn.Module, given: tuple[Tensor], out: Tensor, down: Tensor = down, up: Tensor = up
        ) -> Tensor:
            return out + given[0] @ down.T @ up.T * (alpha / len(down))

        linear.register_forward_hook(beside)
    return native


def llm(folder: Path, **widgets: Any) -> Any:
    return write.module_of(load_model(checkpoint=str(folder), **widgets).llm)


@pytest.mark.parametrize("targets", [write.ATTENTION, LINEARS], ids=["q and v", "every linear layer"])
@pytest.mark.parametrize("alpha", [4.0, 14.0])
def test_merged_like_peft(tmp_path: Path, targets: tuple[str, ...], alpha: float) -> None:
    """Whatever layers LoRA changes, merged weights give what peft's own layers give."""
    native = write.write_pllava(tmp_path, targets=targets)
    got, plain = logits(llm(tmp_path, lora_alpha=alpha)), logits(native)
    assert float((got - plain).abs().max()) > 0.01
    torch.testing.assert_close(got, logits(wrapped(native, tmp_path, alpha)), atol=2e-5, rtol=1e-4)


def test_without_strength_there_is_no_lora(tmp_path: Path) -> None:
    """lora_alpha 0 is the base model, bit for bit."""
    native = write.write_pllava(tmp_path)
    assert logits(llm(tmp_path, lora_alpha=0.0)).equal(logits(native))


def test_the_usual_strength_is_14(tmp_path: Path) -> None:
    """No lora_alpha means that of the released evaluation: the same model, once in the pool."""
    write.write_pllava(tmp_path)
    usual, asked = (load_model(checkpoint=str(tmp_path), lora_alpha=a) for a in (None, 14.0))
    assert usual == asked
    assert usual.llm.load() is asked.llm.load()


def test_plain_layout(tmp_path: Path) -> None:
    """Without peft's names, every part is the native one, and the projector is LLaVA's."""
    native = write.write_pllava(tmp_path, targets=())
    loaded = load_model(checkpoint=str(tmp_path))
    assert logits(loaded.llm.load().module).equal(logits(native))
    features = torch.randn(1, 4, 32)
    with torch.no_grad():
        want = native.model.multi_modal_projector(features)
        assert loaded.projector.load().module(features).equal(want)


def test_merged_before_rounding(tmp_path: Path) -> None:
    """In half precision W + (alpha / r) * B @ A is computed in float32 and rounded once."""
    native = write.write_pllava(tmp_path, rank=8)
    tensors = load_file(tmp_path / "model.safetensors")
    down, up = (tensors[f"{PEFT}0.self_attn.q_proj.lora_{half}.default.weight"] for half in "AB")
    weight = native.model.language_model.layers[0].self_attn.q_proj.weight.detach()
    got = llm(tmp_path, lora_alpha=3.0, dtype="bfloat16").model.layers[0].self_attn.q_proj.weight
    assert got.equal(torch.addmm(weight, up, down, alpha=3 / 8).bfloat16())


@pytest.mark.parametrize("index", [True, False], ids=["index", "no index"])
def test_shards(tmp_path: Path, index: bool) -> None:
    """Three shards, with an index or as PLLaVA's hub files have them, equal one file."""
    write.write_pllava(tmp_path / "one")
    write.write_pllava(tmp_path / "three", shards=3)
    if not index:
        (tmp_path / "three" / "model.safetensors.index.json").unlink()
    assert logits(llm(tmp_path / "three")).equal(logits(llm(tmp_path / "one")))


@pytest.mark.parametrize("sign", ["architectures", "pooling_shape"])
def test_told_from_llava_hf(tmp_path: Path, sign: str) -> None:
    """Both call themselves llava; either sign is enough, and without any it is llava-hf's."""
    write.write_pllava(tmp_path, targets=())
    config = json.loads((tmp_path / "config.json").read_text())
    others = {"architectures", "pooling_shape", "pooling_method", "num_frames"} - {sign}
    write.write_json(tmp_path / "config.json", {k: v for k, v in config.items() if k not in others})
    facts = load_model(checkpoint=str(tmp_path)).chat.facts
    assert (facts.image.aspect, facts.chat.template) == ("pllava", "pllava")  # type: ignore[union-attr]
    write.write_json(tmp_path / "config.json", {k: v for k, v in config.items() if k not in others | {sign}})
    facts = load_model(checkpoint=str(tmp_path)).chat.facts
    assert (facts.image.aspect, facts.chat.template) == ("square", "vicuna_v1")  # type: ignore[union-attr]


def test_the_large_one_speaks_chatml(tmp_path: Path) -> None:
    """PLLaVA-34B is a Yi, known by its name; the others speak PLLaVA's own USER and ASSISTANT."""
    write.write_pllava(tmp_path / "pllava-34b")
    write.write_pllava(tmp_path / "pllava-13b")
    facts = [load_model(checkpoint=str(tmp_path / f"pllava-{n}b")).chat.facts.chat for n in (34, 13)]
    assert [f.template for f in facts if f is not None] == ["chatml_direct", "pllava"]


def test_other_pooling_is_refused(tmp_path: Path) -> None:
    """A checkpoint that was trained to take maxima says so in its configuration."""
    write.write_pllava(tmp_path, pooling_method="max")
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: pooling_method 'max' is not supported; supported: avg"
    )


def test_facts(tmp_path: Path) -> None:
    """Features of the second to last layer without [CLS]; the image token from config.json."""
    write.write_pllava(tmp_path)
    facts = load_model(checkpoint=str(tmp_path)).llm.facts
    assert facts.tower is not None
    assert facts.chat is not None
    assert (facts.tower.select_layer, facts.tower.select_feature, facts.chat.image_token) == (-2, "patch", 63)


def test_two_strengths_share_the_rest(tmp_path: Path) -> None:
    """Two lora_alpha are two language models in the pool, beside one tower and one projector."""
    write.write_pllava(tmp_path)
    one, two = (load_model(checkpoint=str(tmp_path), lora_alpha=a) for a in (4.0, 14.0))
    assert one.llm.load() is not two.llm.load()
    assert one.vision.load() is two.vision.load()
    assert one.projector.load() is two.projector.load()
    assert sorted(r.handle.loader for r in pool().resident()) == [
        "llava language", "llava language", "llava projector", "llava tower"
    ]  # fmt: skip


def test_strength_is_part_of_what_is_cached(tmp_path: Path) -> None:
    """In a graph, another lora_alpha is another step; the handle comes through as it was made."""
    write.write_pllava(tmp_path)
    for alpha in (4.0, 14.0):
        with Graph() as g:
            g.output(llm=load_model(checkpoint=str(tmp_path), lora_alpha=alpha).llm)
        got = cast("Any", run(g)["llm"])
        assert got == load_model(checkpoint=str(tmp_path), lora_alpha=alpha).llm
        assert got.options == {"lora_alpha": repr(alpha)}


def message(folder: Path, **widgets: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder), **widgets)
    return str(error.value)


def test_a_strength_needs_lora_layers(tmp_path: Path) -> None:
    """lora_alpha for a checkpoint without LoRA layers is refused, while planning too."""
    write.write_pllava(tmp_path, targets=())
    want = (
        f"load_model.lora_alpha: 14, but {tmp_path} has no LoRA layers whose strength it could be; "
        f"set it to null"
    )
    assert message(tmp_path, lora_alpha=14.0) == want
    with Graph() as g:
        g.output(llm=load_model(checkpoint=str(tmp_path), lora_alpha=14.0).llm)
    with pytest.raises(LoomError, match="has no LoRA layers"):
        plan(g, {})


def edit(folder: Path, *, drop: str = "", add: dict[str, Tensor] | None = None) -> None:
    file = folder / "model.safetensors"
    tensors = {name: t for name, t in load_file(file).items() if not drop or drop not in name}
    save_file(tensors | (add or {}), file)


def problems(folder: Path) -> list[str]:
    first, *lines, last = message(folder).split("\n")
    assert first == f"{folder}: the weights are not what the configuration says:"
    assert last == "Check that config.json and the weight files belong together."
    return [line.strip() for line in lines]


def test_half_an_update_is_refused(tmp_path: Path) -> None:
    """lora_A without its lora_B: every tensor that is missing is named, with the shape it would have."""
    write.write_pllava(tmp_path)
    edit(tmp_path, drop="v_proj.lora_B")
    name = f"{PEFT}{{0..1}}.self_attn.v_proj.lora_B.default.weight"
    assert problems(tmp_path) == [f"LoRA tensors missing: {name} [12, 4]"]


def test_misshapen_updates_are_refused(tmp_path: Path) -> None:
    """The rank may be any, but both halves must have it and fit their layer."""
    write.write_pllava(tmp_path)
    layer = f"{PEFT}0.self_attn.q_proj"
    edit(tmp_path, add={f"{layer}.lora_B.default.weight": torch.ones(24, 5)})
    assert problems(tmp_path) == [
        f"LoRA tensors of wrong shapes: {layer}.lora_B.default.weight [24, 5], wanted [24, 4]"
    ]
    edit(tmp_path, add={f"{layer}.lora_A.default.weight": torch.ones(5, 23)})
    assert problems(tmp_path) == [
        f"LoRA tensors of wrong shapes: {layer}.lora_A.default.weight [5, 23], wanted [5, 24]"
    ]
    edit(tmp_path, add={f"{layer}.lora_A.default.weight": torch.ones(0, 24)})
    edit(tmp_path, add={f"{layer}.lora_B.default.weight": torch.ones(24, 0)})
    assert problems(tmp_path)[0].startswith("LoRA tensors of wrong shapes:")


def test_updates_of_nothing_are_refused(tmp_path: Path) -> None:
    """LoRA on something that is no linear layer of the model, and integers, are named."""
    write.write_pllava(tmp_path)
    edit(tmp_path, add={
        f"{PEFT}7.self_attn.q_proj.lora_A.default.weight": torch.ones(4, 24),
        f"{PEFT}0.self_attn.q_proj.lora_A.default.weight": torch.ones(4, 24, dtype=torch.int8),
    })  # fmt: skip
    assert problems(tmp_path) == [
        f"LoRA tensors of no linear layer: {PEFT}7.self_attn.q_proj.lora_A.default.weight [4, 24]",
        f"LoRA tensors of wrong dtypes: {PEFT}0.self_attn.q_proj.lora_A.default.weight I8, wanted floats",
    ]


def test_several_adapters_are_refused(tmp_path: Path) -> None:
    """Which of two adapters should count is not for us to guess."""
    write.write_pllava(tmp_path)
    edit(tmp_path, add={f"{PEFT}0.self_attn.q_proj.lora_A.other.weight": torch.ones(4, 24)})
    assert problems(tmp_path) == ["LoRA layers of 2 adapters (default, other), wanted one"]


def test_base_weights_are_checked(tmp_path: Path) -> None:
    """A base weight that is missing, misshapen, or there twice, under the names of the file."""
    write.write_pllava(tmp_path)
    q, k = (f"{PEFT}0.self_attn.{name}" for name in ("q_proj.base_layer.weight", "k_proj.weight"))
    more = {q: torch.ones(3, 3), f"{k[:-6]}base_layer.weight": torch.ones(12, 24)}
    edit(tmp_path, drop="1.self_attn.v_proj.base_layer", add=more)
    assert problems(tmp_path) == [
        f"two tensors for the same place: {k[:-6]}base_layer.weight and {k}",
        "1 tensor of the language model missing: model.layers.1.self_attn.v_proj.weight [12, 24]",
        f"wrong shapes in the language model: {q} [3, 3], wanted [24, 24]",
    ]


def test_other_peft_tensors_are_unknown(tmp_path: Path) -> None:
    """What LoRA does not have (DoRA's magnitudes) is not left out silently."""
    write.write_pllava(tmp_path)
    name = f"{PEFT}0.self_attn.q_proj.lora_magnitude_vector.default.weight"
    edit(tmp_path, add={name: torch.ones(24)})
    assert problems(tmp_path) == [f"1 tensor of the language model unknown: {name} [24]"]


def test_pickles_are_converted(tmp_path: Path) -> None:
    """A folder of .bin files is refused with the command, and what the command writes is the same model."""
    write.write_pllava(tmp_path / "safe")
    write.write_pllava(tmp_path / "pickled")
    file = tmp_path / "pickled" / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pickled" / "pytorch_model.bin")
    file.unlink()
    assert "  tokenloom convert " in message(tmp_path / "pickled")
    convert(str(tmp_path / "pickled"), tmp_path / "done")
    assert logits(llm(tmp_path / "done")).equal(logits(llm(tmp_path / "safe")))
