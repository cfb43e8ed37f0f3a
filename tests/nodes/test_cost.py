"""measure_cost: what a prompt costs, stage by stage, beside what it would cost uncompressed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tokenloom import nodes
from tokenloom.nodes.cost import measure_cost
from tokenloom.runtime.context import counting, demand
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.models.handle import LanguageFacts, Model, ModelFacts
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.values import KVCache, LayerCache, LLMState, Table, Tokens

from ..runtime.models.tiny import WIDTH, Held, language_handle, tiny_language
from ..states import Run, placed, visual_tokens

VICUNA_7B = LanguageFacts(
    family="llama", hidden=4096, depth=32, heads=32, kv_heads=32, head_dim=128, intermediate=11008,
    vocab=32000, max_length=4096,
)  # fmt: skip
FULL = 2304  # tokens of PLLaVA: 16 frames of 12 x 12


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def seven_billion() -> Model[LanguageModel]:
    """A handle that says what PLLaVA-7B's language model is like, and cannot load it."""
    return Model(
        kind=LanguageModel, loader="", folder="", fingerprint="", dtype="bfloat16", device="cpu",
        facts=ModelFacts(name="PLLaVA-7B", language=VICUNA_7B),
    )  # fmt: skip


def tokens(count: int, width: int = 1) -> Tokens:
    return visual_tokens(Run(count), width=width)


def pruned(before: int, after: int, layers: int, text: int = 0) -> LLMState:
    """As PruneVid leaves it: `layers` layers on `before` visual tokens, others on `after`; caches short."""
    given = placed(visual_tokens(Run(before), width=1), before=0, after=text)
    given = replace(given, embeds=given.embeds.bfloat16())
    rows = torch.cat([torch.arange(after), torch.arange(before, before + text)])
    ran = (torch.arange(before + text),) * layers + (rows,) * (32 - layers)
    none = torch.zeros(1, len(rows), 0)
    cache = KVCache((LayerCache(none, none, rows, rows),) * 32)
    return LLMState(given.embeds[rows], rows, rows, 32, cache, given, len(given), ran=ran)


def cell(table: Table, counted: str, stage: str, column: str) -> Any:
    """The one cell in that row and column."""
    (row,) = (row for row in table.rows if row[:2] == (counted, stage))
    return row[table.columns.index(column)]


def test_prunevid_on_pllava_7b() -> None:
    """The published ratios, 40.5 % for eleven layers and 16.2 % for the others: the table's 0.23."""
    table = measure_cost(seven_billion(), pruned(933, 373, 11), tokens(FULL))
    assert table.title == "full: 2304 visual tokens, 0 of text"
    assert cell(table, "visual alone", "prefill (table)", "of full FLOPs") == pytest.approx(0.227, abs=5e-4)
    assert cell(table, "visual alone", "prefill", "of full FLOPs") == pytest.approx(0.231, abs=5e-4)
    assert cell(table, "visual alone", "layers 0..10", "of full") == pytest.approx(0.405, abs=1e-3)
    assert cell(table, "visual alone", "layers 11..31", "of full") == pytest.approx(0.162, abs=1e-3)


def test_prumerge_on_pllava_7b() -> None:
    """55.7 % of the tokens on every layer, in whole tokens: the table's 0.53."""
    table = measure_cost(seven_billion(), pruned(1283, 1283, 32), tokens(FULL))
    assert cell(table, "visual alone", "prefill (table)", "of full FLOPs") == pytest.approx(0.53, abs=1e-3)


def test_uncompressed_is_one() -> None:
    """32.6 TFLOP without text, and every ratio 1."""
    table = measure_cost(seven_billion(), pruned(FULL, FULL, 32, text=64))
    assert cell(table, "visual alone", "prefill", "FLOPs") == pytest.approx(32.62e12, rel=1e-3)
    ratios = [
        row[i] for row in table.rows for i, name in enumerate(table.columns) if name.startswith("of full")
    ]
    assert {ratio for ratio in ratios if ratio is not None} == {1.0}


def test_text_is_counted_apart() -> None:
    """Rows with text have it in all columns; the cache is bfloat16's, half a megabyte per row."""
    table = measure_cost(seven_billion(), pruned(900, 300, 11, text=100), tokens(FULL))
    assert cell(table, "with text", "layers 0..10", "rows") == 1000
    assert cell(table, "with text", "layers 11..31", "of full") == 400 / 2404
    assert cell(table, "with text", "prefill", "KV bytes") == 400 * 512 * 1024
    assert cell(table, "with text", "prefill", "of full bytes") == 400 / 2404
    assert cell(table, "visual alone", "prefill", "KV bytes") == 300 * 512 * 1024
    assert cell(table, "with text", "head", "FLOPs") == 2 * 32000 * 4096


