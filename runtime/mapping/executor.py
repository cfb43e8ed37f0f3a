"""Items through a graph. The one seam of `map`: tasks come in, what became of them goes out, in their order.

`Serial` runs one item after another. Whatever else runs items (lanes, batches) is an `Executor` too; streams,
rows, resuming and the command do not know the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..cache import Cache
from ..errors import Cancelled
from ..events import Subscriber
from ..graph import Graph
from ..plan import Plan, plan
from ..result import Result
from ..run import execute
from .failure import Failure, Stage, passing
from .tasks import Task

LONGEST = 30.0  # seconds between two tries
TICK = 0.1  # seconds: how soon a stop is noticed while waiting


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How items are run. retries: further tries after an error of disk or network, the first `backoff`
    seconds later, each wait twice the one before. subscribers, cancel: as in `run`.
    """

    device: str = "auto"
    dtype: str = "auto"
    cache: Cache | None = None
    retries: int = 2
    backoff: float = 0.5
    subscribers: Sequence[Subscriber] = ()
    cancel: Callable[[], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a task: a result, or a failure and the error that it was. seconds: all tries."""

    task: Task
    result: Result | None = None
    failure: Failure | None = None
    error: Exception | None = None
    tries: int = 1
    seconds: float = 0.0

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The graph's outputs by name; none after a failure."""
        return {} if self.result is None else self.result.outputs


class Executor(Protocol):
    """Runs tasks. It may take several before it gives the first back, but gives them back in their order."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """What became of each task; tasks that are wrong are handed through.

        Errors: Cancelled and KeyboardInterrupt; those of the tasks are in what it gives.
        """
        ...


@dataclass(frozen=True)
class Serial:
    """One item after another, in the calling thread."""

    graph: Graph
    terms: Terms

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        """What became of each task."""
        for task in tasks:
            if self.terms.cancel is not None and self.terms.cancel():
                raise Cancelled("stopped on request")
            yield refused(task) if task.wrong else self._tried(task)

    def _tried(self, task: Task) -> Done:
        begin, tries, wait = time.perf_counter(), 0, self.terms.backoff
        while True:
            tries += 1
            stage: Stage = "plan"
            try:
                made = planned(self.graph, task, self.terms)
                stage = "run"
                result = execute(made, subscribers=self.terms.subscribers, cancel=self.terms.cancel)
            except Cancelled:
                raise
            except (Exception, SystemExit) as error:
                if tries > self.terms.retries or not passing(error):
                    seconds = time.perf_counter() - begin
                    return failed(task, error, stage, tries, seconds)
            else:
                return Done(task=task, result=result, tries=tries, seconds=time.perf_counter() - begin)
            self._pause(wait)
            wait = min(2 * wait, LONGEST)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.terms.cancel is not None and self.terms.cancel():
                raise Cancelled("stopped on request")
            time.sleep(min(left, TICK))


def planned(graph: Graph, task: Task, terms: Terms) -> Plan:
    """The plan of one item."""
    return plan(graph, task.params, device=terms.device, dtype=terms.dtype, cache=terms.cache)


def refused(task: Task) -> Done:
    """Of a task that cannot be run."""
    failure = Failure(type="MapError", message="\n".join(task.wrong), stage="item")
    return Done(task=task, failure=failure, tries=0)


def failed(task: Task, error: BaseException, stage: Stage, tries: int, seconds: float) -> Done:
    """Of a task that raised. A node that ends the program ends its item."""
    if not isinstance(error, Exception):
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__notes__ = [*getattr(error, "__notes__", ())]
        return failed(task, told.with_traceback(error.__traceback__), stage, tries, seconds)
    failure = Failure.of(error, stage)
    return Done(task=task, failure=failure, error=error, tries=tries, seconds=seconds)
