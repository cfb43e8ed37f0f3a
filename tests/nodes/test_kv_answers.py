"""From a prompt with pictures through compress_kv to the answer: tiny models with grouped heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom import load, run
from tokenloom.nodes.generate import generate
from tokenloom.nodes.kv import compress_kv
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prune import prune_uniform
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import NeedError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.decode import Decoder
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.needs import Need
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import execute
from tokenloom.runtime.values import LayerCache, LLMInput, LLMState, Prompt, Source, Tile, VisualTokens
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..runtime.models.tiny import DEPTH, FAMILIES, WIDTH, Held, language_handle, tiny_language

MODES = ("h2o", "pivot", "weighted", "avg")


@pytest.fixture(scope="module", params=FAMILIES)
def llm(request: pytest.FixtureRequest) -> Held:
    return language_handle(tiny_language(request.param))


def a_prompt(llm: Held, pictures: int = 1, seed: int = 0) -> LLMInput:
    """3 ids, then per picture 36 visual tokens and 5 ids."""
    source = Source((Tile(frame=0, box=(0, 0, 6, 6)),), 6, 6)
    features = torch.randn(pictures, 36, WIDTH, generator=torch.Generator().manual_seed(seed))
    visual = [VisualTokens.of_patches(source, one) for one in features]
    ids = [1, 7, 9, *[IMAGE_TOKEN_INDEX, 30, 31, 32, 33, 34] * pictures]
    return place_tokens(llm, Prompt.of_ids(ids), *visual)


def prefilled(llm: Held, given: LLMInput | LLMState, until: int | None = None) -> LLMState:
    with demand(Need("cache_attention")):
        return prefill(llm, given, until=until)


def kv_bytes(state: LLMState) -> int:
    return sum(x.nbytes for layer in state.cache.layers for x in (layer.keys, layer.values))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text_prior", [True, False])
def test_less_memory_and_the_same_first_token(llm: Held, mode: Any, text_prior: bool) -> None:
    """44 keys become 4 + 4, whichever they are; the logits after the prompt do not change."""
    full = prefilled(llm, a_prompt(llm))
    short = compress_kv(full, mode=mode, text_prior=text_prior)
    assert short.cache.lengths == (8,) * DEPTH
    assert kv_bytes(short) == kv_bytes(full) * 8 // 44
    assert read_logits(llm, short).values.equal(read_logits(llm, full).values)
    first, answer = (generate(llm, s, max_new_tokens=6).answer for s in (full, short))
    assert answer.ids[0] == first.ids[0]
    assert len(answer.ids) == 6


def test_keeping_every_key_is_no_compression(llm: Held) -> None:
    """The answer is the same to the last id."""
    full = prefilled(llm, a_prompt(llm, pictures=2))
    same = compress_kv(full, hh_ratio=1.0)
    assert (
        generate(llm, same, max_new_tokens=12).answer.ids == generate(llm, full, max_new_tokens=12).answer.ids
    )


class Beside:
    """Keys and values of a compressed layer, and behind them a new row's: what a decode step should see."""

    def __init__(self, layer: LayerCache) -> None:
        self.layer = layer

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        pairs = (self.layer.keys, keys), (self.layer.values, values)
        keys, values = (torch.cat([old[None], new], 2) for old, new in pairs)
        return keys, values


@torch.no_grad()
def one_step(model: LanguageModel, state: LLMState, token: int) -> Tensor:
    """[V] logits after one more token, every key's visibility written out per query head."""
    hidden, position = model.embed(torch.tensor([[token]])), torch.tensor([[state.next_position]])
    rope, shared = model.rope(hidden, position), model.facts.heads // model.facts.kv_heads
    for index, layer in enumerate(state.cache.layers):
        window = model.window(index) or 10**6
        near_HC = state.next_position - layer.position < window
        mask_HC = torch.cat([near_HC, torch.ones(len(near_HC), 1, dtype=torch.bool)], 1)
        mask = mask_HC.repeat_interleave(shared, 0)[None, :, None]
        hidden = model.layer(index, hidden, mask=mask, position=position, rope=rope, store=Beside(layer))
    return model.logits(hidden)[0, -1]


def test_decoding_sees_each_heads_own_rows(llm: Held) -> None:
    """One step over compressed caches is attention over just these keys and values."""
    state = compress_kv(prefilled(llm, a_prompt(llm)), hh_ratio=0.5)
    want = one_step(llm.load(), state, 11)
    torch.testing.assert_close(Decoder(llm.load(), [state]).step([11])[0], want)


def test_a_window_slides_over_each_heads_own_rows() -> None:
    """Mistral's window: heads whose kept rows lie elsewhere lose others of them."""
    llm = language_handle(tiny_language("mistral", sliding_window=20))
    state = compress_kv(prefilled(llm, a_prompt(llm)), mode="h2o", hh_ratio=0.5, text_prior=False)
    seen = state.next_position - state.cache.layers[0].position < 20
    assert seen.sum(1).unique().numel() > 1
    want = one_step(llm.load(), state, 11)
    torch.testing.assert_close(Decoder(llm.load(), [state]).step([11])[0], want)


