"""What a compressed model did in its latest `generate`: tokens, FLOPs and seconds, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..cost import flops_text
from ..result import Row
from ..values import Answer, LLMInput, LLMState, Table


@dataclass(frozen=True, eq=False)
class RowReport:
    """One row of the batch.

    full: visual tokens that the plain model would have had. stages: the graph's steps; none for a row without
    pictures. outputs: what else the graph gives, such as `tokens`, by name. answer: with the visual tokens
    that were placed and, of these, kept to the end.
    """

    full: int
    stages: Sequence[Row] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    answer: Answer | None = None
    state: LLMInput | LLMState | None = field(default=None, repr=False)

    def answered(self, answer: Answer) -> RowReport:
        """With its answer, and without the state, whose caches are large."""
        return replace(self, answer=answer, state=None)

    def __getitem__(self, output: str) -> Any:
        return self.outputs[output]


@dataclass(frozen=True, eq=False)
class Report:
    """The rows of a batch, and the stage that decoded all of them together. `print` shows a table."""

    rows: tuple[RowReport, ...]
    decode: Row

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RowReport]:
        return iter(self.rows)

    def __getitem__(self, row: int) -> RowReport:
        return self.rows[row]

    def table(self) -> Table:
        """Every stage of every row: tokens in and out, FLOPs and seconds; then the answers."""
        out: list[tuple[str | int | float | None, ...]] = []
        for number, row in enumerate(self.rows):
            out += [(number, *_cells(stage)) for stage in row.stages]
            if row.answer is not None:
                seen = row.answer.kept_visual_tokens
                text = f"{row.full} -> {row.answer.visual_tokens} placed, {seen} kept"
                out.append((number, "(visual)", text, "", None))
        out.append((None, *_cells(self.decode)))
        return Table(("row", "stage", "tokens", "FLOPs", "seconds"), tuple(out))

    def __str__(self) -> str:
        return str(self.table())


def _cells(stage: Row) -> tuple[str, str, str, float]:
    flops = "" if stage.flops is None else flops_text(stage.flops)
    return stage.id, stage.tokens, flops, stage.seconds
