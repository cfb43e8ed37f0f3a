"""The answer, token by token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import torch

from ..runtime import context
from ..runtime.errors import BudgetError, GraphError, PromptError
from ..runtime.models.chat import ChatFormat
from ..runtime.models.decode import Decoder
from ..runtime.models.handle import Model
from ..runtime.models.language import LanguageModel
from ..runtime.models.sampling import Sampling
from ..runtime.node import node
from ..runtime.values import Answer, LLMInput, LLMState
from ..runtime.widgets import Range, Seed
from .prefill import check_model, known_state, run_layers

RANDOM = "random weights: this text means nothing"


class Generated(NamedTuple):
    """The answer with its ids, counts and times, and its text alone."""

    answer: Answer
    text: str


def _foresee(
    llm: Model[LanguageModel] | None, state: object, chat: Model[ChatFormat] | None, **widgets: Any
) -> None:
    known = known_state(state)
    if llm is not None and known is not None:
        check_model("generate.state", llm, known.model)


def _together(
    llm: list[Model[LanguageModel]],
    state: list[LLMState | LLMInput],
    chat: list[Model[ChatFormat] | None],
    **widgets: Any,
) -> list[Generated]:
    out: dict[int, Generated] = {}
    models = [handle.load() for handle in llm]
    for one in dict.fromkeys(models):
        items = [i for i, model in enumerate(models) if model is one]
        done = _generate(
            [llm[i] for i in items], [state[i] for i in items], [chat[i] for i in items], **widgets
        )
        out.update(zip(items, done, strict=True))
    return [out[i] for i in range(len(llm))]


@node(lane="gpu", foresee=_foresee, batch=_together)
def generate(
    llm: Model[LanguageModel],
    state: LLMState | LLMInput,
    chat: Model[ChatFormat] | None = None,
    *,
    max_new_tokens: Annotated[int, Range(1)] = 256,
    min_new_tokens: Annotated[int, Range(0)] = 0,
    temperature: Annotated[float, Range(0)] = 0.0,
    top_p: Annotated[float, Range(0, 1)] | None = None,
    top_k: Annotated[int, Range(1)] | None = None,
    seed: Seed = 0,
    stop: tuple[str, ...] = (),
    stop_ids: tuple[int, ...] = (),
) -> Generated:
    """The model's answer to a placed prompt or a prefilled state: greedy, or sampled from an explicit seed.

    Layers that have not run yet are run first. Ends at an end token, at a stop string of the chat template or
    of `stop` (cut off the text), after max_new_tokens, or where the model's context ends.

    chat: turns ids into text; without it the text is empty and stop strings cannot be seen.
    max_new_tokens: length of the answer, at most.
    min_new_tokens: end tokens are forbidden before this length.
    temperature: 0 is greedy; LLaVA's command line has 0.2.
    top_p: sample among the likeliest tokens that together have this chance.
    top_k: sample among this many likeliest tokens.
    seed: of the sampling; equal seeds give equal answers on every device.
    stop: further strings that end the answer.
    stop_ids: further token ids that end it.
    """
    return _together(
        [llm],
        [state],
        [chat],
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop,
        stop_ids=stop_ids,
    )[0]


def _generate(
    handles: Sequence[Model[LanguageModel]],
    inputs: Sequence[LLMState | LLMInput],
    chats: Sequence[Model[ChatFormat] | None],
    *,
    max_new_tokens: int,
    min_new_tokens: int,
    temperature: float,
    top_p: float | None,
    top_k: int | None,
    seed: int,
    stop: tuple[str, ...],
    stop_ids: tuple[int, ...],
) -> list[Generated]:
    """Answers of one model to several inputs at once."""
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    model = handles[0].load()
    writers = [
        _Writer.of(model, x, chat, sampling, max_new_tokens, min_new_tokens, stop, stop_ids)
        for x, chat in zip(inputs, chats, strict=True)
    ]
    began = time.perf_counter()
    states = run_layers(handles, inputs, where="generate.state")
    _check_last_rows(states)
    decoder = Decoder(model, states)
    _check_numbers(decoder.logits)
    for writer, logits in zip(writers, decoder.logits, strict=True):
        writer.take(logits)
    first = time.perf_counter()
    while not all(writer.finish for writer in writers):
        context.progress(max(len(w.ids) for w in writers), max_new_tokens, writers[0].text)
        decoder.step([writer.ids[-1] for writer in writers])
        for writer, logits in zip(writers, decoder.logits, strict=True):
            writer.take(logits)
    seconds = first - began, time.perf_counter() - first
    return [
        writer.result(handle, state, *seconds)
        for writer, handle, state in zip(writers, handles, states, strict=True)
    ]


def _check_numbers(logits: torch.Tensor) -> None:
    if bool(logits.isnan().any()):
        raise GraphError(
            "generate.state: the scores of the first token are not numbers (nan), and so no answer is one; "
            "look for nan in the checkpoint and in the tokens that are placed, or set dtype: float32"
        )


def _check_last_rows(states: Sequence[LLMState]) -> None:
    for state in states:
        if not len(state) or int(state.row[-1]) != len(state.input) - 1:
            raise GraphError(
                "generate.state: the prompt's last row was dropped, and the answer would begin after it; "
                "keep the text rows when pruning"
            )


def _after(given: LLMState | LLMInput) -> int:
    """The position behind the prompt, in the layers that count furthest: repacking leaves earlier ones be."""
    last = int(given.position.max()) + 1 if len(given) else 0
    if isinstance(given, LLMInput):
        return last
    caches = [layer.position.max() for layer in given.cache.layers if layer.length]
    return max(given.next_position, int(torch.stack(caches).max()) + 1 if caches else last)


def _no_room(after: int, limit: int, rows: int, placed: int) -> BudgetError:
    held = f"the prompt fills {after} of the model's {limit} positions"
    if rows < placed:
        return BudgetError(
            f"generate: {held}, no room is left for an answer: {rows} of its {placed} rows are left, but "
            "dropping rows inside the language model frees no positions; keep fewer visual tokens before "
            "place_tokens, or shorten the text"
        )
    return BudgetError(
        f"generate: {held}, no room is left for an answer; keep fewer visual tokens or shorten the text"
    )


def _kept(state: LLMState) -> int:
    """How many visual rows the last layer saw."""
    seen = state.visual if state.hiding is None else state.visual & state.hiding.visible
    return int(seen.sum())


@dataclass
class _Writer:
    """One answer in the making."""

    sampling: Sampling
    most: int
    least: int
    ends: frozenset[int]
    stop: tuple[str, ...]
    chat: ChatFormat | None
    generator: torch.Generator
    ids: list[int] = field(default_factory=list[int])
    text: str = ""
    finish: str = ""

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        given: LLMState | LLMInput,
        chat: Model[ChatFormat] | None,
        sampling: Sampling,
        most: int,
        least: int,
        stop: tuple[str, ...],
        stop_ids: tuple[int, ...],
    ) -> _Writer:
        if stop and chat is None:
            raise PromptError("generate.stop: stop strings need a tokenizer; connect chat")
        inputs = given.input if isinstance(given, LLMState) else given
        after = _after(given)
        room = model.facts.max_length - after
        if room < 1:
            raise _no_room(after, model.facts.max_length, len(given), len(inputs))
        text = None if chat is None else chat.load()
        stop = () if text is None else tuple(dict.fromkeys((*inputs.stop, *stop)))
        ends = {*model.facts.eos, *stop_ids, *(text.single(stop) if text else ())}
        return cls(sampling, min(most, room), least, frozenset(ends), stop, text, sampling.generator())

    def take(self, logits: torch.Tensor) -> None:
        """Add the next token, unless the answer is complete."""
        if self.finish:
            return
        forbidden = self.ends if len(self.ids) < self.least else ()
        self.ids.append(self.sampling.pick(logits, self.generator, forbidden))
        ended = self.ids[-1] in self.ends
        if self.chat is not None:
            self.text = self.chat.decode(self.ids[:-1] if ended else self.ids)
        cut = min((at for at in map(self.text.find, self.stop) if at >= 0), default=None)
        if cut is not None:
            self.text = self.text[:cut]
        if ended or cut is not None:
            self.finish = "stop"
        elif len(self.ids) >= self.most:
            self.finish = "length"

    def result(
        self, handle: Model[LanguageModel], state: LLMState, prefill_seconds: float, decode_seconds: float
    ) -> Generated:
        """The finished answer; its note says so when the weights are random."""
        facts = handle.facts.chat
        answer = Answer(
            text=self.text.strip(),
            ids=tuple(self.ids),
            finish=self.finish,
            prompt_tokens=len(state.input),
            visual_tokens=int(state.input.visual.sum()),
            kept_visual_tokens=_kept(state),
            prefill_seconds=prefill_seconds,
            decode_seconds=decode_seconds,
            note=RANDOM if facts is not None and facts.random_weights else "",
        )
        return Generated(answer, answer.text)
