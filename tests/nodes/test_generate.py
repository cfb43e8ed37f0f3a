"""generate: greedy and sampled answers, where they end, batches, labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokenloom.nodes.generate import generate
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill
from tokenloom.runtime import context
from tokenloom.runtime.errors import BudgetError, Cancelled, CheckpointError, GraphError, PromptError
from tokenloom.runtime.foreseen import KnownState
from tokenloom.runtime.values import Hiding, LLMInput, Prompt

from ..runtime.models.tiny import (
    FAMILIES,
    WIDTH,
    Held,
    chat_handle,
    language_handle,
    tiny_language,
    tiny_tokenizer,
)
from ..states import Run, placed, visual_tokens


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


@pytest.fixture(scope="module")
def chat() -> Held:
    return chat_handle(tiny_tokenizer())


def text(llm: Held, *ids: int, stop: tuple[str, ...] = ()) -> LLMInput:
    return place_tokens(llm, Prompt(pieces=(ids,), stop=stop))


PROMPT = (1, 40, 50, 60, 70)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_ids_equal_the_stock_model(family: str) -> None:
    """The same ids as transformers' generate from the same prompt ids."""
    check_greedy(family, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_ids_equal_the_stock_model_on_cuda(family: str) -> None:
    """The same on a GPU."""
    check_greedy(family, "cuda")


def check_greedy(family: str, device: str) -> None:
    llm = language_handle(tiny_language(family, device=device))
    given = torch.tensor([PROMPT], device=device)
    want = llm.load().module.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False
    )
    answer = generate(llm, text(llm, *PROMPT), max_new_tokens=12).answer
    assert list(answer.ids) == want[0, len(PROMPT) :].tolist()
    assert (answer.finish, answer.text) == ("length", "")
    assert (answer.prompt_tokens, answer.visual_tokens) == (5, 0)


def test_states_and_inputs_give_one_answer(llm: Held) -> None:
    """From the prompt, from a half-way state and from a finished one, and each of them twice."""
    given = text(llm, *PROMPT)
    half = prefill(llm, given, until=2)
    states = [given, half, prefill(llm, half), half, given]
    assert len({generate(llm, s, max_new_tokens=9).answer.ids for s in states}) == 1


def test_many_equals_one_by_one(llm: Held, chat: Held) -> None:
    """Prompts of different lengths answered together, with and without text, greedy and sampled."""
    inputs = [text(llm, *PROMPT), text(llm, 1, 9), text(llm, *range(10, 40))]
    for widgets in ({}, {"temperature": 0.9, "top_p": 0.8, "seed": 3}):
        joint = generate.many([(llm, x, chat) for x in inputs], max_new_tokens=8, **widgets)
        alone = [generate(llm, x, chat, max_new_tokens=8, **widgets) for x in inputs]  # type: ignore[arg-type]
        assert [g.answer.ids for g in joint] == [g.answer.ids for g in alone]
        assert [g.text for g in joint] == [g.text for g in alone]


def test_an_end_token_ends_the_answer(llm: Held) -> None:
    """The end token is among the ids; others of the batch go on."""
    ids = generate(llm, text(llm, *PROMPT), max_new_tokens=10).answer.ids
    end = next(i for n, i in enumerate(ids) if n >= 2 and i not in ids[:n])
    ending = language_handle(tiny_language("llama"))
    model = ending.load()
    model.facts = replace(model.facts, eos=(end,))
    short, other = generate.many(
        [(ending, text(ending, *PROMPT)), (ending, text(ending, 1, 9))], max_new_tokens=10
    )
    assert short.answer.ids == ids[: ids.index(end) + 1]
    assert short.answer.finish == "stop"
    assert other.answer.ids[:1] == generate(llm, text(llm, 1, 9), max_new_tokens=10).answer.ids[:1]
    least = generate(ending, text(ending, *PROMPT), max_new_tokens=10, min_new_tokens=10).answer
    assert len(least.ids) == 10
    assert end not in least.ids[:-1]


def test_a_stop_string_of_several_tokens(llm: Held, chat: Held) -> None:
    """A stop string that only the text shows is found across tokens, and cut off with all that follows."""
    whole = generate(llm, text(llm, *PROMPT), chat, max_new_tokens=12)
    tokens = [chat.load().decode([i]) for i in whole.answer.ids]
    spoken = "".join(tokens)
    at = next(n for n in range(2, 11) if spoken.find(tokens[n] + tokens[n + 1]) == len("".join(tokens[:n])))
    cut = generate(llm, text(llm, *PROMPT), chat, max_new_tokens=12, stop=(tokens[at] + tokens[at + 1],))
    assert cut.text == "".join(tokens[:at]).strip()
    assert (cut.answer.finish, cut.answer.ids) == ("stop", whole.answer.ids[: at + 2])


