"""What a comparison found: one column per graph, as a table, as JSON, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..cost import flops_text
from ..errors import GraphError, did_you_mean
from ..plain import as_json, seconds_text, size_text
from ..report.recipe import RunRecipe
from ..report.thumbnails import Shown
from ..values import Answer, Picture, Table


class Stage(NamedTuple):
    """One stage of one graph. tokens_out: by output name. peak: bytes by which memory rose, at most.

    shared: graphs that it was run for, at once. cached: the tier that its value came from, seconds and memory
    are then of when it was made. side: the side channels that were asked of it. llm: from the prompt on.
    """

    id: str
    type: str
    tokens_in: int | None
    tokens_out: Mapping[str, int]
    seconds: float
    flops: int | None
    bytes: int
    peak: int
    shared: int
    cached: str
    side: tuple[str, ...]
    llm: bool

    @property
    def tokens(self) -> str:
        """`54 + 91`: what it gave."""
        return " + ".join(map(str, self.tokens_out.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One graph. base: what it is compared with, "" for nothing; is_base: others are compared with it.

    layers: visual tokens of every layer of the language model. patches: tokens that the tower gave. kl: nats
    from the base's first token; top1: whether the likeliest is the same. error, notes: why it failed.
    """

    name: str
    title: str
    at: str
    params: Mapping[str, Any]
    base: str = ""
    is_base: bool = False
    answer: Answer | None = None
    stages: tuple[Stage, ...] = ()
    patches: int | None = None
    layers: tuple[int, ...] = ()
    cached_bytes: int | None = None
    kept: float | None = None
    kl: float | None = None
    top1: bool | None = None
    picture: Picture | None = None
    no_picture: str = ""
    recipe: RunRecipe | None = None
    drawing: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int | None:
        """Visual tokens that the last layer sees."""
        return self.layers[-1] if self.layers else None

    @property
    def placed(self) -> int | None:
        """Visual tokens in the prompt."""
        return self.layers[0] if self.layers else None

    @property
    def mean(self) -> float | None:
        """Visual tokens of a layer, the mean of the layers."""
        return sum(self.layers) / len(self.layers) if self.layers else None

    @property
    def flops(self) -> int | None:
        """Of all stages that say so; None when one that failed is missing."""
        counted = [stage.flops for stage in self.stages if stage.flops is not None]
        return sum(counted) if counted and not self.error else None

    @property
    def seconds(self) -> float | None:
        """Of all stages, without loading."""
        return sum(stage.seconds for stage in self.stages) if self.stages and not self.error else None

    @property
    def llm_seconds(self) -> float | None:
        """Of the stages from the prompt on."""
        own = [stage.seconds for stage in self.stages if stage.llm]
        return sum(own) if own and not self.error else None

    @property
    def peak(self) -> int | None:
        """Bytes by which the hungriest stage raised memory."""
        return max(stage.peak for stage in self.stages) if self.stages and not self.error else None

    def record(self) -> dict[str, Any]:
        """As JSON, without the picture."""
        return {
            "name": self.name,
            "title": self.title,
            "graph": self.at or None,
            "params": {name: as_json(value) for name, value in self.params.items()},
            "base": self.base or None,
            "answer": None if self.answer is None else self.answer.text,
            "answer_ids": None if self.answer is None else list(self.answer.ids),
            "patches": self.patches,
            "tokens_placed": self.placed,
            "tokens": self.tokens,
            "tokens_mean": self.mean,
            "tokens_per_layer": list(self.layers),
            "kept": self.kept,
            "flops": self.flops,
            "seconds": self.seconds,
            "llm_seconds": self.llm_seconds,
            "peak": self.peak,
            "cached_bytes": self.cached_bytes,
            "kl": self.kl,
            "top1": self.top1,
            "stages": [_stage_record(stage) for stage in self.stages],
            "error": self.error or None,
            "notes": list(self.notes),
            "recipe": None if self.recipe is None else self.recipe.record(),
        }


