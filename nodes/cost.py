"""What a prompt costs in the language model, beside what it would cost uncompressed."""

# H = key-value heads, C = rows in a layer's cache

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ..runtime import cost
from ..runtime.errors import GraphError
from ..runtime.foreseen import KnownState
from ..runtime.models.handle import LanguageFacts, Model
from ..runtime.models.language import LanguageModel
from ..runtime.node import node
from ..runtime.values import LLMInput, LLMState, Segment, Table, Tokens
from ..runtime.widgets import Range
from .prefill import check_model

COLUMNS = ("counted", "stage", "rows", "of full", "FLOPs", "of full FLOPs", "KV bytes", "of full bytes")
Line = tuple[str, str, int | None, float | None, float, float | None, int | None, float | None]


def _foresee(llm: Model[LanguageModel] | None, state: object, *full: object, **_: object) -> None:
    if llm is not None and isinstance(state, KnownState):
        check_model("measure_cost.state", llm, state.model)


@node(version=1, foresee=_foresee)
def measure_cost(
    llm: Model[LanguageModel],
    state: LLMInput | LLMState,
    *full: Tokens,
    new_tokens: Annotated[int, Range(1)] = 100,
    causal: bool = False,
) -> Table:
    """FLOPs and KV bytes of a prompt per stage of the language model, also relative to the uncompressed one.

    By formula, no weights are read. Rows `with text` count all that the model computes. Rows `visual alone`
    leave out text and the head, and `prefill (table)` is FastV's formula for them, by which the ratios in
    papers come out. Layers that have not run are taken to run on all rows of the state. Reading attention to
    prune by is not part of it: the report of a run has that. Errors: GraphError for a state of another model,
    or made by hand.

    state: after pruning; it knows what each layer ran on, and what its cache holds.
    full: the visual tokens before any compression; default those that were placed in the prompt.
    new_tokens: length of the answer; its first token takes no step of its own.
    causal: count kernels that leave out the keys after each row: half of the attention's FLOPs.
    """
    start = state if isinstance(state, LLMInput) else state.input
    check_model("measure_cost.state", llm, start.model)
    facts = llm.facts.language
    assert facts is not None, "every handle of a language model has its facts"
    layers = _layers(state, facts.depth)
    text = int((start.segment != int(Segment.VISUAL)).sum())
    visual = sum(map(len, full)) if full else len(start) - text
    sheet = _Sheet(facts, start.embeds.element_size(), causal)
    lines = (*sheet.with_text(layers, text + visual, new_tokens - 1), *sheet.visual_alone(layers, visual))
    return Table(COLUMNS, lines, f"full: {visual} visual tokens, {text} of text")


class _Layer(NamedTuple):
    """Rows that a layer ran on, those of its cache (the mean of its heads'), and the visual ones of both."""

    ran: int
    cached: int
    visual: int
    cached_visual: int


@dataclass(frozen=True)
class _Sheet:
    """The lines of one model: bytes of a cached number, and whether kernels leave out what is not seen."""

    facts: LanguageFacts
    itemsize: int
    causal: bool

    def with_text(self, layers: Sequence[_Layer], full: int, steps: int) -> Iterator[Line]:
        """Layers by stage, the head, the prompt, `steps` decode steps, and all of it."""
        pairs = [(layer.ran, layer.cached) for layer in layers]
        yield from self._stages("with text", pairs, full)
        head = cost.lm_head(self.facts)
        yield ("with text", "head", 1, None, float(head), 1.0, None, None)
        ran, cached = [p[0] for p in pairs], [p[1] for p in pairs]
        whole = [full] * len(layers)
        prompt, prompt_full = self._prefill(ran) + head, self._prefill(whole) + head
        kept, kept_full = self._bytes(cached), self._bytes(whole)
        yield _line("with text", "prefill", prompt, prompt_full, kept, kept_full)
        answer = cost.decode(self.facts, cached, steps)
        answer_full = cost.decode(self.facts, whole, steps)
        yield _line("with text", f"decode, {steps} steps", answer, answer_full)
        yield _line("with text", "prefill and decode", prompt + answer, prompt_full + answer_full)

    def visual_alone(self, layers: Sequence[_Layer], full: int) -> Iterator[Line]:
        """Layers by stage, the prompt, and the prompt by the formula of the tables."""
        pairs = [(layer.visual, layer.cached_visual) for layer in layers]
        yield from self._stages("visual alone", pairs, full)
        ran, cached, whole = [p[0] for p in pairs], [p[1] for p in pairs], [full] * len(layers)
        kept, kept_full = self._bytes(cached), self._bytes(whole)
        yield _line("visual alone", "prefill", self._prefill(ran), self._prefill(whole), kept, kept_full)
        table, table_full = (sum(cost.table_layer(self.facts, n) for n in of) for of in (ran, whole))
        yield _line("visual alone", "prefill (table)", table, table_full)

    def _stages(self, counted: str, pairs: Sequence[tuple[int, int]], full: int) -> Iterator[Line]:
        """One line per run of layers that ran on equally many rows and hold equally many."""
        first = 0
        for (ran, cached), run in groupby(pairs):
            many = len(list(run))
            name = f"layers {first}..{first + many - 1}" if many > 1 else f"layer {first}"
            done, done_full = self._prefill([ran] * many), self._prefill([full] * many)
            kept, kept_full = self._bytes([cached] * many), self._bytes([full] * many)
            yield _line(counted, name, done, done_full, kept, kept_full, ran, full)
            first += many

    def _prefill(self, lengths: Sequence[int]) -> int:
        return cost.layers_prefill(self.facts, lengths, causal=self.causal)

    def _bytes(self, lengths: Sequence[int]) -> int:
        return cost.kv_bytes(self.facts, lengths, self.itemsize)


def _line(
    counted: str,
    stage: str,
    flops: float,
    flops_full: float,
    kept: int | None = None,
    kept_full: int = 0,
    rows: int | None = None,
    rows_full: int = 0,
) -> Line:
    def of(part: float | None, whole: float) -> float | None:
        return None if part is None or not whole else part / whole

    return (
        counted, stage, rows, of(rows, rows_full), float(flops), of(flops, flops_full), kept,
        of(kept, kept_full),
    )  # fmt: skip


def _layers(state: LLMInput | LLMState, depth: int) -> list[_Layer]:
    """What every layer ran on, or will. Errors: GraphError for a state that does not tell."""
    inputs = state if isinstance(state, LLMInput) else state.input
    visual = inputs.segment == int(Segment.VISUAL)
    if isinstance(state, LLMInput):
        now, ran, cached = torch.arange(len(inputs)), list[Tensor](), list[Tensor]()
    else:
        if len(state.ran) != state.layer:
            raise GraphError(
                f"measure_cost.state: {state.layer} layers have run, but it does not say on what; give a "
                "state that prefill made"
            )
        now, ran, cached = state.row, list(state.ran), [layer.row for layer in state.cache.layers]
    todo = [now] * (depth - len(ran))
    of_ran, of_cache = _visual(visual, ran + todo), _visual(visual, cached + todo)
    return [
        _Layer(r.shape[-1], c.shape[-1], v, w)
        for r, c, v, w in zip(ran + todo, cached + todo, of_ran, of_cache, strict=True)
    ]


def _visual(visual: Tensor, rows: Sequence[Tensor]) -> list[int]:
    """How many of each [C] or [H, C] are visual: the mean of the heads, rounded."""
    counts = [visual[row.to(visual.device)].float().sum(-1).mean() for row in rows]
    return [round(n) for n in torch.stack(counts).tolist()] if counts else []
