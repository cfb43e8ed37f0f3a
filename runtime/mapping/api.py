"""`tokenloom.map` and `Graph.map`: one graph over many items, from Python; the command does the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..cache import Cache, default_cache
from ..events import Subscriber
from ..rows import Row
from .executor import Terms
from .folder import Folder
from .job import Job, Options, Tally, rows_of
from .job import Mapped as Mapped
from .tasks import Task

if TYPE_CHECKING:
    from ..graph import Graph

Items = Path | str | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a map into a folder ended. total: rows that are there; fresh: those made now, in `seconds`.

    errors: failures by class.
    """

    folder: Path
    total: int
    failed: int
    fresh: int
    seconds: float
    errors: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def ok(self) -> int:
        """Rows without an error."""
        return self.total - self.failed

    @property
    def rate(self) -> float:
        """Items a second, of those that were run now."""
        return self.fresh / self.seconds if self.seconds else 0.0

    def rows(self) -> Iterator[Row]:
        """All rows in the order of the items, read from the folder as they are asked for."""
        return rows_of(self.folder)


@overload
def map(
    graph: Graph | Path | str,
    items: Items,
    /,
    *,
    output: None = None,
    strict: bool = ...,
    fail_fast: bool = ...,
    retries: int = ...,
    backoff: float = ...,
    limit: int | None = ...,
    device: str = ...,
    dtype: str = ...,
    cache: Cache | bool = ...,
    subscribers: Iterable[Subscriber] = ...,
    cancel: Callable[[], bool] | None = ...,
    **params: Any,
) -> Iterator[Mapped]: ...
@overload
def map(
    graph: Graph | Path | str,
    items: Items,
    /,
    *,
    output: Path | str,
    save: Collection[str] = ...,
    strict: bool = ...,
    fail_fast: bool = ...,
    retry_failed: bool = ...,
    retries: int = ...,
    backoff: float = ...,
    limit: int | None = ...,
    device: str = ...,
    dtype: str = ...,
    cache: Cache | bool = ...,
    on_row: Callable[[Row], None] | None = ...,
    subscribers: Iterable[Subscriber] = ...,
    cancel: Callable[[], bool] | None = ...,
    **params: Any,
) -> Summary: ...
def map(
    graph: Graph | Path | str,
    items: Items,
    /,
    *,
    output: Path | str | None = None,
    save: Collection[str] = (),
    strict: bool = False,
    fail_fast: bool = False,
    retry_failed: bool = False,
    retries: int = 2,
    backoff: float = 0.5,
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    cache: Cache | bool = False,
    on_row: Callable[[Row], None] | None = None,
    subscribers: Iterable[Subscriber] = (),
    cancel: Callable[[], bool] | None = None,
    **params: Any,
) -> Iterator[Mapped] | Summary:
    """Run a graph for every item: without `output` a result for each as one iterates, else rows in a folder.

    items: a JSON lines file of any length, or mappings, of parameters and `id`, `answer`, `kind`; params: for
    items that do not give them. output: a folder; rows that it has already are not made again. An item that
    fails does not stop the rest: its row, or `failure`, says why. strict: refuse all items when any is wrong.
    fail_fast: stop at the first failure. retry_failed: make the rows of failures again. retries: after errors
    of disk and network, the first `backoff` seconds later. save: outputs whose pictures and tensors are saved
    as files. cache: whether values are looked up and kept beyond their item. on_row: called with every new
    row. subscribers, cancel: as in `run`.
    Errors: MapError before any work, for items that are all wrong, doubled ids, or a folder of another map.
    """
    if isinstance(graph, str | Path):
        from ..yamlfile import load

        graph = load(graph)
    terms = Terms(
        device=device,
        dtype=dtype,
        cache=default_cache() if cache is True else None if cache is False else cache,
        retries=retries,
        backoff=backoff,
        subscribers=tuple(subscribers),
        cancel=cancel,
    )
    options = Options(
        strict=strict, fail_fast=fail_fast, retry_failed=retry_failed, save=tuple(save), limit=limit
    )
    if output is None:
        job = Job.of(graph, items, params, options, terms)
        return job.run(job.stream())
    with Folder(Path(output)) as folder:
        job = Job.of(graph, items, params, options, terms)
        tally = Tally()
        return fill(job, job.begin(folder, tally), folder, tally, on_row or (lambda row: None))


def fill(
    job: Job, todo: Iterable[Task], folder: Folder, tally: Tally, on_row: Callable[[Row], None]
) -> Summary:
    """Make the rows of the items that `job.begin` gave."""
    began = time.perf_counter()
    for mapped in job.run(todo, folder, tally):
        on_row(mapped.row)
        del mapped  # before the next item's values come
    return Summary(
        folder=folder.path,
        total=tally.rows,
        failed=tally.failed,
        fresh=tally.fresh,
        seconds=time.perf_counter() - began,
        errors=dict(Counter(tally.errors).most_common()),
    )
