"""All settings on one medium as one graph, and what is read off each of its branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..cache import Cache
from ..errors import BenchError, LoomError
from ..ir import Wire
from ..plan import Plan, plan
from ..result import Result
from ..run import execute
from ..sweep.gauge import Gauge
from ..sweep.ledger import Ledger, Spent
from ..values import LLMState
from .draft import Draft, Medium, Parts
from .methods import METHODS, Budget, Method

NEW_TOKENS = 6
"""Longest answer; those of the benchmark have 1 to 3."""


@dataclass(frozen=True)
class Setting:
    """A method at a budget. part: None for a method without one."""

    method: str
    part: float | None = None
    knob: float | None = None

    @property
    def id(self) -> str:
        """`visionzip@25`, `full`."""
        return self.method if self.part is None else f"{self.method}@{100 * self.part:g}"

    @property
    def of(self) -> Method:
        """Its method."""
        return METHODS[self.method]

    @property
    def budget(self) -> Budget:
        """What its branch is written for."""
        return Budget(1.0 if self.part is None else self.part, self.knob)


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


class Suite:
    """The settings as branches of one graph. Errors: BenchError for one that does not fit the checkpoint."""

    def __init__(
        self, parts: Parts, medium: Medium, settings: Sequence[Setting], frames: int, *, answers: bool = True
    ) -> None:
        self.parts, self.medium, self.settings = parts, medium, tuple(settings)
        draft = Draft(parts, medium, frames, NEW_TOKENS)
        self.graph = draft.graph
        self.states: dict[str, str] = {}
        self.gauges: dict[str, Gauge] = {}
        for setting in settings:
            try:
                state = setting.of.write(draft, setting.budget)
            except LoomError as error:
                raise _unfit(setting, parts, error) from None
            name = state.node
            asked = {"llm": f"{draft.model.node}.llm", "state": name}
            if answers:
                asked["answer"] = f"{draft.answered(state).node}.answer"
            self.states[setting.id] = name
            self.gauges[setting.id] = Gauge(self.graph, asked)

    def plan(self, media: Path, question: str, seed: int, wanted: Iterable[str], cache: Cache | None) -> Plan:
        """What answers a question with these settings, by id. Errors: whatever planning refuses."""
        outputs = {output: None for id in wanted for output in self.gauges[id].outputs.values()}
        return plan(
            self.graph,
            {"media": media, "question": question, "seed": seed},
            outputs=tuple(outputs),
            device=self.parts.device,
            dtype=self.parts.dtype,
            cache=cache,
        )

    def check(self, media: Path) -> None:
        """Plan every setting alone. Errors: BenchError naming the first that does not fit the checkpoint."""
        for setting in self.settings:
            try:
                self.plan(media, "", 0, [setting.id], None)
            except LoomError as error:
                raise _unfit(setting, self.parts, error) from None

    def answer(
        self, media: Path, question: str, seed: int, wanted: Sequence[str], cache: Cache, ledger: Ledger
    ) -> dict[str, Outcome]:
        """What each setting makes of a question."""
        result = execute(self.plan(media, question, seed, wanted, cache))
        spent = ledger.take(result)
        assert spent is not None, "nothing else fills this cache"
        return {id: self._outcome(id, result, spent) for id in wanted}

    def measured(self, id: str, result: Result) -> tuple[int, float]:
        """Visual tokens in the prompt and those in the caches, of a result without an answer."""
        state = result[self.states[id]]
        given = state.input if isinstance(state, LLMState) else state
        return int(given.visual.sum()), _cached(state)

    def _outcome(self, id: str, result: Result, spent: Mapping[str, Spent]) -> Outcome:
        gauge = self.gauges[id]
        found = gauge.take(result)
        assert found.answer is not None, "every branch ends in an answer"
        steps = self._before[gauge.outputs["answer"].partition(".")[0]]
        return Outcome(
            said=found.answer,
            placed=found.placed or 0,
            last=found.tokens or 0,
            mean=found.mean or 0.0,
            cached=round(_cached(result[self.states[id]]), 3),
            flops=sum(spent[step].flops or 0 for step in steps),
            prompt=found.prefill or 0,
        )

    @cached_property
    def _before(self) -> Mapping[str, frozenset[str]]:
        """By step, it and all steps that it depends on."""
        out: dict[str, frozenset[str]] = {}
        for name in self.graph.order():
            sources = [
                end.node
                for ends in self.graph.steps[name].wires.values()
                for end in ends
                if isinstance(end, Wire)
            ]
            out[name] = frozenset({name}).union(*(out[source] for source in sources))
        return out


def _cached(state: Any) -> float:
    """Visual keys in a layer's cache, mean over layers and heads; layers to come hold the rows there are."""
    if not isinstance(state, LLMState):
        return float(state.visual.sum())
    visual = state.input.visual
    seen = {id(layer.row): float(visual[layer.row].float().sum(-1).mean()) for layer in state.cache.layers}
    return sum(seen[id(layer.row)] for layer in state.cache.layers) / max(1, len(state.cache.layers))


def _unfit(setting: Setting, parts: Parts, error: LoomError) -> BenchError:
    return BenchError(
        f"{setting.id}: does not fit {parts.checkpoint}: {error}; leave it out (--methods), or use another "
        "checkpoint"
    )
