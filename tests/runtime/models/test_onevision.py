"""LLaVA-OneVision: the stages of the graph give the native model's logits, from either layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import onevision as write
from tests.checkpoints import Names
from tokenloom.nodes import (
    append_newline,
    encode_vision,
    load_model,
    pack_spatial_unpad,
    place_tokens,
    pool_tokens,
    prefill,
    preprocess,
    project_mlp,
    read_logits,
)
from tokenloom.nodes.models import Loaded
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.values import Frames, Kind, Prompt, Slot, Tiles, VisualTokens

LEFT, RIGHT = (1, 5), (9, 20, 7)
SIDE = write.SIDE
PICTURES = {
    "square": [(80, 80)],
    "odd aspect": [(31, 97)],
    "above the limit": [(103, 88)],
    "one tile": [(20, 30)],
    "two": [(50, 90), (70, 33)],
}


def pictures(sizes: list[tuple[int, int]]) -> Frames:
    """Noise of these (width, height)."""
    torch.manual_seed(3)
    made = tuple(torch.randint(0, 256, (h, w, 3), dtype=torch.uint8) for w, h in sizes)
    return Frames(made, torch.zeros(len(made), dtype=torch.float64))


def clip(count: int) -> Frames:
    """Noise frames of 60 x 45."""
    torch.manual_seed(4)
    pixels = torch.randint(0, 256, (count, 45, 60, 3), dtype=torch.uint8)
    return Frames.of_video(pixels, torch.arange(count) / 2)


def processed(frames: Frames) -> Any:
    """What the stock image processor makes of the pictures, as one prompt's."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    processor: Any = LlavaOnevisionImageProcessorPil(
        **write.PREPROCESSOR, image_grid_pinpoints=write.PINPOINTS
    )
    return processor([[Image.fromarray(p.numpy()) for p in frames.pictures]], return_tensors="pt")


def ours(loaded: Loaded, visual: VisualTokens, slots: list[Slot]) -> Tensor:
    """Logits [S, V] of the stages after the projector."""
    prompt = Prompt(pieces=(LEFT, *slots, RIGHT))
    state = prefill(loaded.llm, place_tokens(loaded.llm, prompt, visual))
    return read_logits(loaded.llm, state, rows="all").values


def packed(loaded: Loaded, tiles: Tiles) -> VisualTokens:
    """Tower, projector and packing of pictures."""
    visual = project_mlp(loaded.projector, encode_vision(loaded.vision, tiles))
    return pack_spatial_unpad(visual, loaded.projector)


def watched(loaded: Loaded, frames: Frames) -> VisualTokens:
    """Tower, projector, pooling and newline of a clip."""
    tiles = preprocess(loaded.chat, frames)
    visual = project_mlp(loaded.projector, encode_vision(loaded.vision, tiles))
    return append_newline(pool_tokens(visual, grid=(3, 3), method="bilinear"), loaded.projector)


def stock_logits(native: Any, placeholder: int, count: int, **inputs: Any) -> Tensor:
    """Logits [S, V] of the native model."""
    ids = torch.tensor([[*LEFT, *[placeholder] * count, *RIGHT]])
    with torch.no_grad():
        return cast("Tensor", native(input_ids=ids, **inputs).logits[0])


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_as_the_native_model(tmp_path: Path, name: str) -> None:
    """The processor's pixels bit for bit, as many tokens, and the logits: one picture or several."""
    native = write.write_hf(tmp_path)
    loaded, frames = load_model(checkpoint=str(tmp_path)), pictures(PICTURES[name])
    tiles, want = preprocess(loaded.chat, frames), processed(frames)
    stacked = torch.cat(list(want["pixel_values"])) if len(frames) > 1 else want["pixel_values"][0]
    assert tiles.pixels.equal(stacked)
    visual = packed(loaded, tiles)
    got = ours(loaded, visual, [Slot()] * len(frames))
    torch.testing.assert_close(
        got, stock_logits(native, write.IMAGE, len(visual), **want), atol=1e-5, rtol=1e-5
    )


