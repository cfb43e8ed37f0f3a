"""Prompts and states to answers, those of equal length side by side; what each kept and what it cost."""

# V = visual rows, C = keys of a layer

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from .. import cost, registry
from ..models.chat import ChatFormat
from ..models.handle import Model
from ..models.language import LanguageModel
from ..values import Answer, LLMInput, LLMState

NEW_TOKENS = 6
"""Longest answer; those of the benchmark have 1 to 3."""


@dataclass(frozen=True)
class Outcome:
    """What one setting made of one question.

    placed: visual tokens in the prompt; last: those that the last layer saw; mean: over the layers; cached:
    visual keys that a layer's cache holds when decoding begins, mean over layers and heads. flops: of all
    stages; prompt: of the prompt in the language model alone.
    """

    said: str
    placed: int
    last: int
    mean: float
    cached: float
    flops: int
    prompt: int

    def plain(self) -> list[Any]:
        """For a row of the file."""
        return [*asdict(self).values()]


class Answers:
    """Of one language model to one question, after different treatments."""

    def __init__(self, llm: Model[LanguageModel], chat: Model[ChatFormat]) -> None:
        assert llm.facts.language is not None, "every handle of a language model has its facts"
        self.llm, self.chat, self.facts = llm, chat, llm.facts.language
        self._given: dict[str, LLMInput | LLMState] = {}
        self._states: dict[str, LLMState] = {}
        self._answers: dict[str, Answer] = {}

    def take(self, given: Mapping[str, LLMInput | LLMState]) -> None:
        """Run the layers that are left, and decode."""
        prefill, generate = registry.find("prefill"), registry.find("generate")
        self._given |= given
        for ids in _grouped((id, (_layer(x), len(x))) for id, x in given.items()):  # equally long: no padding
            self._states |= zip(ids, prefill.many([(self.llm, given[id]) for id in ids]), strict=True)
        longest = {id: max(self._states[id].cache.lengths) for id in given}
        for ids in _grouped((id, longest[id].bit_length()) for id in given):  # at most half is padding
            calls = [(self.llm, self._states[id], self.chat) for id in ids]
            done: list[Any] = generate.many(calls, max_new_tokens=NEW_TOKENS)
            self._answers |= {id: one.answer for id, one in zip(ids, done, strict=True)}

    def outcome(self, id: str, before: int) -> Outcome:
        """before: FLOPs until what was given."""
        given, state, answer, facts = self._given[id], self._states[id], self._answers[id], self.facts
        rows = [row.shape[-1] for row in state.ran]
        left = facts.depth - _layer(given)
        lengths = [row.shape[-1] for row in (layer.row for layer in state.cache.layers)]
        return Outcome(
            said=answer.text,
            placed=answer.visual_tokens,
            last=answer.kept_visual_tokens or 0,
            mean=round(_mean(_visual(state, state.ran)), 3),
            cached=round(cached_visual(state), 3),
            flops=before
            + cost.layers_prefill(facts, [len(given)] * left)
            + cost.lm_head(facts)
            + cost.decode(facts, lengths, len(answer.ids) - 1),
            prompt=cost.prefill(facts, rows),
        )


def cached_visual(state: LLMInput | LLMState) -> float:
    """Visual keys in a layer's cache, mean over layers and heads; layers to come hold the rows there are."""
    if isinstance(state, LLMInput):
        return float(state.visual.sum())
    return _mean(_visual(state, [layer.row for layer in state.cache.layers]))


def _visual(state: LLMState, rows: Iterable[Tensor]) -> list[float]:
    """How many of each layer's rows, [C] or by head [H, C], are visual."""
    visual, known = state.input.visual, dict[int, float]()
    out: list[float] = []
    for row in rows:  # layers of one prefill share theirs
        if id(row) not in known:
            known[id(row)] = float(visual[row.to(visual.device)].float().sum(-1).mean())
        out.append(known[id(row)])
    return out


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _layer(given: LLMInput | LLMState) -> int:
    return given.layer if isinstance(given, LLMState) else 0


def _grouped(pairs: Iterable[tuple[str, Hashable]]) -> list[list[str]]:
    """Names by what they share."""
    groups: dict[Hashable, list[str]] = {}
    for name, key in pairs:
        groups.setdefault(key, []).append(name)
    return list(groups.values())