def test_stop_ids_need_no_text(llm: Held) -> None:
    """Token ids end an answer without chat."""
    ids = generate(llm, text(llm, *PROMPT), max_new_tokens=8).answer.ids
    got = generate(llm, text(llm, *PROMPT), max_new_tokens=8, stop_ids=(ids[1],)).answer
    assert (got.ids, got.finish) == (ids[: ids.index(ids[1]) + 1], "stop")


def test_a_stop_string_is_cut_off(llm: Held, chat: Held) -> None:
    """Text ends before the stop string, wherever it came from; the ids show what was drawn."""
    whole = generate(llm, text(llm, *PROMPT), chat, max_new_tokens=12)
    tokens = [chat.load().decode([i]) for i in whole.answer.ids]
    at = next(n for n, t in enumerate(tokens) if n >= 2 and t.strip() and t not in "".join(tokens[:n]))
    for given, stop in ((text(llm, *PROMPT), (tokens[at],)), (text(llm, *PROMPT, stop=(tokens[at],)), ())):
        cut = generate(llm, given, chat, max_new_tokens=12, stop=stop)
        assert cut.text == "".join(tokens[:at]).strip()
        assert cut.answer.finish == "stop"
        assert cut.answer.ids == whole.answer.ids[: at + 1]


def test_a_stop_string_that_is_one_token(llm: Held) -> None:
    """Special tokens are left out of the text, and still end it when they are a stop string."""
    tokenizer = tiny_tokenizer()
    ids = generate(llm, text(llm, *PROMPT), max_new_tokens=6).answer.ids
    word = tokenizer.convert_ids_to_tokens(ids[0])
    tokenizer.add_special_tokens({"additional_special_tokens": [word]})
    got = generate(llm, text(llm, *PROMPT, stop=(word,)), chat_handle(tokenizer), max_new_tokens=6)
    assert got.answer.ids == ids[:1]
    assert (got.text, got.answer.finish) == ("", "stop")


def test_equal_seeds_give_equal_answers(llm: Held) -> None:
    """Sampling is decided by its seed, and a different seed draws differently."""
    given = text(llm, *PROMPT)
    one, same, other = (
        generate(llm, given, max_new_tokens=16, temperature=1.5, seed=seed).answer.ids for seed in (1, 1, 2)
    )
    assert one == same != other


def test_random_weights_are_labelled(llm: Held) -> None:
    """An answer of an untrained model says so."""
    tiny = language_handle(llm.load(), random_weights=True)
    got = generate(tiny, text(tiny, 1), max_new_tokens=1).answer
    assert got.note == "random weights: this text means nothing"
    assert generate(llm, text(llm, 1), max_new_tokens=1).answer.note == ""


def test_the_answer_ends_where_the_context_ends() -> None:
    """No position beyond the model's is ever used."""
    llm = language_handle(tiny_language("llama", max_position_embeddings=8))
    answer = generate(llm, text(llm, *PROMPT), max_new_tokens=50).answer
    assert (len(answer.ids), answer.finish) == (3, "length")
    with pytest.raises(BudgetError) as e:
        generate(llm, text(llm, *range(8)))
    assert str(e.value) == (
        "generate: the prompt fills 8 of the model's 8 positions, no room is left for an answer; keep fewer "
        "visual tokens or shorten the text"
    )


@pytest.mark.parametrize("repack", [False, True])
def test_dropping_rows_frees_no_positions(repack: bool) -> None:
    """The layers before count on where the prompt ended, so pruning makes no room for an answer."""
    llm = language_handle(tiny_language("llama", max_position_embeddings=8))
    thin = prefill(llm, text(llm, *range(8)), until=2).keep(torch.tensor([0, 1, 7]))
    with pytest.raises(BudgetError) as e:
        generate(llm, thin.repacked() if repack else thin)
    assert str(e.value) == (
        "generate: the prompt fills 8 of the model's 8 positions, no room is left for an answer: 3 of its 8 "
        "rows are left, but dropping rows inside the language model frees no positions; keep fewer visual "
        "tokens before place_tokens, or shorten the text"
    )


def test_visual_tokens_are_counted_where_the_answer_begins(llm: Held) -> None:
    """Placed, and seen by the last layer: after pruning, and in mask mode."""
    state = prefill(llm, prompt(llm), until=2)
    visible = torch.ones(len(state), dtype=torch.bool)
    visible[4:7] = False
    states = [state, state.keep(visible), replace(state, hiding=Hiding(2, visible, 2))]
    answers = [generate(llm, one, max_new_tokens=2).answer for one in states]
    assert [(a.visual_tokens, a.kept_visual_tokens) for a in answers] == [(6, 6), (6, 3), (6, 3)]


