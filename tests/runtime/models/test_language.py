"""The layer loop equals the stock model; states are immutable; batches equal single runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.runtime.models.decode import BLOCK, Decoder
from tokenloom.runtime.models.language import LanguageModel, start
from tokenloom.runtime.models.masks import decode_mask, prefill_mask
from tokenloom.runtime.values import LLMInput, LLMState

from .tiny import DEPTH, FAMILIES, WIDTH, tiny_language


def an_input(rows: int, seed: int = 0, device: str = "cpu") -> LLMInput:
    none = torch.full((rows,), -1, device=device)
    embeds = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)).to(device)
    segment = torch.full((rows,), 3, dtype=torch.uint8, device=device)
    return LLMInput(embeds, torch.arange(rows, device=device), segment, none, none, none)


def greedy(model: LanguageModel, states: Sequence[LLMState], steps: int) -> list[list[int]]:
    decoder = Decoder(model, states)
    out: list[list[int]] = [[] for _ in states]
    for _ in range(steps):
        ids = decoder.logits.argmax(-1).tolist()
        for one, i in zip(out, ids, strict=True):
            one.append(i)
        decoder.step(ids)
    return out


def stock(model: LanguageModel) -> Any:
    """The transformers module, whose type says nothing of its methods."""
    return model.module


def stock_logits(model: LanguageModel, embeds: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = stock(model)(inputs_embeds=embeds[None]).logits[0]
    return logits


def stock_greedy(model: LanguageModel, embeds: Tensor, steps: int) -> list[int]:
    mask = torch.ones(1, len(embeds), dtype=torch.long, device=embeds.device)
    ids: list[int] = (
        stock(model)
        .generate(inputs_embeds=embeds[None], attention_mask=mask, max_new_tokens=steps, do_sample=False)[0]
        .tolist()
    )
    return ids


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_stock_model_to_the_bit(family: str) -> None:
    """Layer by layer or at once: the same numbers, difference 0.0."""
    check_logits(family, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_stock_model_to_the_bit_on_cuda(family: str) -> None:
    """The same on a GPU, in float32."""
    check_logits(family, "cuda")


def check_logits(family: str, device: str) -> None:
    model = tiny_language(family, device=device)
    given = an_input(37, device=device)
    state = model.run([start(given)], DEPTH)[0]
    assert float((model.logits(state.hidden[None])[0] - stock_logits(model, given.embeds)).abs().max()) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_the_stock_generate(family: str) -> None:
    """Decoding over our caches gives what `generate` of transformers gives, beyond one block of growth."""
    check_greedy(family, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_the_stock_generate_on_cuda(family: str) -> None:
    """The same on a GPU."""
    check_greedy(family, "cuda")


def check_greedy(family: str, device: str) -> None:
    model = tiny_language(family, device=device)
    given = an_input(21, device=device)
    state = model.run([start(given)], DEPTH)[0]
    assert greedy(model, [state], BLOCK + 6)[0] == stock_greedy(model, given.embeds, BLOCK + 6)


@pytest.mark.parametrize("until", range(DEPTH + 1))
def test_stopping_between_layers_changes_nothing(until: int) -> None:
    """prefill(until=k) and then the rest is one pass, to the bit."""
    model = tiny_language("llama")
    once = model.run([start(an_input(11))], DEPTH)[0]
    twice = model.run(model.run([start(an_input(11))], until), DEPTH)[0]
    assert once.hidden.equal(twice.hidden)
    for a, b in zip(once.cache.layers, twice.cache.layers, strict=True):
        assert a.keys.equal(b.keys)
        assert a.values.equal(b.values)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_unequal_lengths_equals_single_runs(family: str) -> None:
    """Left padding inside changes no item by more than 1e-5, in prefill and in decoding."""
    model = tiny_language(family)
    inputs = [an_input(n, seed=n) for n in (5, 30, 17)]
    single = [model.run([start(x)], DEPTH)[0] for x in inputs]
    joint = model.run([start(x) for x in inputs], DEPTH)
    for a, b in zip(single, joint, strict=True):
        torch.testing.assert_close(a.hidden, b.hidden, atol=1e-5, rtol=1e-5)
        assert b.cache.lengths == (len(b),) * DEPTH
    alone = [greedy(model, [state], 6)[0] for state in single]
    assert greedy(model, joint, 6) == alone
    decoder, singles = Decoder(model, joint), [Decoder(model, [state]) for state in single]
    for step in range(4):
        ids = [(7 * step + 3 * i) % 100 for i in range(3)]
        together = decoder.step(ids)
        for i, one in enumerate(singles):
            torch.testing.assert_close(together[i], one.step([ids[i]])[0], atol=1e-5, rtol=1e-5)


def test_layers_of_different_lengths_equal_masked_full_attention() -> None:
    """Rows dropped at layer 2 in a ragged batch: as if the later layers' keys had been masked out."""
    model = tiny_language("llama")
    keeps = [torch.tensor([0, 1, 4, 5, 8]), torch.tensor([0, 2, 3, 12, 13, 14, 19])]
    inputs = [an_input(9, seed=1), an_input(20, seed=2)]
    states = model.run([start(x) for x in inputs], 2)
    pruned = model.run([s.keep(k) for s, k in zip(states, keeps, strict=True)], DEPTH)
    assert [state.cache.lengths for state in pruned] == [(9, 9, 5, 5), (20, 20, 7, 7)]
    decoder = Decoder(model, pruned)
    ids = [[3, 50], [9, 77]]
    seen = [decoder.logits, *(decoder.step(pair) for pair in ids)]
    for i, (given, keep) in enumerate(zip(inputs, keeps, strict=True)):
        want = reference(model, given, keep, [pair[i] for pair in ids])
        for step, logits in enumerate(seen):
            torch.testing.assert_close(logits[i], want[step], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def reference(model: LanguageModel, given: LLMInput, keep: Tensor, ids: list[int]) -> Tensor:
    """[1 + ids, V]: everything recomputed in one pass, dropped rows masked from layer 2 on."""
    hidden = torch.cat([given.embeds, model.embed(torch.tensor(ids))])[None]
    n, rows = hidden.shape[1], len(given)
    position = torch.arange(n)[None]
    alive = torch.ones(n, dtype=torch.bool)
    alive[:rows] = torch.isin(torch.arange(rows), keep)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    for index in range(DEPTH):
        mask = causal & alive if index >= 2 else causal
        mask = (mask | torch.eye(n, dtype=torch.bool))[None, None]
        rope = model.rope(hidden, position)
        hidden = model.layer(index, hidden, mask=mask, position=position, rope=rope, store=None)
    return model.logits(hidden)[0, rows - 1 :]


@pytest.mark.parametrize("seed", range(6))
def test_pruned_batches_equal_single_runs(seed: int) -> None:
    """Any rows dropped at two layers, in all caches or not: a batch decodes as its items do alone."""
    random = torch.Generator().manual_seed(seed)
    model = tiny_language(FAMILIES[seed % 3])
    lengths = torch.randint(4, 24, (3,), generator=random).tolist()
    states = [start(an_input(n, seed=n)) for n in lengths]
    for layer in (1, 3):
        after = model.run(states, layer)
        kept = [torch.rand(len(s), generator=random) < 0.6 for s in after]
        for keep in kept:
            keep[-1] = True
        # caches of the layers before keep their own length: rows are dropped from here on, or everywhere
        everywhere = seed % 2 == 1 and layer == 1
        states = [s.keep(k, rewrite_cache=everywhere) for s, k in zip(after, kept, strict=True)]
    alone = [Decoder(model, [model.run([s], DEPTH)[0]]) for s in states]
    joint = Decoder(model, model.run(states, DEPTH))
    for step in range(4):
        for i, one in enumerate(alone):
            torch.testing.assert_close(joint.logits[i], one.logits[0], atol=1e-5, rtol=1e-5)
        ids = [(5 * step + 31 * i) % 100 for i in range(3)]
        joint.step(ids)
        for one, i in zip(alone, ids, strict=True):
            one.step([i])


def tensors(state: LLMState) -> list[Tensor]:
    caches = [t for c in state.cache.layers for t in (c.keys, c.values, c.position, c.row)]
    return [state.hidden, state.position, state.row, *caches]


@pytest.mark.parametrize("until", [2, DEPTH])
def test_a_state_is_never_written_into(until: int) -> None:
    """Running on and decoding from a state leave each of its tensors as it was."""
    model = tiny_language("llama")
    state = model.run([start(an_input(12))], until)[0]
    before = [t.clone() for t in tensors(state)]
    greedy(model, model.run([state], DEPTH), BLOCK + 2)
    assert all(a.equal(b) for a, b in zip(before, tensors(state), strict=True))


def test_two_branches_from_one_state_do_not_meet() -> None:
    """A pruned and a whole branch of one state, decoded step by step by turns, equal separate runs."""
    model = tiny_language("llama")
    state = model.run([start(an_input(12))], 2)[0]
    thin = state.keep(torch.tensor([0, 1, 2, 7, 11]), rewrite_cache=True)
    ends = [model.run([branch], DEPTH)[0] for branch in (state, thin)]
    apart = [greedy(model, [end], 8)[0] for end in ends]
    decoders = [Decoder(model, [end]) for end in ends]
    mixed: list[list[int]] = [[], []]
    for _ in range(8):
        for out, decoder in zip(mixed, decoders, strict=True):
            out.append(int(decoder.logits.argmax()))
            decoder.step(out[-1:])
    assert mixed == apart


def test_items_of_a_batch_share_no_memory() -> None:
    """Keeping one item's state does not keep the whole batch alive."""
    model = tiny_language("llama")
    first, second = model.run([start(an_input(6)), start(an_input(9))], DEPTH)
    for a, b in zip(tensors(first), tensors(second), strict=True):
        assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("mistral", {"sliding_window": 6}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2}),
    ],
)
def test_sliding_windows_equal_the_stock_model(family: str, config: dict[str, Any]) -> None:
    """A window shorter than the prompt: same logits to the bit, same greedy tokens, also in a batch."""
    model = tiny_language(family, **config)
    inputs = [an_input(n, seed=n) for n in (19, 4, 11)]
    states = [model.run([start(x)], DEPTH)[0] for x in inputs]
    for given, state in zip(inputs, states, strict=True):
        assert model.logits(state.hidden[None])[0].equal(stock_logits(model, given.embeds))
        assert greedy(model, [state], 9)[0] == stock_greedy(model, given.embeds, 9)
    assert greedy(model, model.run([start(x) for x in inputs], DEPTH), 9) == [
        greedy(model, [state], 9)[0] for state in states
    ]


