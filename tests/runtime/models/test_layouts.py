"""Every true layout gives the native modules with exactly the weights that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tokenloom.nodes.models import load_model, load_projector, load_vision_tower
from tokenloom.runtime.models.pool import pool

from ... import checkpoints as write
from ...golden.runners import Case, all_cases

PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[1, 5, 9, 33, 20, 7]])


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    pool().release()


def same_tower(handle: Any, native: Any) -> None:
    got = handle.load().encode(PIXELS, layer=-2, wanted=(), cls_token=True).hidden
    with torch.no_grad():
        want = native(PIXELS, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def same_language(handle: Any, native: Any) -> None:
    with torch.no_grad():
        assert handle.load().module(IDS).logits.equal(native(IDS).logits)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_original_language_models(tmp_path: Path, family: str) -> None:
    """An original checkpoint's language model is the native one, whichever family."""
    write.write_llava15_original(tmp_path, language=family)
    llm = load_model(checkpoint=str(tmp_path)).llm
    assert type(write.module_of(llm)).__name__.lower() == f"{family}forcausallm"
    same_language(llm, write.native_language(family))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_original_tower_apart(tmp_path: Path, family: str) -> None:
    """The tower in its own folder is used when the checkpoint holds none."""
    write.write_llava15_original(tmp_path, tower=family)
    same_tower(load_model(checkpoint=str(tmp_path)).vision, write.native_tower(family))


def test_original_tower_inside_wins(tmp_path: Path) -> None:
    """Fine-tuned tower weights inside the checkpoint override those of the tower's folder."""
    write.write_next_original(tmp_path)
    vision = load_model(checkpoint=str(tmp_path)).vision
    same_tower(vision, write.native_tower(seed=5))


@pytest.mark.parametrize("kind", ["linear", "mlp1x_gelu", "mlp2x_gelu", "mlp3x_gelu"])
def test_original_projectors(tmp_path: Path, kind: str) -> None:
    """Projectors of every kind hold the tensors that were written."""
    write.write_llava15_original(tmp_path, projector=kind)
    got = write.module_of(load_model(checkpoint=str(tmp_path)).projector).state_dict()
    want = write.projector_tensors(kind, 32, 24)
    assert got.keys() == want.keys()
    assert all(got[name].equal(want[name]) for name in want)


def test_identity_projector(tmp_path: Path) -> None:
    """An identity projector has no tensors and joins equal widths."""
    write.write_llava15_original(tmp_path, projector="identity", hidden_size=32)
    projector = load_model(checkpoint=str(tmp_path)).projector
    assert projector.load().module(torch.ones(1, 32)).equal(torch.ones(1, 32))


def test_shards(tmp_path: Path) -> None:
    """A sharded checkpoint equals the same in one file."""
    write.write_llava15_original(tmp_path, shards=3)
    same_language(load_model(checkpoint=str(tmp_path)).llm, write.native_language())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_tied_embeddings(tmp_path: Path, family: str) -> None:
    """A checkpoint without lm_head and with tied embeddings shares one tensor."""
    write.write_llava15_original(tmp_path, language=family, tie_word_embeddings=True)
    module = write.module_of(load_model(checkpoint=str(tmp_path)).llm)
    assert module.lm_head.weight is module.model.embed_tokens.weight
    with torch.no_grad():
        assert module(IDS).logits.equal(write.native_language(family, tie_word_embeddings=True)(IDS).logits)


def test_old_buffers_are_ignored(tmp_path: Path) -> None:
    """position_ids and inv_freq of older files are computed, not read."""
    more = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(3),
        "model.vision_tower.vision_tower.vision_model.embeddings.position_ids": torch.zeros(1, 17),
    }
    write.write_llava15_original(tmp_path, inside=True, more=more)
    loaded = load_model(checkpoint=str(tmp_path))
    same_language(loaded.llm, write.native_language())
    same_tower(loaded.vision, write.native_tower(seed=5))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5000.0},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    ],
)  # fmt: skip
def test_rotary_settings(tmp_path: Path, rope: dict[str, Any]) -> None:
    """Rotary frequencies are computed as the configuration says, in its old and new forms."""
    write.write_llava15_original(tmp_path, **rope)
    module, native = write.module_of(load_model(checkpoint=str(tmp_path)).llm), write.native_language(**rope)
    assert module.model.rotary_emb.inv_freq.equal(native.model.rotary_emb.inv_freq)
    with torch.no_grad():
        assert module(IDS).logits.equal(native(IDS).logits)


