"""What is read off every run of a graph: the answer, tokens, the prompt's FLOPs, the first token's scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import cost, registry
from ..build import ParamRef
from ..graph import Graph
from ..ir import Step, Wire
from ..models.handle import LanguageFacts, Model
from ..result import Result
from ..values import Answer, LLMInput, LLMState, Logits

STATE, LOGITS = "sweep_state", "sweep_logits"  # steps that are added


@dataclass(frozen=True)
class Gauge:
    """A graph with what a sweep reads from it: `outputs` are asked of a plan, by name as `take` knows them.

    Errors: none; what the graph does not have (an answer, a state) is None in what `take` gives.
    """

    graph: Graph
    outputs: Mapping[str, str]

    @classmethod
    def of(cls, graph: Graph, *, answer: bool = True, logits: bool = False) -> Gauge:
        """Of a copy of the graph. logits: scores of the first token too; answer False: nothing else."""
        graph = graph.copy()
        asked: dict[str, str] = {}
        last = generating(graph)
        if last is None:
            if answer and "answer" in graph.outputs:
                asked["answer"] = "answer"
            return cls(graph, asked)
        llm, state = (source_of(last, socket) for socket in ("llm", "state"))
        if answer:
            asked["answer"] = f"{last.id}.answer"
            asked |= {"llm": str(llm)} if llm else {}
            asked |= {"state": str(state)} if state else {}
        if logits and llm and state:
            full = graph.add(registry.find("prefill"), (graph[str(llm)], graph[str(state)]), id=STATE)
            graph.add(registry.find("read_logits"), (graph[str(llm)], full), id=LOGITS)
            asked["logits"] = LOGITS
        return cls(graph, asked)

    @property
    def answers(self) -> bool:
        """Whether the graph gives an answer."""
        return "answer" in self.outputs

    def take(self, result: Result) -> Reading:
        """What a run of a plan with these outputs gave."""
        found = {name: result[output] for name, output in self.outputs.items()}
        answer, llm, state, logits = (found.get(name) for name in ("answer", "llm", "state", "logits"))
        facts = llm.facts.language if isinstance(llm, Model) else None
        rows = _rows(state, facts) if isinstance(state, LLMInput | LLMState) and facts else ()
        return Reading(
            answer=answer.text if isinstance(answer, Answer) else answer if isinstance(answer, str) else None,
            placed=answer.visual_tokens if isinstance(answer, Answer) else None,
            tokens=answer.kept_visual_tokens if isinstance(answer, Answer) else None,
            mean=_mean_visual(state, rows) if isinstance(state, LLMInput | LLMState) and rows else None,
            prefill=cost.prefill(facts, [row.shape[-1] for row in rows]) if facts and rows else None,
            logits=logits.values[-1] if isinstance(logits, Logits) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One run. tokens: visual ones that the last layer sees; placed: in the prompt; mean: over the layers.

    prefill: FLOPs of the prompt in the language model alone, by formula, text included. logits: [V].
    """

    answer: str | None = None
    placed: int | None = None
    tokens: int | None = None
    mean: float | None = None
    prefill: int | None = None
    logits: Tensor | None = None


def generating(graph: Graph) -> Step | None:
    """The step that answers: the one behind the output `answer`, or the last."""
    wire = graph.outputs.get("answer")
    if wire is not None and wire.node in graph.steps and _answers(graph.steps[wire.node]):
        return graph.steps[wire.node]
    found = [graph.steps[name] for name in graph.order() if _answers(graph.steps[name])]
    return found[-1] if found else None


def _answers(step: Step) -> bool:
    return step.type.outputs.get("answer") is Answer and {"llm", "state"} <= set(step.type.sockets)


def source_of(step: Step, socket: str) -> Wire | None:
    """The output that is wired to a socket; None for a parameter, and for nothing."""
    ends: tuple[Wire | ParamRef, ...] = step.wires.get(socket, ())
    return ends[0] if ends and isinstance(ends[0], Wire) else None


def _rows(state: LLMInput | LLMState, facts: LanguageFacts) -> tuple[Tensor, ...]:
    """The rows of the prompt that each layer runs on; () for a state that does not tell."""
    if isinstance(state, LLMInput):
        return (torch.arange(len(state)),) * facts.depth
    if len(state.ran) != state.layer:
        return ()
    return (*state.ran, *(state.row,) * (facts.depth - state.layer))


def _mean_visual(state: LLMInput | LLMState, rows: tuple[Tensor, ...]) -> float:
    """Visual rows of a layer, the mean of the layers."""
    visual = (state if isinstance(state, LLMInput) else state.input).visual
    kept: dict[int, int] = {}
    for row in rows:
        if id(row) not in kept:
            kept[id(row)] = int(visual[row.to(visual.device)].sum())
    return sum(kept[id(row)] for row in rows) / len(rows)