def prompt(llm: Held) -> LLMInput:
    """Two rows of text, six of a picture, three of text."""
    return replace(placed(visual_tokens(Run(6), width=WIDTH)), model=llm.fingerprint)


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_of_states_are_answered_together(family: str) -> None:
    """Whole, pruned, rewritten, repacked and hiding states in one batch: as alone, and none is written."""
    llm = language_handle(tiny_language(family))
    half = prefill(llm, prompt(llm), until=2)
    keep = torch.tensor([0, 1, 3, 6, 8, 9, 10])
    hiding = Hiding(2, torch.isin(half.row, keep), 2)
    states = [
        half,
        half.keep(keep),
        half.keep(keep, rewrite_cache=True),
        half.keep(keep).repacked(),
        replace(half, hiding=hiding),
    ]
    before = [cache.keys.clone() for cache in half.cache.layers]
    together = generate.many([(llm, state) for state in states], max_new_tokens=9)
    alone = [generate(llm, state, max_new_tokens=9) for state in states]
    assert [g.answer.ids for g in together] == [g.answer.ids for g in alone]
    assert all(a.equal(b.keys) for a, b in zip(before, half.cache.layers, strict=True))


def test_a_prompt_of_another_model_is_refused(llm: Held) -> None:
    """While planning, and by an eager call; both models are named."""
    other = language_handle(tiny_language("llama", seed=1))
    given = replace(prompt(llm), model="0123456789abcdef")
    with pytest.raises(GraphError) as e:
        generate(other, given)
    assert str(e.value) == (
        "generate.state: the prompt was placed for another language model (fingerprint 0123456789ab) than "
        f"tiny ({other.fingerprint[:12]}); give place_tokens and this node the same llm"
    )
    assert generate.foresee is not None
    with pytest.raises(
        GraphError, match=r"generate\.state: the prompt was placed for another language model"
    ):
        generate.foresee(other, KnownState(layer=0, model=llm.fingerprint), None)
    assert generate.foresee(llm, KnownState(layer=0, model=llm.fingerprint), None) is None


def test_a_prompt_made_by_hand_fits_any_model(llm: Held) -> None:
    """Without a model's name nothing is checked but widths."""
    assert len(generate(llm, replace(prompt(llm), model=""), max_new_tokens=2).answer.ids) == 2


def test_progress_shows_the_text_and_cancel_stops_it(llm: Held, chat: Held) -> None:
    """After every token the text so far is reported; a cancelled run stops between two of them."""
    seen: list[str] = []
    state = prefill(llm, text(llm, *PROMPT))
    with context.use(context.Context(progress=lambda done, total, text: seen.append(text))):
        whole = generate(llm, state, chat, max_new_tokens=5)
    assert len(seen) == 4
    assert all(whole.text.startswith(part.strip()) for part in seen)
    with (
        context.use(context.Context(cancelled=lambda: len(seen) > 6, progress=lambda *a: seen.append(""))),
        pytest.raises(Cancelled),
    ):
        generate(llm, state, max_new_tokens=50)
    assert len(seen) == 7


def test_stop_strings_need_a_tokenizer(llm: Held) -> None:
    """Without chat a stop string could never be seen."""
    with pytest.raises(PromptError) as e:
        generate(llm, text(llm, 1), stop=("###",))
    assert str(e.value) == "generate.stop: stop strings need a tokenizer; connect chat"
    with pytest.raises(CheckpointError, match="the checkpoint has no tokenizer files"):
        generate(llm, text(llm, 1), chat_handle(None))


def test_the_last_row_must_be_there(llm: Held) -> None:
    """A state that lost its last text row cannot be answered from."""
    state = prefill(llm, text(llm, *PROMPT), until=2)
    thin = replace(state, hidden=state.hidden[:3], position=state.position[:3], row=state.row[:3])
    with pytest.raises(GraphError) as e:
        generate(llm, thin)
    assert str(e.value) == (
        "generate.state: the prompt's last row was dropped, and the answer would begin after it; keep "
        "the text rows when pruning"
    )


def test_nan_is_no_answer(llm: Held) -> None:
    """Broken weights or features are said, instead of an empty answer."""
    inputs = text(llm, *PROMPT)
    with pytest.raises(GraphError) as e:
        generate(llm, replace(inputs, embeds=inputs.embeds * torch.nan))
    assert str(e.value) == (
        "generate.state: the scores of the first token are not numbers (nan), and so no answer is one; look "
        "for nan in the checkpoint and in the tokens that are placed, or set dtype: float32"
    )