def test_windows_of_the_families() -> None:
    """Mistral slides by its configuration, Qwen2 only when told to, Llama never."""
    assert tiny_language("mistral", sliding_window=None).window(0) is None
    assert tiny_language("mistral", sliding_window=8).window(3) == 8
    assert tiny_language("qwen2", sliding_window=8).window(0) is None
    assert tiny_language("llama").window(0) is None


def test_no_mask_without_padding() -> None:
    """SDPA's own causal kernel is used whenever nothing is padded and the window reaches back far enough."""
    valid, position = torch.ones(2, 5, dtype=torch.bool), torch.arange(5).expand(2, 5)
    assert prefill_mask(valid, position) is None
    assert prefill_mask(valid, position, window=5) is None
    assert prefill_mask(valid, position, window=4) is not None


def test_a_new_row_sees_true_rows_inside_the_window() -> None:
    """Neither padding nor what the sliding window has left behind."""
    valid, position = torch.tensor([[False, True, True, True]]), torch.tensor([[[0, 0, 1, 2]]])
    assert decode_mask(valid, position, torch.tensor([2])).tolist() == [[[False, True, True, True]]]
    assert decode_mask(valid, position, torch.tensor([2]), 2).tolist() == [[[False, False, True, True]]]


def test_a_padded_row_sees_only_itself() -> None:
    """No row of the mask is empty, and no true row sees padding."""
    valid = torch.tensor([[False, True, True]])
    mask = prefill_mask(valid, torch.tensor([[0, 0, 1]]))
    assert mask is not None
    assert mask[0, 0].tolist() == [[True, False, False], [False, True, False], [False, True, True]]


def test_bfloat16_stays_bfloat16() -> None:
    """Hidden states and caches keep the weights' number format."""
    model = tiny_language("llama")
    model.module.to(torch.bfloat16)
    state = model.run([start(an_input(5))], DEPTH)[0]
    assert {t.dtype for t in (state.hidden, state.cache.layers[0].keys)} == {torch.bfloat16}
    assert model.dtype == torch.bfloat16