def test_a_large_map_is_scaled_down(tmp_path: Path) -> None:
    """A map of 13 x 15 is brought to 9 x 10, and every token knows what it was interpolated from."""
    write.write_hf(tmp_path)
    loaded, frames = load_model(checkpoint=str(tmp_path)), pictures(PICTURES["above the limit"])
    tiles = preprocess(loaded.chat, frames)
    whole, visual = project_mlp(loaded.projector, encode_vision(loaded.vision, tiles)), packed(loaded, tiles)
    kinds = visual.kind.tolist()
    assert (kinds.count(Kind.PATCH), kinds.count(Kind.POOLED), kinds.count(Kind.NEWLINE)) == (25, 90, 9)
    assert int((visual.coverage()[1:] > 0).sum()) == 13 * 15
    parts = whole.features[visual.member] * visual.share[:, None]
    again = torch.zeros_like(visual.features).index_add_(0, visual.owner, parts)
    pooled = visual.kind == int(Kind.POOLED)
    torch.testing.assert_close(again[pooled], visual.features[pooled])


def test_a_clip_as_the_native_model(tmp_path: Path) -> None:
    """Squeezed frames, 3 x 3 tokens of each, one newline at the end."""
    native = write.write_hf(tmp_path)
    loaded, frames = load_model(checkpoint=str(tmp_path)), clip(3)
    visual = watched(loaded, frames)
    resized = [
        np.asarray(Image.fromarray(p.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for p in frames.pictures
    ]
    values = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)[None] / 255
    want = stock_logits(native, write.VIDEO, 28, pixel_values_videos=(values - 0.5) / 0.5)
    assert visual.kind.tolist() == [Kind.POOLED] * 27 + [Kind.NEWLINE]
    torch.testing.assert_close(ours(loaded, visual, [Slot("video")]), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("names", ["5.x", "mixed"])
def test_other_names(tmp_path: Path, names: Names) -> None:
    """Names as later versions write them give the same logits as the hub's."""
    write.write_hf(tmp_path / "hub")
    write.write_hf(tmp_path / "later", names=names)
    results = [
        ours(loaded, watched(loaded, clip(2)), [Slot("video")])
        for loaded in (load_model(checkpoint=str(tmp_path / name)) for name in ("hub", "later"))
    ]
    assert results[0].equal(results[1])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("inside", [True, False], ids=["tower inside", "tower apart"])
def test_the_original_layout_is_the_same_model(tmp_path: Path, inside: bool, tied: bool) -> None:
    """Features and logits of the released layout, its tower cut or whole, its head its own or tied."""
    write.write_hf(tmp_path / "hf", tied=tied)
    write.write_original(tmp_path / "original", inside=inside, tied=tied)
    results = []
    for name in ("hf", "original"):
        loaded = load_model(checkpoint=str(tmp_path / name))
        visual = packed(loaded, preprocess(loaded.chat, pictures([(103, 88)])))
        results.append((visual.features, ours(loaded, visual, [Slot()])))
    assert results[0][0].equal(results[1][0])
    assert results[0][1].equal(results[1][1])


def test_facts_of_the_original_layout(tmp_path: Path) -> None:
    """Canvases from the range, the limit, squeezed frames; the layer counted from the cut tower's end."""
    write.write_original(tmp_path)
    facts = load_model(checkpoint=str(tmp_path)).chat.facts
    assert facts.image == ImageFacts(
        size=SIDE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        aspect="anyres",
        pinpoints=tuple((SIDE * across, SIDE * down) for across in (1, 2, 3) for down in (1, 2, 3)),
        merge_type="spatial_unpad",
        frames="stretch",
        max_tiles=4,
    )
    assert facts.tower is not None
    assert facts.chat is not None
    assert (facts.tower.depth, facts.tower.select_layer) == (3, -1)
    assert facts.chat.template == "qwen_1_5"