def _stage_record(stage: Stage) -> dict[str, Any]:
    told = stage._asdict()
    return {
        **{"node": told.pop("id")},
        **told,
        "tokens_out": dict(stage.tokens_out),
        "cached": stage.cached or None,
        "side": list(stage.side),
    }


COLUMNS = (
    "graph", "answer", "tokens", "kept", "FLOPs", "of base", "seconds", "in LLM", "memory", "KV cache", "KL",
    "top-1",
)  # fmt: skip
RIGHT = COLUMNS[2:-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Columns, bases first; iterating gives them, and `comparison["visionzip"]` one.

    question: what was asked. inputs: pictures or frames of it. seconds: of the whole run. loading: of it, on
    loading models, which no column is charged for. repeats: runs that seconds and memory are medians of.
    random_weights: the answers mean nothing.
    """

    columns: Sequence[Column]
    question: str
    inputs: Sequence[Shown]
    device: str
    dtype: str
    checkpoint: str
    seconds: float
    loading: float
    repeats: int = 1
    random_weights: bool = False
    made: str = ""
    command: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether no graph failed."""
        return not any(column.error for column in self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise GraphError(f"no column is called {name!r}{did_you_mean(name, (c.name for c in self.columns))}")

    def base_of(self, column: Column) -> Column | None:
        """The column that this one is compared with; None: there is none."""
        return next((one for one in self.columns if one.name == column.base), None)

    def table(self) -> Table:
        """One row per graph."""
        return Table(COLUMNS, tuple(map(self._row, self.columns)), self.question)

    def _row(self, column: Column) -> tuple[str, ...]:
        if column.error:
            return (column.name, f"failed: {column.error.splitlines()[0]}", *[""] * (len(COLUMNS) - 2))
        base = self.base_of(column)
        return (
            column.name,
            "" if column.answer is None else column.answer.text,
            tokens_text(column),
            "" if column.kept is None else percent(column.kept),
            "" if column.flops is None else flops_text(column.flops),
            ratio_text(column.flops, None if base is None else base.flops),
            "" if column.seconds is None else seconds_text(column.seconds),
            "" if column.llm_seconds is None else seconds_text(column.llm_seconds),
            "" if column.peak is None else size_text(column.peak),
            "" if column.cached_bytes is None else size_text(column.cached_bytes),
            "" if column.kl is None or column.is_base else f"{column.kl:.3g}",
            "" if column.top1 is None or column.is_base else "same" if column.top1 else "differs",
        )

    def record(self) -> dict[str, Any]:
        """As one JSON object."""
        return {
            "ok": self.ok,
            "question": self.question,
            "inputs": {one.at: one.path for one in self.inputs},
            "checkpoint": self.checkpoint,
            "device": self.device,
            "dtype": self.dtype,
            "random_weights": self.random_weights,
            "seconds": self.seconds,
            "loading": self.loading,
            "repeats": self.repeats,
            "made": self.made,
            "notes": list(self.notes),
            "columns": [column.record() for column in self.columns],
        }

    def html(self) -> str:
        """A page that needs nothing but itself."""
        from .html import page_of

        return page_of(self)

    def save(self, path: Path | str) -> None:
        """Write the page, whole or not at all. Errors: OSError as it is."""
        from ..files import write_whole

        write_whole(Path(path), self.html().encode())

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(column.name for column in self.columns)}>"

    def __str__(self) -> str:
        return str(self.table())


def tokens_text(column: Column) -> str:
    """`576 -> 64`, `576 -> 576 -> 288`: patches, tokens in the prompt, and of the last layer."""
    counts = [count for count in (column.patches, column.placed, column.tokens) if count is not None]
    if len(counts) == 3 and counts[1] == counts[2]:
        counts.pop()
    return " -> ".join(map(str, counts))


def percent(share: float) -> str:
    """`11.1 %`."""
    return f"{share:.1%}".replace("%", " %")


def ratio_text(value: float | None, base: float | None) -> str:
    """`38.2 %` of the base; "" where either is not known."""
    return "" if value is None or not base else percent(value / base)
