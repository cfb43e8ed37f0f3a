"""prefill and read_logits as nodes: where they stop, what they refuse, batches."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.runtime import context
from tokenloom.runtime.errors import Cancelled, GraphError
from tokenloom.runtime.values import LLMInput, Prompt

from ..runtime.models.tiny import DEPTH, VOCAB, Held, language_handle, tiny_language


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def text(llm: Held, *ids: int) -> LLMInput:
    return place_tokens(llm, Prompt(pieces=(ids,)))


def test_all_layers_by_default(llm: Held) -> None:
    """Without `until` the state is ready for the head, and its logits are the stock model's."""
    state = prefill(llm, text(llm, 1, 7, 9))
    assert state.layer == DEPTH
    assert state.next_position == 3
    logits = read_logits(llm, state, rows="all")
    with torch.no_grad():
        want = llm.load().module(input_ids=torch.tensor([[1, 7, 9]])).logits[0]
    assert logits.values.equal(want)
    assert logits.row.tolist() == [0, 1, 2]


def test_the_last_row_alone(llm: Held) -> None:
    """rows: last reads one row, that of the next token."""
    state = prefill(llm, text(llm, 1, 7, 9))
    last = read_logits(llm, state)
    assert last.values.shape == (1, VOCAB)
    assert last.row.tolist() == [2]
    torch.testing.assert_close(last.values[0], read_logits(llm, state, rows="all").values[-1])


def test_layer_by_layer(llm: Held) -> None:
    """Stages of prefill in a row are one prefill."""
    given = text(llm, 1, 7, 9, 30)
    first = prefill(llm, given, until=1)
    assert (first.layer, first.cache.lengths) == (1, (4,))
    done = prefill(llm, prefill(llm, first, until=3))
    assert done.hidden.equal(prefill(llm, given).hidden)


def test_many_equals_one_by_one(llm: Held) -> None:
    """A batch of inputs and states, of different lengths and layers, and of two models."""
    other = language_handle(tiny_language("qwen2"))
    a, b, c = text(llm, 1, 2, 3, 4, 5), text(llm, 6), text(other, 7, 8)
    half = prefill(llm, text(llm, 9, 10, 11), until=2)
    joint = prefill.many([(llm, a), (other, c), (llm, half), (llm, b)])
    for handle, given, state in zip((llm, other, llm, llm), (a, c, half, b), joint, strict=True):
        torch.testing.assert_close(state.hidden, prefill(handle, given).hidden, atol=1e-5, rtol=1e-5)
        assert state.input is (given if isinstance(given, LLMInput) else given.input)


def test_more_layers_than_there_are(llm: Held) -> None:
    """`until` beyond the model is refused, while planning too."""
    with pytest.raises(GraphError) as e:
        prefill(llm, text(llm, 1), until=5)
    assert str(e.value) == "prefill.until: 5 of a model with 4 layers; wanted 0..4"
    assert prefill.foresee is not None
    with pytest.raises(GraphError, match="until: 9 of a model with 4 layers"):
        prefill.foresee(llm, None, until=9)
    assert prefill.foresee(None, None, until=9) is None


def test_layers_do_not_run_backwards(llm: Held) -> None:
    """A state cannot go back to a layer that it has passed."""
    state = prefill(llm, text(llm, 1, 2), until=3)
    with pytest.raises(GraphError) as e:
        prefill(llm, state, until=2)
    assert str(e.value) == (
        "prefill.until: 2 of a model with 4 layers; wanted 3..4; 3 layers have run already"
    )


def test_plans_know_how_many_layers_have_run(llm: Held) -> None:
    """A second prefill that goes back, and logits read half-way, are found before anything runs."""
    assert prefill.foresee is not None
    assert read_logits.foresee is not None
    half = prefill.foresee(llm, None, until=3)
    with pytest.raises(GraphError, match="3 layers have run already"):
        prefill.foresee(llm, half, until=2)
    with pytest.raises(GraphError, match="3 of the model's 4 layers have run"):
        read_logits.foresee(llm, half, rows="last")
    assert read_logits.foresee(llm, prefill.foresee(llm, half, until=None), rows="last") is None


def test_a_prompt_of_another_model(llm: Held) -> None:
    """Rows placed for a model of another width are refused."""
    wide = language_handle(tiny_language("llama", hidden_size=48))
    with pytest.raises(GraphError) as e:
        prefill(llm, text(wide, 1, 2))
    assert str(e.value) == (
        "prefill.inputs: rows of width 48, the language model's width is 32; use the same checkpoint in "
        "place_tokens and here"
    )


def test_logits_need_every_layer(llm: Held) -> None:
    """Half-way states have no scores."""
    with pytest.raises(GraphError) as e:
        read_logits(llm, prefill(llm, text(llm, 1), until=1))
    assert str(e.value) == (
        "read_logits.state: 1 of the model's 4 layers have run; put a prefill without `until` before it"
    )


def test_progress_and_cancel_between_layers(llm: Held) -> None:
    """Every layer reports, and a cancelled run stops at the next one."""
    seen: list[tuple[int, int | None]] = []
    given = text(llm, 1, 2)
    with context.use(context.Context(progress=lambda done, total, text: seen.append((done, total)))):
        prefill(llm, given, until=3)
    assert seen == [(0, 3), (1, 3), (2, 3)]
    with context.use(context.Context(cancelled=lambda: True)), pytest.raises(Cancelled):
        prefill(llm, given)
