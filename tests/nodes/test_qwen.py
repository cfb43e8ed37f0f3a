"""Qwen2.5-VL through public nodes, from picture to answer, against the native model of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.nodes import (
    encode_vision,
    generate,
    load_image,
    load_model,
    merge_contextual,
    place_tokens,
    prefill,
    preprocess,
    project_merger,
    read_logits,
    render_chat,
    select_dominant,
)
from tokenloom.nodes.models import Loaded
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.needs import Need
from tokenloom.runtime.run import run
from tokenloom.runtime.values import LLMInput, Prompt, VisualTokens
from tokenloom.runtime.yamlfile import load

from ..qwen import END, IMAGE, START, write_qwen

QUESTION = "What is in the picture ?"


@dataclass(frozen=True)
class Given:
    """A checkpoint's folder, the native model that it was written from, its handles, and two pictures."""

    folder: Path
    native: Any
    model: Loaded
    pictures: tuple[Path, Path]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    from PIL import Image

    folder = tmp_path_factory.mktemp("qwen")
    native = write_qwen(folder)
    pictures: list[Path] = []
    for i, size in enumerate([(50, 37), (31, 41)]):
        noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(i))
        pictures.append(folder / f"{i}.png")
        Image.fromarray(noise.to(torch.uint8).numpy()).save(pictures[-1])
    model = load_model(checkpoint=str(folder), dtype="float32", device="cpu")
    return Given(folder, native, model, (pictures[0], pictures[1]))


def seen(given: Given, picture: Path) -> VisualTokens:
    """The tokens of a picture, with scores and keys."""
    tiles = preprocess(given.model.chat, load_image(path=picture))
    with demand(Need("received_attention"), Need("keys")):
        patches = encode_vision(given.model.vision, tiles)
    out: VisualTokens = project_merger(given.model.projector, patches)
    return out


def processed(*pictures: Path) -> dict[str, Tensor]:
    """What transformers' own image processor makes of them."""
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from ..qwen import PREPROCESSOR

    settings = {k: v for k, v in PREPROCESSOR.items() if "pixels" not in k}
    size = {"shortest_edge": PREPROCESSOR["min_pixels"], "longest_edge": PREPROCESSOR["max_pixels"]}
    made = Qwen2VLImageProcessorPil(**settings, size=size)(
        [Image.open(p).convert("RGB") for p in pictures], return_tensors="pt"
    )
    return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}


def prompt_of(*pieces: list[int] | None) -> Prompt:
    """Token ids, and a picture for every None, between its start and end tokens."""
    ids: list[int] = []
    for piece in pieces:
        ids += [START, -200, END] if piece is None else piece
    return Prompt.of_ids(ids)