@pytest.mark.parametrize("names", ["4.x", "5.x", "mixed"])
@pytest.mark.parametrize("is_next", [False, True], ids=["llava", "llava_next"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_llava_hf_names(tmp_path: Path, names: write.Names, is_next: bool, family: str) -> None:
    """The spellings of llava-hf give the native model's tower, projector, newline and language model."""
    native = write.write_llava_hf(tmp_path, names=names, next=is_next, language=family)
    loaded = load_model(checkpoint=str(tmp_path))
    same_tower(loaded.vision, native.model.vision_tower)
    projector = loaded.projector.load()
    features = torch.randn(1, 4, 32)
    with torch.no_grad():
        assert projector.module(features).equal(native.model.multi_modal_projector(features))
    assert (projector.newline is not None) == is_next
    if is_next:
        assert projector.newline is not None
        assert projector.newline.equal(native.model.image_newline)
    module = write.module_of(loaded.llm)
    with torch.no_grad():
        embeds = module.get_input_embeddings()(IDS)
        assert module(inputs_embeds=embeds).logits.equal(native(inputs_embeds=embeds).logits)


def test_llava_hf_logits(tmp_path: Path) -> None:
    """Tower, projector and language model together give the logits of LlavaForConditionalGeneration."""
    native = write.write_llava_hf(tmp_path)
    loaded = load_model(checkpoint=str(tmp_path))
    llm, projector = write.module_of(loaded.llm), write.module_of(loaded.projector)
    ids = torch.tensor([[1, 5, *[63] * 16, 9, 20]])
    with torch.no_grad():
        hidden = loaded.vision.load().encode(PIXELS[:1], layer=-2, wanted=(), cls_token=False).hidden
        embeds = llm.get_input_embeddings()(ids)
        embeds[ids == 63] = projector(hidden)[0]
        want = native(input_ids=ids, pixel_values=PIXELS[:1]).logits
        torch.testing.assert_close(llm(inputs_embeds=embeds).logits, want, atol=1e-6, rtol=1e-5)


def test_llava_hf_siglip(tmp_path: Path) -> None:
    """A llava-hf checkpoint with a SigLIP tower."""
    native = write.write_llava_hf(tmp_path, tower="siglip")
    vision = load_model(checkpoint=str(tmp_path)).vision
    assert not vision.facts.tower.has_cls  # type: ignore[union-attr]
    same_tower(vision, native.model.vision_tower)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_plain_tower(tmp_path: Path, family: str) -> None:
    """A tower folder alone."""
    write.write_tower(tmp_path, family)
    same_tower(load_vision_tower(checkpoint=str(tmp_path)), write.native_tower(family))


def test_whole_clip(tmp_path: Path) -> None:
    """Of a whole CLIP only the vision half is read."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    text = CLIPTextConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                          vocab_size=20)  # fmt: skip
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=CLIPVisionConfig(**write.TOWER).to_dict())
    whole = write.shaken(CLIPModel(config))
    tensors = whole.state_dict()
    write.save(tmp_path, dict(tensors))
    write.write_json(tmp_path / "config.json", config.to_dict())
    same_tower(load_vision_tower(checkpoint=str(tmp_path)), whole.vision_model)


def test_projector_file_and_folder(tmp_path: Path) -> None:
    """A projector's kind and widths are read from its tensors, in a file or among others in a folder."""
    write.write_next_original(tmp_path, projector="mlp3x_gelu")
    by_folder = load_projector(checkpoint=str(tmp_path))
    by_file = load_projector(checkpoint=str(tmp_path / "model.safetensors"))
    facts = by_folder.facts.projector
    assert facts is not None
    assert (facts.kind, facts.inputs, facts.outputs, facts.newline) == ("mlp3x_gelu", 32, 24, True)
    want = write.projector_tensors("mlp3x_gelu", 32, 24)
    for handle in (by_folder, by_file):
        got = write.module_of(handle).state_dict()
        assert all(got[name].equal(want[name]) for name in want)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    """Weights come in the asked dtype, rotary frequencies stay float32."""
    write.write_llava15_original(tmp_path)
    loaded = load_model(checkpoint=str(tmp_path), dtype=dtype)  # type: ignore[arg-type]
    module = write.module_of(loaded.llm)
    assert {p.dtype for p in module.parameters()} == {getattr(torch, dtype)}
    assert module.model.rotary_emb.inv_freq.dtype == torch.float32
    assert {p.dtype for p in write.module_of(loaded.vision).parameters()} == {getattr(torch, dtype)}


def test_modules_are_ready(tmp_path: Path) -> None:
    """Modules are in eval mode, use SDPA, ask for no gradients and leave nothing on the meta device."""
    write.write_llava15_original(tmp_path)
    loaded = load_model(checkpoint=str(tmp_path))
    for module in (write.module_of(loaded.vision), write.module_of(loaded.llm)):
        assert not module.training
        assert module.config._attn_implementation == "sdpa"
        tensors = [*module.parameters(), *module.buffers()]
        assert not any(t.requires_grad or t.is_meta for t in tensors)


def test_without_tokenizer(tmp_path: Path) -> None:
    """A checkpoint without tokenizer files loads; its chat format has none."""
    write.write_llava15_original(tmp_path)
    assert load_model(checkpoint=str(tmp_path)).chat.load()._tokenizer is None


def test_with_tokenizer(tmp_path: Path) -> None:
    """A tokenizer.json beside the weights is read."""
    write.write_llava15_original(tmp_path)
    write.write_word_tokenizer(tmp_path, ["a", "cat", "sat"])
    chat = load_model(checkpoint=str(tmp_path)).chat.load()
    assert chat.tokenizer("cat sat").input_ids == [1, 4, 5]


@pytest.mark.parametrize(
    "case", [c for c in all_cases() if (c.weights / "vision_tower").is_dir()], ids=lambda c: c.name
)
def test_golden_checkpoints(case: Case) -> None:
    """The reference checkpoints, in the upstream's own layout, load strictly."""
    if (case.weights / "config.json").is_file():
        handles: list[Any] = [*load_model(checkpoint=str(case.weights))]
    else:
        handles = [load_vision_tower(checkpoint=str(case.weights / "vision_tower"))]
        if (case.weights / "mm_projector.safetensors").is_file():
            handles.append(load_projector(checkpoint=str(case.weights)))
    for handle in handles:
        assert isinstance(handle.load(), handle.kind)
