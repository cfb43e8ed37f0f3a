"""FLOPs and bytes by formula, against the published ratios and against what torch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime import cost
from tokenloom.runtime.models.handle import LanguageFacts, ProjectorFacts, TowerFacts
from tokenloom.runtime.models.projector import Projector, build_projector

from ..flops import counted_by_torch
from ..towers import random_tiles, tiny_tower
from .models.tiny import tiny_language

VICUNA_7B = LanguageFacts(
    family="llama", hidden=4096, depth=32, heads=32, kv_heads=32, head_dim=128, intermediate=11008,
    vocab=32000, max_length=4096,
)  # fmt: skip
PLLAVA = 2304  # visual tokens of 16 frames of 12 x 12
PRUNEVID = [0.405 * PLLAVA] * 11 + [0.162 * PLLAVA] * 21  # the published ratios, stage 2 after layer 10


def test_table_ratio_of_prunevid() -> None:
    """PLLaVA-7B with PruneVid: the table's 0.23."""
    assert cost.table_ratio(VICUNA_7B, PRUNEVID, PLLAVA) == pytest.approx(0.227, abs=5e-4)


def test_table_ratio_of_prumerge() -> None:
    """PruMerge with 55.7 % of the tokens: the table's 0.53."""
    assert cost.table_ratio(VICUNA_7B, [0.557 * PLLAVA] * 32, PLLAVA) == pytest.approx(0.531, abs=5e-4)


def test_table_ratio_of_fastv() -> None:
    """FastV after layer 2 with 30 % kept: 0.323 (the table says 0.33)."""
    lengths = [PLLAVA] * 2 + [0.3 * PLLAVA] * 30
    assert cost.table_ratio(VICUNA_7B, lengths, PLLAVA) == pytest.approx(0.323, abs=5e-4)


def test_exact_prunevid() -> None:
    """The exact count of the same: 0.231 of 32.6 TFLOP."""
    full = cost.layers_prefill(VICUNA_7B, [PLLAVA] * 32)
    pruned = cost.layers_prefill(VICUNA_7B, [round(n) for n in PRUNEVID])
    assert full == pytest.approx(32.6e12, rel=2e-3)
    assert pruned / full == pytest.approx(0.231, abs=5e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_prefill_is_what_torch_counts(family: str) -> None:
    """All layers and the scores, grouped key-value heads, on a real model."""
    model = tiny_language(family)
    ids = torch.arange(9)[None]
    got = counted_by_torch(lambda: model.module(ids, use_cache=False))
    assert got == cost.prefill(model.facts, [9] * model.depth, head_rows=9)


def test_decode_is_what_torch_counts() -> None:
    """Three steps after a prompt of seven rows."""
    model = tiny_language("llama")
    cache: Any = model.module(torch.arange(7)[None]).past_key_values

    def steps() -> None:
        for _ in range(3):
            model.module(torch.tensor([[5]]), past_key_values=cache)

    assert counted_by_torch(steps) == cost.decode(model.facts, [7] * model.depth, 3)


def test_decode_with_caches_of_different_lengths() -> None:
    """Each step is one row longer on every layer, whatever its length."""
    lengths = [9, 9, 4, 0]
    shape = tiny_language("llama").facts
    steps = (cost.decode_step(shape, [n + t for n in lengths]) for t in (1, 2, 3, 4))
    assert cost.decode(shape, lengths, 4) == sum(steps)
    assert cost.decode(shape, lengths, 0) == 0


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_tower_is_what_torch_counts(family: Any) -> None:
    """All layers of a ViT on three tiles."""
    model, tiles = tiny_tower(family), random_tiles(3)
    facts = model.facts
    got = counted_by_torch(lambda: model.encode(tiles.pixels, layer=-1, cls_token=facts.has_cls))
    assert got == cost.tower(facts, 3, facts.grid**2, facts.depth, extra=int(facts.has_cls))


@pytest.mark.parametrize("kind", ["identity", "linear", "mlp2x_gelu", "mlp3x_gelu", "merger2x2"])
def test_projector_is_what_torch_counts(kind: str) -> None:
    """Every kind of projector, on five tokens (or groups)."""
    facts = ProjectorFacts(kind=kind, inputs=8, outputs=8 if kind == "identity" else 12)
    shape = (5, 4, 8) if facts.merge else (5, 8)
    module = build_projector(facts)
    assert counted_by_torch(lambda: module(torch.ones(shape))) == cost.projector(
        facts, len(torch.ones(shape)), 5
    )


def test_a_projector_that_pools_before_its_last_matrix() -> None:
    """Eight rows pooled to two: only the first matrix works on eight."""
    facts = ProjectorFacts(kind="mlp2x_gelu", inputs=8, outputs=12)
    projector = Projector(build_projector(facts), facts)
    features = torch.ones(8, 8)
    got = counted_by_torch(lambda: projector(features, lambda x: x.unflatten(0, (2, 4)).mean(1)))
    assert got == cost.projector(facts, 8, 2) == 2 * 8 * 8 * 12 + 2 * 2 * 12 * 12


def test_causal_kernels_spare_half_of_the_attention() -> None:
    """And nothing else."""
    spared = cost.layer_prefill(VICUNA_7B, 100) - cost.layer_prefill(VICUNA_7B, 100, causal=True)
    assert spared == 2 * 100**2 * 4096


def test_attention_rows() -> None:
    """Only the scores of the text's rows, not all rows of the released code."""
    assert cost.attention_rows(VICUNA_7B, 64, 1000) == 2 * 64 * 1000 * 4096


def test_clustering_costs_next_to_nothing() -> None:
    """PruneVid's first stage on 16 frames of 144 tokens: less than a thousandth of a prefill."""
    clustering = cost.distances(16, 144, 4096) + cost.distances(1, 16, 4096)
    assert clustering == 2 * (16 * 144**2 + 16**2) * 4096
    assert clustering < 1e-3 * cost.layers_prefill(VICUNA_7B, [PLLAVA] * 32)


def test_kv_bytes() -> None:
    """Keys and values of every layer: half a megabyte per row of a 7B model in 16 bits."""
    assert cost.kv_bytes(VICUNA_7B, [1] * 32, 2) == 512 * 1024


def test_windows_see_fewer_pairs() -> None:
    """A gated layer with windows, by hand."""
    facts = TowerFacts(
        family="qwen2_5_vl", hidden=4, intermediate=6, depth=1, heads=1, patch=2, size=0, has_cls=False
    )
    assert cost.tower_layer(facts, 8, 2 * 4**2, gated=True) == 8 * 8 * 16 + 4 * 32 * 4 + 6 * 8 * 4 * 6


@given(
    kept=st.floats(0.0, 1.0),
    deeper=st.integers(0, 32),
)
def test_table_ratio_lies_between_its_ends(kept: float, deeper: int) -> None:
    """Pruning earlier costs less, keeping all costs what it did."""
    lengths = [PLLAVA] * deeper + [kept * PLLAVA] * (32 - deeper)
    ratio = cost.table_ratio(VICUNA_7B, lengths, PLLAVA)
    assert deeper / 32 - 1e-9 <= ratio <= deeper / 32 + kept * (32 - deeper) / 32 + 1e-9
