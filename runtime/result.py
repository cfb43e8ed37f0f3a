"""What a run gives back: values by name, and a report with one row per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .describe import describe
from .errors import GraphError, did_you_mean
from .plan import Plan
from .values import Table


class Row(NamedTuple):
    """One step of a report. cached: "memory", "disk" or "". tokens_out: by output name. peak: bytes.

    loading: seconds spent on loading the models that the step was the first to use, not in `seconds`. flops:
    floating-point operations done now, by formula; None: cached, or the node does not say.
    """

    id: str
    type: str
    seconds: float
    cached: str
    tokens_in: int | None
    tokens_out: Mapping[str, int]
    bytes: int
    peak: int
    loading: float
    flops: int | None

    @property
    def tokens(self) -> str:
        """`576 -> kept 54, rest 522`; "" when no tokens go in or out."""
        out = ", ".join(f"{name} {count}".strip() for name, count in self.tokens_out.items())
        if self.tokens_in is None or not out:
            return out or ("" if self.tokens_in is None else str(self.tokens_in))
        return f"{self.tokens_in} -> {out}"


@dataclass(frozen=True, eq=False)
class Result:
    """Outputs by name (`result["answer"]`), and the report: steps in the order they were done.

    rows: the fields of the report's rows.
    """

    outputs: Mapping[str, Any]
    rows: Sequence[tuple[Any, ...]]
    seconds: float
    plan: Plan

    @cached_property
    def report(self) -> tuple[Row, ...]:
        """One row per step that was done or taken from the cache."""
        return tuple(Row(*row) for row in self.rows)

    def __getitem__(self, name: str) -> Any:
        if name not in self.outputs:
            raise GraphError(f"the run has no output {name!r}{did_you_mean(name, self.outputs)}")
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __repr__(self) -> str:
        return f"<Result {', '.join(f'{k}: {describe(v)}' for k, v in self.outputs.items())}>"

    def table(self) -> Table:
        """The report as a table: tokens in and out, seconds, bytes of the value, peak memory, FLOPs."""
        rows = tuple(
            (row.id, row.type, row.cached, row.tokens, round(row.seconds, 6), row.bytes, row.peak, row.flops)
            for row in self.report
        )
        columns = ("node", "type", "cached", "tokens", "seconds", "bytes", "peak", "flops")
        return Table(columns, rows, self.plan.graph.title)

    def save(self, path: Path | str) -> None:
        """Write a result file (.json), whole or not at all: `tokenloom view` and `rerun` read it.

        Errors: OSError as it is.
        """
        from .report.record import success, write_record

        write_record(Path(path), success(self))
