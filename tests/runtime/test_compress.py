"""`tokenloom.compress`: stock transformers models give their own ids, and stay as they are."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch

from tokenloom import compress
from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.models.pool import pool

from ..stock import (
    FAMILIES,
    NEW,
    SIDE,
    VIDEO,
    batch,
    clips,
    image,
    inputs,
    onevision_pictures,
    other,
    pictures,
    plain,
    processor,
    row,
    stock,
    tiled,
)


@pytest.fixture(scope="module")
def llava() -> Any:
    return stock("llava")


@pytest.fixture(scope="module")
def onevision() -> Any:
    return stock("llava_onevision")


# -- without compression: the stock model's own ids ----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_without_compression_the_ids_are_the_stock_models(family: str) -> None:
    """A batch of two, one and two pictures, padded on the left, greedy: equal id by id."""
    model, given = stock(family), inputs(family)
    with compress(model, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(model, given))


@pytest.mark.parametrize(
    ("visual", "language", "more"),
    [
        ("clip", "llama", {"vision_feature_select_strategy": "full"}),
        ("clip", "llama", {"vision_feature_layer": 2}),
        ("clip", "mistral", {"multimodal_projector_bias": False, "projector_hidden_act": "relu"}),
        ("siglip", "qwen2", {"vision_feature_select_strategy": "full", "tie_word_embeddings": True}),
    ],
    ids=["cls", "layer", "mistral", "siglip"],
)
def test_other_towers_and_language_models_give_their_ids(visual: str, language: str, more: Any) -> None:
    """Features with [CLS] and of other layers, other projectors, a sliding window, tied embeddings."""
    model = other(visual, language, **more)
    tokens = 17 if visual == "clip" and "vision_feature_select_strategy" in more else 16
    given = {**batch(row(3, tokens, 5), row(1, tokens, 9)), "pixel_values": pictures(2)}
    with compress(model, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(model, given))


def test_clips_give_the_stock_models_ids(onevision: Any) -> None:
    """OneVision's frames are pooled to the model's own grid, and end with a newline."""
    given = clips()
    with compress(onevision, "onevision") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(onevision, given))


def test_pictures_clips_and_text_in_one_batch_give_the_stock_models_ids(onevision: Any) -> None:
    """A row may have a clip, pictures and another clip, in any order; another one nothing but text."""
    rows = batch(
        row(3, 85, 4),
        [*row(2, 55, 3, VIDEO), *row(0, 26 + 26, 6)[1:], *row(0, 55, 2, VIDEO)[1:]],
        row(5, 0, 3),
    )
    given = {
        **rows,
        "pixel_values": tiled(3, 1, 1, side=SIDE),
        "image_sizes": torch.tensor([[60, 30], [100, 101], [20, 34]]),
        "batch_num_images": torch.tensor([1, 2]),
        "pixel_values_videos": pictures(12, SIDE).view(2, 6, 3, SIDE, SIDE),
    }
    with compress(onevision, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(onevision, given))
        assert [len(one.stages) for one in full.last or ()] == [5, 13, 0]


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_what_a_real_processor_returns_is_taken(family: str) -> None:
    """Its ids, masks, pixels and sizes go in as they are, and its batch_decode takes what comes out."""
    model, prepare = stock(family), processor(family)
    given = prepare(
        images=[image(50, 20), image(40, 41), image(20, 70)],
        text=["w5 <image> w7 w8 w9", "w4 w3 <image> w12 <image> w13 w17 w20 w5"],
        return_tensors="pt",
        padding=True,
    )
    with compress(model, "llava15") as full, compress(model, "visionzip", keep=4, targets=2) as small:
        ids = full.generate(**given, max_new_tokens=NEW)
        assert torch.equal(ids, plain(model, given))
        answers = prepare.batch_decode(small.generate(**given, max_new_tokens=NEW))
    prompts = prepare.batch_decode(given["input_ids"])
    assert all(answer.startswith(prompt) for answer, prompt in zip(answers, prompts, strict=True))


def test_what_onevisions_image_processor_returns_is_taken(onevision: Any) -> None:
    """Its pictures of a prompt with several are not cut up, as batch_num_images says."""
    pixels = onevision_pictures([image(30, 60)], [image(101, 100), image(34, 20)])
    given = {**batch(row(3, 85, 4), [*row(1, 26, 2), *row(0, 26, 6)[1:]]), **pixels}
    with compress(onevision, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(onevision, given))


def test_a_batch_without_pictures_is_the_stock_models(llava: Any) -> None:
    """There is nothing to compress: any method gives the model's own ids."""
    given = batch(row(3, 0, 5), row(8, 0, 9))
    with compress(llava, "lookm") as small:
        assert torch.equal(small.generate(**given, max_new_tokens=NEW), plain(llava, given))