def test_an_answer_of_one_token_takes_no_steps() -> None:
    """Its only token comes from the prompt."""
    table = measure_cost(seven_billion(), pruned(900, 300, 11), new_tokens=1)
    assert cell(table, "with text", "decode, 0 steps", "FLOPs") == 0
    assert cell(table, "with text", "decode, 0 steps", "of full FLOPs") is None


def test_causal_kernels_spare_attention() -> None:
    """Half of it, of the prompt alone."""
    state = pruned(900, 300, 11)
    full, half = (measure_cost(seven_billion(), state, causal=causal) for causal in (False, True))
    spared = cell(full, "with text", "prefill", "FLOPs") - cell(half, "with text", "prefill", "FLOPs")
    assert spared == 2 * (11 * 900**2 + 21 * 300**2) * 4096
    decode = [cell(table, "with text", "decode, 99 steps", "FLOPs") for table in (full, half)]
    assert decode[0] == decode[1]


@pytest.mark.parametrize("rewrite", [False, True])
def test_it_is_what_a_run_counts(llm: Held, rewrite: bool) -> None:
    """Prompt and answer of a real model with a prune between its layers, cache rewritten or not."""
    given = placed(visual_tokens(Run(20), width=WIDTH))
    with demand(), counting() as tally:
        half = nodes.prefill(llm, given, until=2)
        state = nodes.prefill(llm, nodes.prune_uniform(half, ratio=0.3, rewrite_cache=rewrite))
        nodes.generate(llm, state, max_new_tokens=5)
    table = measure_cost(llm, state, new_tokens=5)
    assert cell(table, "with text", "prefill and decode", "FLOPs") == tally.flops
    assert cell(table, "with text", "layers 0..1", "rows") == 25
    assert cell(table, "with text", "layers 2..3", "rows") == 11
    kept = 4 * 11 if rewrite else 2 * 25 + 2 * 11
    assert cell(table, "with text", "prefill", "KV bytes") == kept * 2 * 2 * 8 * 4


def test_layers_to_come_run_on_what_is_left(llm: Held) -> None:
    """Before the end, and before the beginning, the table is what it will be."""
    given = placed(visual_tokens(Run(20), width=WIDTH))
    with demand():
        half = nodes.prefill(llm, given, until=2)
        done = nodes.prefill(llm, half)
    assert measure_cost(llm, given) == measure_cost(llm, half) == measure_cost(llm, done)


def test_heads_that_hold_different_rows(llm: Held) -> None:
    """The visual rows of a cache are the mean of its heads'."""
    given = placed(visual_tokens(Run(4), width=WIDTH), before=1, after=1)
    row = torch.tensor([[0, 1, 5], [1, 2, 3]])  # one and three visual rows
    none = torch.zeros(2, 3, 8)
    layer = LayerCache(none, none, row, row)
    rows = torch.arange(6)
    state = LLMState(given.embeds, rows, rows, 1, KVCache((layer,)), given, 6, ran=(rows,))
    table = measure_cost(llm, state)
    assert cell(table, "with text", "layer 0", "KV bytes") == 3 * 2 * 2 * 8 * 4
    assert cell(table, "visual alone", "layer 0", "KV bytes") == 2 * 2 * 2 * 8 * 4


def test_several_wires_of_uncompressed_tokens(llm: Held) -> None:
    """Their tokens add up."""
    given = placed(visual_tokens(Run(4), width=WIDTH))
    assert measure_cost(llm, given, tokens(9), tokens(7)).title == "full: 16 visual tokens, 5 of text"


def test_a_prompt_without_pictures(llm: Held) -> None:
    """Ratios of nothing to nothing are left open."""
    table = measure_cost(llm, placed())
    assert cell(table, "visual alone", "layers 0..3", "of full") is None
    assert cell(table, "visual alone", "prefill (table)", "of full FLOPs") is None


def test_a_state_made_by_hand(llm: Held) -> None:
    """It does not say what its layers ran on."""
    state = replace(nodes.prefill(llm, placed(visual_tokens(Run(4), width=WIDTH)), until=2), ran=())
    with pytest.raises(GraphError) as error:
        measure_cost(llm, state)
    assert str(error.value) == (
        "measure_cost.state: 2 layers have run, but it does not say on what; give a state that prefill made"
    )


def test_a_state_of_another_model(llm: Held) -> None:
    """Another fingerprint, another shape."""
    given = replace(placed(visual_tokens(Run(4), width=WIDTH)), model="someone else's")
    with pytest.raises(GraphError, match=r"^measure_cost\.state: the prompt was placed for another language"):
        measure_cost(llm, given)
