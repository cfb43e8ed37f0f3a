"""The language stages as a graph: eager == graph == YAML, from question to answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tokenloom.nodes import (
    generate,
    load_model,
    place_tokens,
    prefill,
    prune_by_attention,
    prune_uniform,
    read_logits,
    render_chat,
)
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import GraphError, NeedError, PromptError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.needs import Need
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import run
from tokenloom.runtime.values import VisualTokens
from tokenloom.runtime.yamlfile import load

from ..runtime.models.tiny import WIDTH, Held, chat_handle, language_handle, tiny_language, tiny_tokenizer
from .test_place import pictures

QUESTION = "Is <image> like <image>?"


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What a run gives: handles and the visual tokens of two pictures."""
    llm, chat = language_handle(tiny_language("llama")), chat_handle(tiny_tokenizer())
    return {"llm": llm, "chat": chat, "visual": pictures(2)}


def built(*, until: int = 2) -> Graph:
    with Graph() as g:
        llm, chat = g.param("llm", Model[LanguageModel]), g.param("chat", Model[ChatFormat])
        visual = g.param("visual", VisualTokens)
        prompt = render_chat(chat, question=g.param("question", str, default=QUESTION))
        placed = place_tokens(llm, prompt, visual)
        state = prefill(llm, prefill(llm, placed, until=until))
        answer = generate(llm, state, chat, max_new_tokens=9)
        g.output(text=answer.text, answer=answer.answer, logits=read_logits(llm, state, rows="all"))
    return g


def eager(llm: Held, chat: Held, visual: VisualTokens) -> tuple[Any, Any]:
    placed = place_tokens(llm, render_chat(chat, question=QUESTION), visual)
    state = prefill(llm, prefill(llm, placed, until=2))
    return generate(llm, state, chat, max_new_tokens=9), read_logits(llm, state, rows="all")


def test_eager_equals_graph_equals_yaml(given: dict[str, Any]) -> None:
    """The same ids, text and logits, whichever way the stages were put together."""
    want, logits = eager(**given)
    graph = built()
    again = load("again.yaml", text=graph.to_yaml())
    assert again == graph
    for one in (graph, again):
        result = run(one, cache=False, **given)
        assert result["text"] == want.text
        assert result["answer"].ids == want.answer.ids
        assert result["logits"].values.equal(logits.values)
    assert (want.answer.visual_tokens, len(want.answer.ids)) == (8, 9)
    assert given["visual"].width == WIDTH


def test_a_plan_refuses_layers_that_are_not_there(given: dict[str, Any]) -> None:
    """`until` is checked against the model's facts before a node runs."""
    with pytest.raises(GraphError, match="until: 9 of a model with 4 layers"):
        run(built(until=9), cache=False, **given)


def test_too_few_pictures_in_the_question(given: dict[str, Any]) -> None:
    """Two pictures, three marks: the counts, from inside a run."""
    with pytest.raises(PromptError, match="the prompt has 3 <image>, but 2 pictures on 1 wire came"):
        run(built(), cache=False, question="<image><image><image>", **given)


def asked(length: int) -> Graph:
    with Graph() as g:
        model = load_model(checkpoint="tiny-random", dtype="float32", device="cpu")
        prompt = render_chat(model.chat, question="What is it?", images=0)
        state = prefill(model.llm, place_tokens(model.llm, prompt), until=1)
        answer = generate(model.llm, state, model.chat, max_new_tokens=length)
        g.output(text=answer.text, answer=answer.answer, state=state)
    return g


def test_an_answer_from_a_state_on_disk(tmp_path: Path) -> None:
    """Another process' half-way state, read back from the cache folder, is answered as if it were new."""
    first = run(asked(4), cache=Cache(tmp_path))
    again = run(asked(9), cache=Cache(tmp_path))
    fresh = run(asked(9), cache=False)
    assert {row.id: row.cached for row in again.report}["prefill"] == "disk"
    assert again["answer"].ids == fresh["answer"].ids
    assert again["answer"].ids[:4] == first["answer"].ids
    assert again["state"].hidden.equal(fresh["state"].hidden)
    assert again["answer"].note == "random weights: this text means nothing"


def test_every_prune_is_told_by_the_prefill_before_it(given: dict[str, Any]) -> None:
    """Chained prunes each get their own scores from the nearest prefill; whoever answers is asked nothing."""
    last = Need("attention", None, "last", "post_rope_causal,mean,mean")
    text = Need("attention", None, "text", "pre_rope_full,max,max")
    with Graph() as g:
        llm, chat = g.param("llm", Model[LanguageModel]), g.param("chat", Model[ChatFormat])
        placed = place_tokens(llm, render_chat(chat, question=QUESTION), g.param("visual", VisualTokens))
        first = prefill(llm, placed, until=1)
        fewer = prune_by_attention(
            first,
            keep=6,
            rows="last",
            attention="post_rope_causal",
            heads="mean",
            over="mean",
            select="global",
            rewrite_cache=False,
        )
        second = prefill(llm, prune_uniform(fewer, keep=5, select="global"), through=2)
        third = prefill(llm, prune_by_attention(second, keep=3, select="global"))
        g.output(logits=read_logits(llm, third), answer=generate(llm, third, max_new_tokens=3).answer)
    wanted = {one.id: one.wanted for one in plan(g, given).steps if one.wanted}
    assert wanted == {"prefill": {last}, "prefill_2": {text}}
    answer = run(g, cache=False, **given)["answer"]
    assert (answer.visual_tokens, answer.kept_visual_tokens) == (8, 3)


def test_scores_of_layers_that_have_run_are_refused_while_planning(given: dict[str, Any]) -> None:
    """A prefill with nothing left to run has no attention to tell."""
    with Graph() as g:
        llm, chat = g.param("llm", Model[LanguageModel]), g.param("chat", Model[ChatFormat])
        placed = place_tokens(llm, render_chat(chat, question=QUESTION), g.param("visual", VisualTokens))
        again = prefill(llm, prefill(llm, placed, until=2), until=2)
        g.output(state=prune_by_attention(again, keep=3))
    said = "attention:text/pre_rope_full,max,max is asked for, but no layer runs: 2 have run already"
    with pytest.raises(NeedError, match=re.escape(said)):
        plan(g, given)


def test_two_models_in_one_prompt_are_refused_while_planning(given: dict[str, Any]) -> None:
    """Placed for one model, run through another."""
    with Graph() as g:
        chat, other = g.param("chat", Model[ChatFormat]), g.param("other", Model[LanguageModel])
        llm = g.param("llm", Model[LanguageModel])
        placed = place_tokens(llm, render_chat(chat, question=QUESTION), g.param("visual", VisualTokens))
        g.output(state=prefill(other, placed))
    wrong = language_handle(tiny_language("llama", seed=3))
    with pytest.raises(
        GraphError, match=r"prefill\.inputs: the prompt was placed for another language model"
    ):
        plan(g, {**given, "other": wrong})
