"""Dynamic NTK scaling: as transformers computes it call by call, without memory of earlier calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.nodes import place_tokens, prefill, read_logits
from tokenloom.runtime.models.decode import Decoder
from tokenloom.runtime.models.language import LanguageModel, start
from tokenloom.runtime.models.rope import DynamicRope
from tokenloom.runtime.values import LLMInput, Prompt

from .tiny import VOCAB, language_handle, tiny_language

LONGEST = 24
ROPE: dict[str, Any] = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}


def model_of(**config: Any) -> LanguageModel:
    """A new one: its module has seen no sequence yet."""
    settings = {"max_position_embeddings": LONGEST, "rope_parameters": dict(ROPE), "head_dim": 8} | config
    return tiny_language("llama", **settings)


def placed(model: LanguageModel, length: int, seed: int = 0) -> LLMInput:
    torch.manual_seed(seed)
    ids = torch.randint(3, VOCAB, (length,)).tolist()
    given = place_tokens(language_handle(model), Prompt.of_ids(ids), max_length=999)
    return replace(given, model="")  # for a fresh model with the same weights as well


def logits(model: LanguageModel, given: LLMInput) -> Tensor:
    handle = language_handle(model)
    return read_logits(handle, prefill(handle, given), rows="all").values


@pytest.mark.parametrize("length", [1, LONGEST - 1, LONGEST, LONGEST + 1, 50, 200])
def test_angles_are_those_of_transformers(length: int) -> None:
    """A fresh module's rotary embedding, to the bit."""
    model, position = model_of(), torch.arange(length)[None]
    hidden = torch.zeros(1, length, 32)
    cos, sin = model.rope(hidden, position)
    want_cos, want_sin = model.body.rotary_emb(hidden, position_ids=position)
    assert cos.equal(want_cos)
    assert sin.equal(want_sin)


@pytest.mark.parametrize("length", [LONGEST - 4, LONGEST + 20])
def test_a_prompt_is_as_the_stock_model_reads_it(length: int) -> None:
    """All positions of the call turn by the base of its length."""
    model = model_of()
    given = placed(model, length)
    with torch.no_grad():
        want = model.module(given.ids[None]).logits[0]
    torch.testing.assert_close(logits(model_of(), given), want, atol=2e-5, rtol=1e-4)


def test_decoding_across_the_limit_is_step_by_step() -> None:
    """Each step has the base of its own length; cached keys keep the turn they were given."""
    model, given = model_of(), placed(model_of(), LONGEST - 3)
    with torch.no_grad():
        stock: Any = model.module
        want = stock.generate(given.ids[None], max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
    ours = model_of()
    decoder, got = Decoder(ours, ours.run([start(given)], ours.depth)), []
    for _ in range(12):
        got.append(int(decoder.logits[0].argmax()))
        decoder.step(got[-1:])
    assert got == want[len(given) :].tolist()
    assert len(given) + len(got) > LONGEST


def test_a_long_request_leaves_no_trace() -> None:
    """The same prompt before and after a longer one, both beyond the limit, on one model."""
    model = model_of()
    given, longer = placed(model, LONGEST + 6), placed(model, LONGEST + 60, 1)
    before = logits(model, given)
    logits(model, longer)
    assert logits(model, given).equal(before)


def test_neighbours_in_a_batch_do_not_change_the_base() -> None:
    """Requests that run side by side give what each gives alone, while reading and while answering."""
    model = model_of()
    states = [start(placed(model, length, length)) for length in (5, LONGEST + 1, LONGEST + 40)]
    together = Decoder(model, model.run(states, model.depth))
    alone = [Decoder(model, model.run([state], model.depth)) for state in states]
    for ids in ([3, 4, 5], [6, 7, 8]):
        for i, decoder in enumerate(alone):
            torch.testing.assert_close(together.logits[i], decoder.logits[0], atol=1e-5, rtol=1e-4)
            decoder.step([ids[i]])
        together.step(ids)


def test_two_requests_by_turns_do_not_meet() -> None:
    """A short answer goes on as it began while a long one is written on the same pooled model."""
    model = model_of()
    short, long = ([start(placed(model, n))] for n in (6, LONGEST + 30))
    alone = Decoder(model, model.run(short, model.depth))
    want = [alone.step([token]) for token in (9, 10, 11)]
    one, other = (Decoder(model, model.run(s, model.depth)) for s in (short, long))
    for token, expected in zip((9, 10, 11), want, strict=True):
        other.step([token])
        assert one.step([token]).equal(expected)


def test_scores_for_pruning_turn_as_the_layer_did() -> None:
    """The query rows that are scored alone have the base of the whole prompt."""
    model = model_of()
    handle = language_handle(model)
    given = placed(model, LONGEST + 9)
    state = prefill(handle, given, until=2)
    [side] = (value for key, value in state.side.items() if "post_rope_causal" in key)
    rope = model.rope(given.embeds[None], given.position[None])
    entered = prefill(handle, given, until=1).hidden
    query = model.rotate(model.project(1, "q_proj", entered[None]), rope)[0, :, -1:]
    key = state.cache.layers[1].keys.repeat_interleave(2, 0)
    want = (query @ key.mT * model.attention(1).scaling).softmax(-1).mean((0, 1))
    torch.testing.assert_close(side, want, atol=1e-6, rtol=1e-4)


def test_other_scalings_are_left_to_transformers() -> None:
    """Linear scaling has no state."""
    plain, linear = model_of(rope_parameters={"rope_type": "default", "rope_theta": 1e4}), model_of(
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    )  # fmt: skip
    assert DynamicRope.of(plain.module.config) is None
    assert DynamicRope.of(linear.module.config) is None
    hidden, position = torch.zeros(1, 5, 32), torch.arange(5)[None]
    torch.testing.assert_close(linear.rope(hidden, 4 * position), plain.rope(hidden, position))


def test_no_rows_have_no_angles() -> None:
    """An empty sequence is no mistake here."""
    cos, _ = model_of().rope(torch.zeros(2, 0, 32), torch.zeros(2, 0, dtype=torch.long))
    assert cos.shape == (2, 0, 8)