def test_a_batch_of_compressed_and_whole_caches(llm: Held) -> None:
    """Answers side by side are those one by one, however long each cache is."""
    whole = prefilled(llm, a_prompt(llm, seed=3))
    states = [compress_kv(whole), whole, compress_kv(prefilled(llm, a_prompt(llm, pictures=2)), mode="h2o")]
    one_by_one = [generate(llm, s, max_new_tokens=8).answer.ids for s in states]
    together = generate.many([(llm, s) for s in states], max_new_tokens=8)
    assert [made.answer.ids for made in together] == one_by_one


def test_compressing_half_way_leaves_prefill_alone(llm: Held) -> None:
    """Layers done may be compressed before the others run: their hidden rows do not change."""
    given = a_prompt(llm)
    half = prefilled(llm, given, until=2)
    later = prefilled(llm, compress_kv(half))
    assert later.hidden.equal(prefilled(llm, prefilled(llm, given, until=2)).hidden)
    assert later.cache.lengths == (8, 8, 44, 44)
    done = compress_kv(later, mode="avg")
    assert done.cache.lengths == (8,) * 4
    assert done.cache.layers[0] is later.cache.layers[0]
    assert len(generate(llm, done, max_new_tokens=4).answer.ids) == 4


def test_a_state_is_never_written(llm: Held) -> None:
    """Two compressions of one state, and answers in between, are what they would be alone."""
    full = prefilled(llm, a_prompt(llm))
    before = [layer.keys.clone() for layer in full.cache.layers]
    first = generate(llm, compress_kv(full), max_new_tokens=5).answer.ids
    compress_kv(full, mode="h2o")
    assert generate(llm, compress_kv(full), max_new_tokens=5).answer.ids == first
    assert all(a.equal(b.keys) for a, b in zip(before, full.cache.layers, strict=True))


@pytest.mark.gpu
def test_compression_on_cuda() -> None:
    """Tensors stay on their device, and the same keys are kept and merged alike, run after run."""
    state, there = (
        prefilled(llm, a_prompt(llm))
        for llm in (language_handle(tiny_language("qwen2", device=device)) for device in ("cpu", "cuda"))
    )
    want, got, again = compress_kv(state), compress_kv(there), compress_kv(there)
    for a, b, c in zip(want.cache.layers, got.cache.layers, again.cache.layers, strict=True):
        assert b.keys.device.type == b.row.device.type == "cuda"
        assert a.row.equal(b.row.cpu())
        torch.testing.assert_close(a.keys, b.keys.cpu(), atol=1e-4, rtol=1e-4)
        assert b.values.equal(c.values)


def test_after_a_prune_between_layers(llm: Held) -> None:
    """FastV, then LOOK-M, as a graph: both prefills are asked for the attention that their caches got."""
    with Graph() as g:
        handle = g.param("llm", Model[LanguageModel])
        half = g.named("half", prefill)(handle, g.param("given", LLMInput), until=2)
        state = g.named("rest", prefill)(handle, prune_uniform(half, ratio=0.5, rewrite_cache=False))
        g.output(pruned=state, short=compress_kv(state, mode="h2o", hh_ratio=0.4))
    given = a_prompt(llm)
    made = plan(g, {"llm": llm, "given": given})
    for name in ("half", "rest"):
        assert made.by_id[name].wanted == {Need("cache_attention")}
    done = execute(made)
    assert done["pruned"].cache.lengths == (44, 44, 26, 26)
    assert done["short"].cache.lengths == (17 + 4, 17 + 4, 10 + 2, 10 + 2)
    eager = compress_kv(
        prefilled(llm, prune_uniform(prefilled(llm, given, until=2), ratio=0.5, rewrite_cache=False)),
        mode="h2o",
        hh_ratio=0.4,
    )
    for got, want in zip(done["short"].cache.layers, eager.cache.layers, strict=True):
        assert got.row.equal(want.row)
        assert got.keys.equal(want.keys)


def test_a_state_that_is_given(llm: Held) -> None:
    """As a graph's parameter a state must bring the attention that its caches got."""
    with Graph() as g:
        g.output(short=compress_kv(g.param("state", LLMState)))
    heard, deaf = prefilled(llm, a_prompt(llm)), prefill(llm, a_prompt(llm))
    assert run(g, state=heard, cache=False)["short"].cache.lengths == (8,) * DEPTH
    with pytest.raises(NeedError, match="compress_kv needs cache_attention, and parameter state neither"):
        run(g, state=deaf, cache=False)


def test_the_bundled_graph_keeps_a_fifth() -> None:
    """lookm: every setting is a parameter; keeping all keys gives the answer of plain LLaVA-1.5."""
    picture = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
    plain = run("llava15", image=picture, max_new_tokens=8, cache=False)["answer"]
    whole = run("lookm", image=picture, max_new_tokens=8, hh_ratio=1.0, cache=False)["answer"]
    assert whole == plain
    graph = load("lookm")
    graph.output(state="compressed")
    small = run(graph, image=picture, text_prior=False, mode="weighted", cache=False)["state"]
    count = len(small.input)
    assert set(small.cache.lengths) == {2 * int(count * 0.1)}
