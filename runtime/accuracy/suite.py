"""All settings on one medium as one graph, and what is read off each of its branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..cache import Cache
from ..errors import BenchError, LoomError
from ..ir import Wire
from ..needs import Need
from ..plan import Plan, plan
from ..result import Result
from ..run import execute
from ..sweep.ledger import Ledger
from ..values import LLMState
from .answers import Answers, Outcome, cached_visual
from .draft import Draft, Medium, Parts
from .methods import METHODS, Budget, Method

ENCODERS = ("encode_vision", "encode_pvc")


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


class Suite:
    """The settings as branches of one graph. Errors: BenchError for one that does not fit the checkpoint."""

    def __init__(self, parts: Parts, medium: Medium, settings: Sequence[Setting], frames: int) -> None:
        self.parts, self.settings = parts, tuple(settings)
        self.medium: Medium = medium
        draft = Draft(parts, medium, frames)
        self.graph = draft.graph
        self.model = draft.model.node
        self.states: dict[str, str] = {}
        self._alone: dict[str, dict[str, int]] = {}
        for setting in settings:
            try:
                self.states[setting.id] = setting.of.write(draft, setting.budget).node
            except LoomError as error:
                raise _unfit(setting, parts, error) from None

    def plan(self, media: Path, question: str, seed: int, wanted: Iterable[str], cache: Cache | None) -> Plan:
        """What gives the states of these settings, by id. Errors: whatever planning refuses."""
        outputs = dict.fromkeys(
            [f"{self.model}.llm", f"{self.model}.chat", *(self.states[i] for i in wanted)]
        )
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
        """What each setting makes of a question; what is equally long is answered side by side."""
        result = execute(self.plan(media, question, seed, wanted, cache))
        spent = ledger.take(result)
        assert spent is not None, "nothing else fills this cache"
        answers = Answers(result[f"{self.model}.llm"], result[f"{self.model}.chat"])
        answers.take({id: result[self.states[id]] for id in wanted})
        self._learn(media, wanted)
        flops = {step: one.flops or 0 for step, one in spent.items()}
        return {
            id: answers.outcome(
                id, sum(self._alone[id].get(step, flops[step]) for step in self._before[self.states[id]])
            )
            for id in wanted
        }

    def _learn(self, media: Path, wanted: Iterable[str]) -> None:
        """What the tower takes for a setting alone: shared, it also makes the side channels of the others."""
        known: dict[tuple[str, frozenset[Need]], int] = {}
        for id in wanted:
            if id in self._alone:
                continue
            made = self.plan(media, "?", 0, [id], None)
            encoders = {p.id: (p.id, p.wanted) for p in made.steps if p.statics.type.name in ENCODERS}
            if not known.keys() >= set(encoders.values()):
                took = {row.id: row.flops or 0 for row in execute(made).report}
                known |= {key: took[step] for step, key in encoders.items()}
            self._alone[id] = {step: known[key] for step, key in encoders.items()}

    def measured(self, id: str, result: Result) -> tuple[int, float]:
        """Visual tokens in the prompt and those in the caches, of a result without an answer."""
        state = result[self.states[id]]
        given = state.input if isinstance(state, LLMState) else state
        return int(given.visual.sum()), cached_visual(state)

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


def _unfit(setting: Setting, parts: Parts, error: LoomError) -> BenchError:
    return BenchError(
        f"{setting.id}: does not fit {parts.checkpoint}: {error}; leave it out (--methods), or use another "
        "checkpoint"
    )