def test_padding_may_be_on_the_right(llava: Any) -> None:
    """The same new ids as with padding on the left, behind the prompt as it came."""
    left, right = (
        {**batch(row(3, 16, 5), row(1, 16, 9), side=side), "pixel_values": pictures(2)}
        for side in ("left", "right")
    )
    with compress(llava, "visionzip", keep=4) as small:
        one, other = (small.generate(**given, max_new_tokens=NEW) for given in (left, right))
    length = left["input_ids"].shape[1]
    assert torch.equal(one[:, length:], other[:, length:])
    assert torch.equal(other[:, :length], right["input_ids"])


def test_padding_is_known_by_its_id_without_a_mask(llava: Any) -> None:
    """As the plain model infers it: the padding's id, where that ends no answer."""
    given = inputs("llava")
    with compress(llava, "llava15") as full:
        masked = full.generate(**given, max_new_tokens=NEW)
        del given["attention_mask"]
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), masked)


def test_answers_end_and_are_filled_up_like_the_stock_models(llava: Any) -> None:
    """An end token stays, the pad token follows, and nothing is longer than the longest answer."""
    given = inputs("llava")
    new = plain(llava, given)[:, given["input_ids"].shape[1] :]
    end = int(new[1, 3])
    asked = {"eos_token_id": [end, 2], "pad_token_id": 61}
    with compress(llava, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW, **asked), plain(llava, given, **asked))


def test_no_end_token_may_be_asked_for(llava: Any) -> None:
    """Another one than the model's, or none: then its own ends nothing."""
    given = inputs("llava")
    with compress(llava, "llava15") as full:
        for end in (61, None):
            asked = {"max_new_tokens": 20, "eos_token_id": end}
            assert torch.equal(full.generate(**given, **asked), plain(llava, given, **asked))


def test_lengths_are_counted_as_the_stock_model_does(llava: Any) -> None:
    """max_length counts the prompt, min_new_tokens and min_length put the end off."""
    given = inputs("llava")
    length = given["input_ids"].shape[1]
    asked: list[dict[str, Any]] = [
        {"max_length": length + 4, "max_new_tokens": None},
        {"min_new_tokens": 12, "max_new_tokens": 14, "eos_token_id": 17},
        {"min_length": length + 6, "max_new_tokens": 9, "eos_token_id": 17},
    ]
    with compress(llava, "llava15") as full:
        for more in asked:
            assert torch.equal(full.generate(**given, **more), plain(llava, given, **more))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_answer(dtype: torch.dtype) -> None:
    """The first ids are the stock model's; every part runs in the model's own number format."""
    model, given = stock("llava_next").to(dtype), inputs("llava_next")
    length = given["input_ids"].shape[1]
    with compress(model, "llava15") as full, compress(model, "visionzip", keep=4, targets=2) as small:
        ids = full.generate(**given, max_new_tokens=2)
        assert torch.equal(ids[:, length], plain(model, given)[:, length])
        assert small.generate(**given, max_new_tokens=2).shape == (2, length + 2)


def test_a_model_with_another_attention_runs_with_sdpa_and_stays_so(llava: Any) -> None:
    """Eager (or flash) attention is the model's own affair: its configuration and its ids do not change."""
    model, given = copy.deepcopy(llava), inputs("llava")
    model.set_attn_implementation("eager")
    with compress(model, "fastv", k=1) as small:
        small.generate(**given, max_new_tokens=2)
    with compress(model, "llava15") as full:
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), plain(model, given))
    assert model.model.language_model.config._attn_implementation == "eager"


def test_inference_mode_and_autograd_are_both_fine(llava: Any) -> None:
    """Under torch.inference_mode too, and no gradient is recorded."""
    given = inputs("llava")
    with compress(llava, "fastv", k=1) as small:
        ids = small.generate(**given, max_new_tokens=NEW)
        with torch.inference_mode():
            assert torch.equal(small.generate(**inputs("llava"), max_new_tokens=NEW), ids)
    assert not ids.requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_on_a_gpu_gives_the_stock_models_ids(family: str) -> None:
    """Model and inputs on the GPU, and so are the ids; inputs on the CPU are moved."""
    model = stock(family).cuda()
    given = inputs(family)
    moved = {name: tensor.cuda() for name, tensor in given.items()}
    with compress(model, "llava15") as full, compress(model, "visionzip", keep=4) as small:
        ids = full.generate(**moved, max_new_tokens=NEW)
        assert ids.device.type == "cuda"
        assert torch.equal(ids, plain(model, moved))
        assert torch.equal(full.generate(**given, max_new_tokens=NEW), ids.cpu())
        assert len(small.generate(**moved, max_new_tokens=2)) == 2


def test_a_model_may_be_moved_and_cast_afterwards(llava: Any) -> None:
    """What is wrapped is the model as it is when it generates."""
    model, given = copy.deepcopy(stock("llava_next")), inputs("llava_next")
    with compress(model, "llava15") as full:
        first = full.generate(**given, max_new_tokens=2)
        model.to(torch.bfloat16).to(torch.float64)
        assert torch.equal(full.generate(**given, max_new_tokens=2), plain(model, given, max_new_tokens=2))
        assert full.device == torch.device("cpu")
    assert first.shape == (2, given["input_ids"].shape[1] + 2)


