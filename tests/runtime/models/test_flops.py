"""What models count is what torch counts, whoever runs them and however they are cut up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from tokenloom import nodes
from tokenloom.runtime.context import counting, demand
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import LLMInput, Prompt

from ...flops import counted_by_torch
from ...qwen import write_qwen
from ...states import Run, placed, visual_tokens
from ...towers import random_tiles, tiny_projector, tiny_tower, vision_handle
from .tiny import WIDTH, Held, language_handle, tiny_language


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def text(llm: Held) -> LLMInput:
    return nodes.place_tokens(llm, Prompt(pieces=((1, 5, 6, 7, 8, 9),)))


def seen() -> LLMInput:
    return placed(visual_tokens(Run(8), width=WIDTH))


def check(run: Callable[[], Any]) -> None:
    with counting() as tally:
        torchs = counted_by_torch(run)
    assert tally.flops == torchs > 0


def test_prefill(llm: Held) -> None:
    """All layers; no scores of next tokens."""
    given = text(llm)
    check(lambda: nodes.prefill(llm, given))


def test_prefill_in_pieces_with_a_prune(llm: Held) -> None:
    """Two layers on all rows, two on those that are left."""
    given = seen()

    def run() -> None:
        half = nodes.prefill(llm, given, until=2)
        nodes.prefill(llm, nodes.prune_uniform(half, ratio=0.5, rewrite_cache=False))

    with demand():
        check(run)


@pytest.mark.parametrize(
    "need",
    [
        Need("attention", rows="text", form="pre_rope_full,max,max"),
        Need("attention", rows="last", form="post_rope_causal,mean,mean"),
        Need("cache_attention"),
    ],
)
def test_attention_on_demand_is_counted(llm: Held, need: Need) -> None:
    """Rows, and keys before their rotation, are projected once more, and weighted."""
    given = seen()
    with demand(need):
        check(lambda: nodes.prefill(llm, given, until=2))


def test_many_at_once_count_no_padding(llm: Held) -> None:
    """Two prompts side by side cost what they cost alone."""
    one, two = text(llm), nodes.place_tokens(llm, Prompt(pieces=((1, 2),)))
    assert nodes.prefill.batch is not None
    with counting() as together:
        nodes.prefill.batch([llm, llm], [one, two], until=None, through=None)
    with counting() as alone:
        nodes.prefill(llm, one)
        nodes.prefill(llm, two)
    assert together.flops == alone.flops


def test_generate(llm: Held) -> None:
    """The prompt, and five steps over growing caches; the sixth token needs none of its own."""
    given = text(llm)
    check(lambda: nodes.generate(llm, given, max_new_tokens=6))


def test_generate_over_caches_of_different_lengths(llm: Held) -> None:
    """Layers before a prune see more rows than those after it."""
    with demand():
        half = nodes.prefill(llm, seen(), until=2)
    state = nodes.prune_uniform(half, ratio=0.25, rewrite_cache=False)
    check(lambda: nodes.generate(llm, state, max_new_tokens=4))


def test_generate_with_rows_that_each_token_chooses(llm: Held) -> None:
    """FastV's mask mode: nothing is spared, and choosing costs."""
    fastv = Need("attention", rows="last", form="post_rope_causal,mean,mean")
    with demand(fastv):
        half = nodes.prefill(llm, seen(), until=2)
    state = nodes.prune_by_attention(
        half, drop=0.5, rows="last", attention="post_rope_causal", heads="mean", over="mean",
        select="global", rewrite_cache=False, mode="mask",
    )  # fmt: skip
    check(lambda: nodes.generate(llm, state, max_new_tokens=4))


@pytest.mark.parametrize("rows", ["last", "all"])
def test_read_logits(llm: Held, rows: Literal["last", "all"]) -> None:
    """The scores alone."""
    state = nodes.prefill(llm, text(llm))
    check(lambda: nodes.read_logits(llm, state, rows=rows))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_towers(family: Literal["clip", "siglip"]) -> None:
    """As far as they run: one layer before the last."""
    vision, tiles = vision_handle(tiny_tower(family)), random_tiles(3)
    with demand():
        check(lambda: nodes.encode_vision(vision, tiles, layer=-2))


def test_towers_with_windows(tmp_path: Path) -> None:
    """Qwen2.5-VL: most blocks see only their windows."""
    write_qwen(tmp_path)
    model = nodes.load_model(checkpoint=str(tmp_path), dtype="float32", device="cpu")
    tiles = random_tiles(2, height=40, width=56)
    tower = model.vision.load()
    pixels = tiles.pixels[:, :, None].expand(-1, -1, 2, -1, -1)
    check(lambda: tower.encode(pixels, layer=-1))


def test_projectors() -> None:
    """On the tokens that they are given."""
    projector = tiny_projector()
    patches = nodes.encode_vision(vision_handle(tiny_tower()), random_tiles(1))
    check(lambda: nodes.project_mlp(projector, patches))
