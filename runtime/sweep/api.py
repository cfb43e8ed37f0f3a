"""`tokenloom.sweep`: a grid over a graph and data, from Python; the command does the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import Cache, default_cache
from ..events import Subscriber
from ..rows import Row, RowFile
from .resume import check_resumed
from .sweep import Options, Sweep

if TYPE_CHECKING:
    from ..graph import Graph


def sweep(
    graph: Graph | Path | str,
    grid: Mapping[str, Any],
    data: Path | str | Iterable[Mapping[str, Any]],
    *,
    output: Path | str | None = None,
    kl: bool = False,
    base: Graph | Path | str | None = None,
    score: str = "exact",
    limit: int | None = None,
    keep_going: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | bool = True,
    on_row: Callable[[Row], None] | None = None,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | None = None,
) -> list[Row]:
    """Run a graph for every item of `data` with every combination of `grid`; one row for each, in order.

    grid: by parameter a list of values, or one value. data: a JSON lines file, or mappings, of parameters and
    `answer`, `id`, `kind`. output: a JSON lines file that rows are appended to as they are made; the rows
    that it has already are not made again. kl: compare the first token with `base`, by default the graph
    that this one extends. score: exact, contains or choice. limit: the first items only. keep_going: a row
    that fails holds its `error`, and the rest is done. on_row: called with every new row.
    subscribers, cancel: as in `run`.
    Errors: SweepError, before any work, with everything that is wrong; RowsError for `output`.
    """
    made = Sweep.of(
        _graph(graph),
        grid,
        data,
        Options(
            kl=kl,
            base=None if base is None else _graph(base),
            score=score,
            device=device,
            dtype=dtype,
            keep_going=keep_going,
            subscribers=tuple(subscribers),
            cancel=cancel,
        ),
        limit=limit,
    )
    tell = on_row or (lambda row: None)
    held = default_cache() if cache is True else None if cache is False else cache
    if output is None:
        rows: list[Row] = []
        for _, _, row in made.run(made.pairs(), held):
            rows.append(row)
            tell(row)
        return rows
    with opened(made, Path(output)) as file:
        return fill(made, file, held, tell)


def opened(made: Sweep, path: Path) -> RowFile:
    """The file that a sweep's rows go to. Errors: SweepError for one that holds rows of another sweep."""
    file = RowFile(path)
    try:
        check_resumed(file.rows, made.common, path)
    except BaseException:
        file.close()
        raise
    if old := _older(file.rows, made.common["versions"]):
        warnings.warn(
            f"{path}: {old} of its rows were made with other versions than today's; they stay as they are",
            stacklevel=2,
        )
    return file


def fill(made: Sweep, file: RowFile, cache: Cache | None, on_row: Callable[[Row], None]) -> list[Row]:
    """Make the rows that the file lacks, and give all of the sweep."""
    for _, _, row in made.run(made.todo(list(file.rows)), cache):
        file.append(row)
        file.rows.append(row)
        on_row(row)
    return made.mine(file.rows)


def _graph(graph: Graph | Path | str) -> Graph:
    if not isinstance(graph, str | Path):
        return graph
    from ..yamlfile import load

    return load(graph)


def _older(rows: Sequence[Row], versions: Mapping[str, str]) -> int:
    return sum(row.get("versions", versions) != versions for row in rows)