# -- nothing is changed --------------------------------------------------------------------------------------


def test_weights_are_used_in_place(llava: Any) -> None:
    """The parts that the nodes load hold the model's own parameters, at the same addresses."""
    own = {parameter.data_ptr() for parameter in llava.parameters()}
    with compress(llava, "visionzip", keep=4) as small:
        parts = small._parts
        assert parts is not None
        seen: set[int] = set()
        for part in (parts.vision, parts.projector, parts.llm):
            seen |= {parameter.data_ptr() for parameter in part.load().module.parameters()}
    head_of_the_tower = {p.data_ptr() for p in llava.model.vision_tower.post_layernorm.parameters()}
    assert seen | head_of_the_tower == own


def test_weights_are_used_in_place_with_another_attention(llava: Any) -> None:
    """Modules for SDPA are made around the same parameters."""
    model = copy.deepcopy(llava)
    model.set_attn_implementation("eager")
    with compress(model, "visionzip", keep=4) as small:
        assert small._parts is not None
        mine: Any = small._parts.llm.load().module
        theirs = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
        assert all(one is other for one, other in zip(mine.parameters(), theirs, strict=True))


def test_the_model_is_as_it_was_during_and_after(llava: Any) -> None:
    """Its ids, its modules, its hooks, its mode and every bit of its weights."""
    given = inputs("llava")
    before = plain(llava, given)
    state = {name: tensor.clone() for name, tensor in llava.state_dict().items()}
    modules = _seen(llava)
    with compress(llava, "visionzip", keep=4, targets=2) as small:
        small.generate(**given, max_new_tokens=NEW)
        assert torch.equal(plain(llava, given), before)
    assert torch.equal(plain(llava, given), before)
    assert _seen(llava) == modules
    assert all(torch.equal(state[name], tensor) for name, tensor in llava.state_dict().items())


def _seen(model: torch.nn.Module) -> dict[str, Any]:
    """Every module: which object it is, what is set on it, and its hooks."""
    return {
        name: (id(module), set(vars(module)), module.training, [*module._forward_hooks.values()])
        for name, module in model.named_modules()
    }


def test_two_budgets_on_one_model_at_once(llava: Any) -> None:
    """Each answers as it would alone, by turns."""
    given = inputs("llava")
    alone = []
    for keep in (2, 6):
        with compress(llava, "visionzip", keep=keep, targets=1) as small:
            alone.append(small.generate(**given, max_new_tokens=NEW))
    with compress(llava, "visionzip", keep=2, targets=1) as one:
        with compress(llava, "visionzip", keep=6, targets=1) as other:
            for _ in range(2):
                assert torch.equal(one.generate(**given, max_new_tokens=NEW), alone[0])
                assert torch.equal(other.generate(**given, max_new_tokens=NEW), alone[1])
        assert torch.equal(one.generate(**given, max_new_tokens=NEW), alone[0])


def test_a_clip_text_model_in_the_process_is_untouched(llava: Any) -> None:
    """VisionZip's released code patches CLIP's classes; here they compute what they did, to the bit."""
    from transformers import CLIPTextConfig, CLIPTextModel
    from transformers.models.clip import modeling_clip

    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    ).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    methods = {name: vars(cls).get("forward") for name, cls in vars(modeling_clip).items() if _is_module(cls)}
    with torch.no_grad():
        before = text(ids).last_hidden_state
        with compress(llava, "visionzip", keep=4) as small:
            small.generate(**inputs("llava"), max_new_tokens=2)
            assert torch.equal(text(ids).last_hidden_state, before)
    assert methods == {
        name: vars(cls).get("forward") for name, cls in vars(modeling_clip).items() if _is_module(cls)
    }


def test_nothing_stays_behind(llava: Any) -> None:
    """The pool of loaded models does not know the model, and when both are let go of its memory is free."""
    model = copy.deepcopy(llava)
    gone = weakref.ref(model.model.language_model.layers[0])
    with compress(model, "fastv", k=1) as small:
        small.generate(**inputs("llava"), max_new_tokens=2)
        names = {resident.handle.loader for resident in pool().resident()}
    assert "live" not in names
    del model
    gc.collect()
    assert gone() is None
    assert small.last is not None
    assert len(small.last) == 2


def test_a_closed_compression_says_so(llava: Any) -> None:
    """Outside its context it holds no model."""
    with compress(llava, "visionzip", keep=4) as small:
        pass
    assert small.model is None
    with pytest.raises(LoomError) as error:
        small.generate(**inputs("llava"))
    assert str(error.value) == (
        "generate: this compression was left; make one with tokenloom.compress(model, ...)"
    )


def _is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, torch.nn.Module)
