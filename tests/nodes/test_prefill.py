"""prefill and read_logits as nodes: where they stop, what they refuse, batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import in_part, prefill, read_logits
from tokenloom.runtime import context
from tokenloom.runtime.errors import Cancelled, GraphError, NeedError
from tokenloom.runtime.foreseen import KnownState
from tokenloom.runtime.models.capture import PUBLISHED
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import LLMInput, LLMState, Prompt, Segment

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


def test_through_names_the_last_layer_that_runs(llm: Held) -> None:
    """`through` k is `until` k + 1, to the bit."""
    given = text(llm, 1, 7, 9)
    for layer in range(DEPTH):
        a, b = prefill(llm, given, through=layer), prefill(llm, given, until=layer + 1)
        assert (a.layer, a.hidden.equal(b.hidden)) == (layer + 1, True)


def test_through_is_a_layer_that_is_there(llm: Held) -> None:
    """Beyond the model, or run already: refused, while planning too."""
    done = prefill(llm, text(llm, 1), until=3)
    cases = [
        (text(llm, 1), 4, "prefill.through: layer 4 of a model with 4 layers; wanted 0..3"),
        (
            done,
            2,
            "prefill.through: layer 2 of a model with 4 layers; wanted 3..3; 3 layers have run already",
        ),
        (
            prefill(llm, done),
            3,
            "prefill.through: layer 3 of a model with 4 layers; nothing is left to run; 4 layers have run "
            "already",
        ),
    ]
    assert prefill.foresee is not None
    for given, through, message in cases:
        with pytest.raises(GraphError) as e:
            prefill(llm, given, through=through)
        assert str(e.value) == message
        known = KnownState(layer=given.layer if isinstance(given, LLMState) else 0)
        with pytest.raises(GraphError) as e:
            prefill.foresee(llm, known, until=None, through=through)
        assert str(e.value) == message


def test_a_part_of_the_layers(llm: Held) -> None:
    """Where neither until nor through is given: exactly layer 10 of 32, and the nearest of other depths."""
    assert [in_part(depth, 11 / 32) for depth in (32, 40, 28, 12, 6, 4, 1)] == [11, 14, 10, 4, 2, 1, 1]
    given = text(llm, 1, 7, 9)
    assert prefill(llm, given, part=0.5).hidden.equal(prefill(llm, given, until=2).hidden)
    assert prefill(llm, given, part=0.5, through=2).layer == 3
    assert prefill.foresee is not None
    known = prefill.foresee(llm, None, until=None, part=0.5)
    assert known == replace(prefill.foresee(llm, None, until=2), notes=known.notes)
    assert known.notes == ("2 of the 4 layers run (part 0.5), the last is layer 1",)
    offered = prefill(llm, given, part=0.5).side
    assert offered.keys() == prefill(llm, given, until=2).side.keys()


def test_until_and_through_are_one_setting(llm: Held) -> None:
    """Both at once are refused, even before the model is known."""
    message = "prefill: until 3 and through 2 are both given; wanted one of them (through 2 is until 3)"
    with pytest.raises(GraphError) as e:
        prefill(llm, text(llm, 1), until=3, through=2)
    assert str(e.value) == message
    assert prefill.foresee is not None
    with pytest.raises(GraphError) as e:
        prefill.foresee(None, None, until=3, through=2)
    assert str(e.value) == message


def test_eager_calls_offer_the_published_scores(llm: Held) -> None:
    """PruneVid's and FastV's, where a call stops between layers; nothing when all layers run."""
    given = text(llm, 1, 7, 9)
    published = {need.key for need in PUBLISHED}
    half = prefill(llm, given, through=1)
    assert set(half.side) == published
    assert set(prefill(llm, given, until=2).side) == published
    assert prefill(llm, given).side == {}
    assert prefill(llm, half).side == {}
    assert prefill(llm, half, until=2).side == half.side
    no_text = replace(given, segment=torch.full_like(given.segment, int(Segment.VISUAL)))
    assert set(prefill(llm, no_text, until=2).side) == {PUBLISHED[1].key}


def test_a_demand_is_met_exactly(llm: Held) -> None:
    """Inside `with demand(...)`: these channels, whatever `until` is, and none of other nodes."""
    need = Need("attention", 1, "all", "post_rope_causal,max,mean")
    with context.demand(need, Need("cache_attention"), Need("cls_attention")):
        state = prefill(llm, text(llm, 1, 7, 9))
    assert list(state.side) == [need.key]
    assert all(layer.received is not None for layer in state.cache.layers)


@pytest.mark.parametrize(
    ("need", "message"),
    [
        (
            Need("attention", None, "text", "post_rope,max"),
            "prefill: no attention has the form 'post_rope,max'; wanted KIND,HEADS,OVER with KIND "
            "pre_rope_full or post_rope_causal, HEADS and OVER max or mean",
        ),
        (
            Need("attention", None, "texts", "pre_rope_full,max,max"),
            "prefill: no rows of the prompt are called 'texts'; did you mean 'text'?",
        ),
        (
            Need("attention", 3, "text", "pre_rope_full,max,max"),
            "prefill: attention@3:text/pre_rope_full,max,max is asked for, but this prefill runs layers "
            "1..2; choose one of them, or change until",
        ),
    ],
)
def test_demands_that_cannot_be_met(llm: Held, need: Need, message: str) -> None:
    """Forms, rows and layers: by an eager call, and while planning."""
    half = prefill(llm, text(llm, 1, 7), until=1)
    assert prefill.foresee is not None
    with context.demand(need):
        with pytest.raises(NeedError) as e:
            prefill(llm, half, until=3)
        assert str(e.value) == message
        with pytest.raises(NeedError) as e:
            prefill.foresee(llm, KnownState(layer=1), until=3)
        assert str(e.value) == message


def test_a_batch_is_told_its_scores_as_single_calls_are(llm: Held) -> None:
    """Prompts of other lengths, and one that has no text to offer scores of."""
    given = [text(llm, 1, 7, 9), text(llm, *range(20)), text(llm, 5, 6)]
    given[2] = replace(given[2], segment=torch.full_like(given[2].segment, int(Segment.VISUAL)))
    joint = prefill.many([(llm, one) for one in given], through=2)
    for one, state in zip(given, joint, strict=True):
        alone = prefill(llm, one, through=2)
        assert alone.side.keys() == state.side.keys()
        for key, score in alone.side.items():
            torch.testing.assert_close(state.side[key], score, atol=1e-5, rtol=1e-5)


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


def test_a_prompt_placed_for_other_weights(llm: Held) -> None:
    """Of the same shape, and still another model: prefill and read_logits name both, while planning too."""
    other = language_handle(tiny_language("llama", seed=1))
    given = text(llm, 1, 2)
    assert given.model == llm.fingerprint
    state = prefill(llm, given)
    ahead, ahead_logits = prefill.foresee, read_logits.foresee
    assert place_tokens.foresee is not None
    assert ahead is not None
    assert ahead_logits is not None
    known = place_tokens.foresee(llm, None, max_length=None, truncate=False)
    done = ahead(llm, known, until=None)
    for where, calls in {
        "prefill.inputs": (
            lambda: prefill(other, given),
            lambda: ahead(other, known, until=1),
            lambda: ahead(other, given, until=1),
        ),
        "read_logits.state": (
            lambda: read_logits(other, state),
            lambda: ahead_logits(other, done, rows="last"),
            lambda: ahead_logits(other, state, rows="last"),
        ),
    }.items():
        for call in calls:
            with pytest.raises(GraphError) as e:
                call()
            assert str(e.value) == (
                f"{where}: the prompt was placed for another language model (fingerprint "
                f"{llm.fingerprint[:12]}) than tiny ({other.fingerprint[:12]}); give place_tokens and this "
                "node the same llm"
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
