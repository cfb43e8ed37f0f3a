"""A map: checked as far as can be before any work, then item by item; rows that are there are not redone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..binding import Values, results
from ..errors import MapError, did_you_mean
from ..graph import Graph
from ..plan import Plan
from ..rows import Row, read_rows
from .executor import Done, Executor, Serial, Terms, planned
from .failure import Failure, lost_device
from .folder import Folder, parts
from .manifest import check_resumed, manifest_of
from .record import recorded, row_of
from .tasks import Data, Survey, Task, survey, tasks, unlike

HEAD = 100  # items that may be wrong before anything that is wrong with all of them is suspected


@dataclass(frozen=True, kw_only=True)
class Options:
    """How items are mapped. strict: nothing is run if any item is wrong. fail_fast: the first item that fails
    stops the rest, and has no row. retry_failed: make the rows of failures again. save: outputs of which
    pictures and tensors are saved as files. limit: the first items only.
    """

    strict: bool = False
    fail_fast: bool = False
    retry_failed: bool = False
    save: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """What became of one item: outputs by name, or a failure; and its row."""

    index: int
    id: str
    outputs: Mapping[str, Any]
    failure: Failure | None
    row: Row


@dataclass
class Tally:
    """Rows: all that are there, those that failed, and those made now. errors: failures by class."""

    rows: int = 0
    failed: int = 0
    fresh: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])

    def add(self, row: Row, *, fresh: bool = False) -> None:
        """Count a row."""
        self.rows += 1
        self.fresh += fresh
        if "error" in row:
            self.failed += 1
            self.errors[str(row["error"]["type"])] += 1

    def take_off(self, row: Row) -> None:
        """Count a row no longer: another takes its place."""
        self.rows -= 1
        if "error" in row:
            self.failed -= 1
            self.errors -= Counter([str(row["error"]["type"])])


@dataclass(frozen=True, kw_only=True)
class Job:
    """A checked map. found: what looking through the items told; None for an iterator. manifest: what all
    rows are made of. stream: the items from the first one on; of an iterator, once.
    """

    graph: Graph
    options: Options
    terms: Terms
    found: Survey | None
    manifest: Mapping[str, Any]
    stream: Callable[[], Iterator[Task]]

    @classmethod
    def of(cls, graph: Graph, data: Data, common: Mapping[str, Any], options: Options, terms: Terms) -> Job:
        """A map whose graph, parameters and items fit together. common: parameters for items that give none.

        Errors: GraphError and WiringError for the graph and the parameters; MapError for data that cannot be
        read, ids that are there twice, items that are all wrong, or with `strict` any that is; whatever a
        node foresees for each of the first items.
        """
        graph.check()
        known = Values(graph, common).known
        common = {name: known[name] for name in common}
        names = results(graph, None, None)
        for name in options.save:
            if name not in names:
                raise MapError(f"save: the graph has no output {name!r}{did_you_mean(name, names)}")
        found = survey(graph, data, common, options.limit)
        _check_survey(found, common, options)
        whole = partial(tasks, graph, data, common, options.limit)
        stream, head = (whole, whole()) if found is not None else _once(unlike(whole()))
        made, task = _first(graph, islice(head, HEAD), terms)
        manifest = manifest_of(made, common, task.given, options.save)
        return cls(graph=graph, options=options, terms=terms, found=found, manifest=manifest, stream=stream)

    def begin(self, folder: Folder, tally: Tally) -> Iterator[Task]:
        """Check that a folder is this map's, count its rows, and give the items that have none.

        Errors: MapError for a folder of another map; RowsError.
        """
        old = folder.manifest()
        if old is not None:
            check_resumed(old, self.manifest, folder.path)
        folder.begin(self.manifest)
        for row in folder.rows():
            tally.add(row)
        return self._left(folder, tally)

    def run(
        self,
        todo: Iterable[Task],
        folder: Folder | None = None,
        tally: Tally | None = None,
        executor: Executor | None = None,
    ) -> Iterator[Mapped]:
        """What becomes of every task, in order; with a folder, once it has the row.

        todo: `stream()`, or what `begin` gives for a folder. tally: counts rows. executor: by default one
        item after another.
        Errors: MapError and RowsError for a disk that takes no more; with `fail_fast` what an item raises.
        """
        tally = tally or Tally()
        for done in (executor or Serial(self.graph, self.terms)).run(todo):
            if done.failure is not None and self.options.fail_fast:
                raise _raised(done)
            yield self._taken(done, folder, tally)
            if done.error is not None and lost_device(done.error):
                raise MapError(
                    "the accelerator cannot be used any more by this process; the same call goes on with the "
                    "items that are left"
                ) from done.error
            del done  # an item's values go before the next item's come

    def _taken(self, done: Done, folder: Folder | None, tally: Tally) -> Mapped:
        if folder is None:
            row = row_of(done)
        else:
            done, row = recorded(done, folder, self.options.save)
            if done.failure is not None and self.options.fail_fast:
                raise _raised(done)
            folder.put(row)
        tally.add(row, fresh=True)
        return Mapped(
            index=done.task.index, id=done.task.id, outputs=done.outputs, failure=done.failure, row=row
        )

    def _left(self, folder: Folder, tally: Tally) -> Iterator[Task]:
        """Rows and items side by side; the items of failures if asked for, then those beyond the rows."""
        stream = self.stream()
        for row in folder.rows():
            task = next(stream, None)
            if task is None:
                if self.options.limit is not None:
                    return
                raise MapError(f"{folder.path}: holds more rows than there are items ({tally.rows})")
            again = "error" in row and self.options.retry_failed
            if not again and (row["id"], row.get("digest")) != (task.id, task.digest):
                hint = "; to run failures again, say retry_failed (--retry-failed)" if "error" in row else ""
                raise MapError(
                    f"{task.where}: is not the item {row['id']!r} that row {task.index} of {folder.path} was "
                    f"made of; items may be added at the end only: choose another folder{hint}"
                )
            if again:
                tally.take_off(row)
                yield task
        yield from stream


def _check_survey(found: Survey | None, common: Mapping[str, Any], options: Options) -> None:
    if found is None:
        return
    if found.wrong == found.total or (found.wrong and options.strict):
        more = found.wrong - len(found.told)
        text = "\n".join(found.told) + (f"\nand {more} more" if more > 0 else "")
        raise MapError(f"{found.wrong} of {found.total} items cannot be run:\n{text}")
    if useless := [name for name in common if name in found.alike]:
        raise MapError(f"params.{useless[0]}: every item gives it, so the common value would change nothing")


def _once(stream: Iterator[Task]) -> tuple[Callable[[], Iterator[Task]], Iterator[Task]]:
    """Of tasks that come only once: all of them, and a look at the first ones before."""
    seen: deque[Task] = deque()

    def look() -> Iterator[Task]:
        for task in stream:
            seen.append(task)
            yield task

    def whole() -> Iterator[Task]:
        while seen:
            yield seen.popleft()
        yield from stream

    return whole, look()


def _first(graph: Graph, head: Iterable[Task], terms: Terms) -> tuple[Plan, Task]:
    """The first item that can be planned, and its plan. Errors: MapError and what planning raises, when it is
    none.
    """
    first: Exception | None = None
    number = 0
    for number, task in enumerate(head, start=1):  # noqa: B007  (counts)
        try:
            if task.wrong:
                raise MapError("\n".join(task.wrong))
            return planned(graph, task, terms), task
        except Exception as error:
            first = first or error
    if first is None:
        raise MapError("items: holds no items; wanted at least one")
    if number > 1:
        first.add_note(f"so it is with the first item, and none of the first {number} can be planned")
    raise first


def _raised(done: Done) -> Exception:
    """The error of an item, saying which it is."""
    task = done.task
    error = done.error or MapError("\n".join(task.wrong))
    error.add_note(f"in item {task.id!r} ({task.where}); it has no row, and will be run again")
    return error


def rows_of(folder: Path) -> Iterator[Row]:
    """The rows of a map's folder, in order, a part in memory at a time. Errors: RowsError."""
    for path in parts(folder):
        yield from read_rows(path)