def native_inputs(prompt: Prompt, counts: list[int], pixels: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same prompt as the native model takes it: image tokens repeated."""
    left = iter(counts)
    ids = [i for n in prompt.ids for i in ([IMAGE] * next(left) if n == -200 else [n])]
    row = torch.tensor([ids])
    kinds = {"mm_token_type_ids": (row == IMAGE).int()}
    return {"input_ids": row, "attention_mask": torch.ones_like(row), **kinds, **pixels}


def placed_pair(given: Given) -> tuple[LLMInput, dict[str, Tensor]]:
    """Two pictures of different sizes in one prompt, for us and for the native model."""
    visual = [seen(given, picture) for picture in given.pictures]
    prompt = prompt_of([1, 8], None, [20, 9], None, [15, 16, 17, 2])
    ours = place_tokens(given.model.llm, prompt, *visual)
    return ours, native_inputs(prompt, [len(v) for v in visual], processed(*given.pictures))


def test_pixels_are_those_of_the_native_processor(given: Given) -> None:
    """Size and values, patch by patch."""
    for picture in given.pictures:
        tiles = preprocess(given.model.chat, load_image(path=picture))
        want = processed(picture)
        _, rows, cols = want["image_grid_thw"][0].tolist()
        assert tiles.pixels.shape == (1, 3, rows * 4, cols * 4)
        cut = want["pixel_values"].reshape(rows // 2, cols // 2, 2, 2, 3, 2, 4, 4)
        for moment in range(2):
            pixels = cut[:, :, :, :, :, moment].permute(4, 0, 2, 5, 1, 3, 6).reshape(tiles.pixels[0].shape)
            assert tiles.pixels[0].equal(pixels)


def test_visual_tokens_are_those_of_the_native_tower(given: Given) -> None:
    """Windows that the edge cuts, window and full blocks, merger, order."""
    for picture in given.pictures:
        want = processed(picture)
        with torch.no_grad():
            native = given.native.model.visual(want["pixel_values"], grid_thw=want["image_grid_thw"])
        torch.testing.assert_close(seen(given, picture).features, native.pooler_output, rtol=0, atol=1e-5)


def test_positions_and_logits_are_those_of_the_native_model(given: Given) -> None:
    """Two pictures and text around them."""
    ours, native = placed_pair(given)
    assert ours.rope is not None
    position, _ = given.native.model.get_rope_index(
        native["input_ids"],
        mm_token_type_ids=native["mm_token_type_ids"],
        image_grid_thw=native["image_grid_thw"],
    )
    assert ours.rope.T[:, None].equal(position)
    with torch.no_grad():
        want = given.native(**native).logits[0]
    logits = read_logits(given.model.llm, prefill(given.model.llm, ours), rows="all").values
    torch.testing.assert_close(logits, want, rtol=0, atol=1e-5)


def test_greedy_ids_are_those_of_the_native_model(given: Given) -> None:
    """Decoding goes on behind the greatest position, alone and beside a shorter prompt."""
    ours, native = placed_pair(given)
    with torch.no_grad():
        want = given.native.generate(**native, do_sample=False, min_new_tokens=12, max_new_tokens=12)
    ids = tuple(want[0, native["input_ids"].shape[1] :].tolist())
    settings: dict[str, Any] = {"max_new_tokens": 12, "min_new_tokens": 12}
    assert generate(given.model.llm, ours, **settings).answer.ids == ids
    short = place_tokens(given.model.llm, prompt_of([1, 8], None, [15]), seen(given, given.pictures[0]))
    alone = generate(given.model.llm, short, **settings).answer.ids
    both = generate.many([(given.model.llm, short), (given.model.llm, ours)], **settings)
    assert [one.answer.ids for one in both] == [alone, ids]


def test_prefill_may_stop_between_layers(given: Given) -> None:
    """Places are looked up again for the layers that are left."""
    ours, _ = placed_pair(given)
    whole = prefill(given.model.llm, ours)
    halves = prefill(given.model.llm, prefill(given.model.llm, ours, until=1))
    assert halves.hidden.equal(whole.hidden)


def test_kept_tokens_keep_their_places(given: Given) -> None:
    """Pruning leaves gaps, contextual tokens sit where their targets were, text goes on as if all stayed."""
    visual = seen(given, given.pictures[0])
    picked = select_dominant(visual, ratio=0.3, score="received")
    merged = merge_contextual(picked.kept, picked.rest, ratio=0.2, order="in_place")
    prompt = prompt_of([1, 8], None, [15, 16])
    full = place_tokens(given.model.llm, prompt, visual)
    some = place_tokens(given.model.llm, prompt, merged)
    assert full.rope is not None
    assert some.rope is not None
    first = torch.cat([visual.member[visual.start[:-1]]])
    kept = torch.isin(first, merged.side["place"])
    assert int(kept.sum()) == len(merged) == int(0.3 * len(visual)) + int(0.2 * len(visual))
    stays = torch.ones(len(full), dtype=torch.bool)
    stays[full.token >= 0] = kept
    assert some.rope.equal(full.rope[stays])
    assert some.position.equal(some.rope.amax(1))


@pytest.mark.parametrize("name", ["base/qwen25vl", "visionzip_qwen25vl"])
def test_built_in_graphs_equal_eager_calls(given: Given, name: str) -> None:
    """From picture to answer."""
    result = run(
        load(name),
        cache=False,
        device="cpu",
        checkpoint=str(given.folder),
        image=str(given.pictures[0]),
        question=QUESTION,
        max_new_tokens=6,
    )
    model, frames = given.model, load_image(path=given.pictures[0])
    visual = seen(given, given.pictures[0])
    if name != "base/qwen25vl":
        picked = select_dominant(visual, ratio=0.4, score="received")
        visual = merge_contextual(picked.kept, picked.rest, ratio=0.1, order="in_place")
    prompt = render_chat(model.chat, frames, question=QUESTION)
    placed = place_tokens(model.llm, prompt, visual)
    answer = generate(model.llm, placed, model.chat, max_new_tokens=6)
    assert result["answer"] == answer.text
    assert result["tokens"].features.equal(visual.features)


def test_a_picture_stands_between_its_own_tokens(given: Given) -> None:
    """The prompt of the checkpoint's template."""
    prompt = render_chat(given.model.chat, load_image(path=given.pictures[0]), question=QUESTION)
    assert prompt.text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|><image><|vision_end|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    at = prompt.ids.index(-200)
    assert prompt.ids[at - 1 : at + 2] == (START, -200, END)


def test_positions_of_another_kind_are_refused(given: Given) -> None:
    """A prompt placed for a model with plain positions."""
    ours, _ = placed_pair(given)
    plain = LLMInput(
        ours.embeds, ours.position, ours.segment, ours.wire, ours.token, ours.ids, ours.tokens, ours.stop
    )
    with pytest.raises(GraphError) as error:
        prefill(given.model.llm, plain)
    assert str(error.value) == (
        "prefill.inputs: positions of another kind than the language model's (M-RoPE or plain); use the same "
        "checkpoint in place_tokens and here"
    )
