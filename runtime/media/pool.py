"""A few worker processes that decode media for all threads of this one.

    with DecodePool() as pool:
        coming = [pool.submit(path, ReadPicture()) for path in paths]
        pictures = [one.result() for one in coming]  # uint8 [H, W, 3], or the error of that file

A file whose decoder crashes, hangs or is killed costs its own future a DecoderError and the pool a worker,
which is replaced when it is needed. Workers are started when there is work and none is free, and reused.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, Thread, current_thread
from types import TracebackType
from typing import Any, Self, TypeVar

from ..errors import Cancelled, LoomError
from .errors import as_error, died, hung, unstarted
from .process import START, Died, Hung, WorkerProcess
from .requests import Request, packed

T = TypeVar("T")
MOST = 4  # workers, unless more are asked for
TIMEOUT = 60.0  # seconds for one request
NEAR = 32  # tasks that a free worker looks through for one about the file that it has open
LOOK = 0.1  # seconds between two looks at whether the run was cancelled


class DecodePool:
    """See the module. All methods may be called from any thread; the pool belongs to one process."""

    def __init__(self, workers: int | None = None, *, timeout: float = TIMEOUT) -> None:
        """Nothing is started yet. workers: at most so many, by default one per core up to 4; timeout: s."""
        if workers is not None and workers < 1:
            raise ValueError(f"DecodePool: workers is {workers}, wanted 1 or more")
        if not timeout > 0:
            raise ValueError(f"DecodePool: timeout is {timeout}, wanted more than 0 seconds")
        self.timeout = timeout
        self._crew = _Crew(workers or min(MOST, cores()))
        self._finalizer = weakref.finalize(self, self._crew.close)  # at exit, too

    def submit(self, path: Path | str, request: Request[T], *, timeout: float | None = None) -> Future[T]:
        """Have a file read; the future gets the result, or the error that reading it here would raise.

        timeout: seconds for this one. Errors: RuntimeError when the pool is closed or of another process; in
        the future a DecoderError when the decoder crashed, hung or was killed, CancelledError after `close`.
        """
        task: _Task[T] = _Task(Path(path), request, self.timeout if timeout is None else timeout)
        self._crew.take(task)
        return task

    def read(self, path: Path | str, request: Request[T], cancelled: Callable[[], bool] = lambda: False) -> T:
        """`submit`, and wait. Leaving early, by Ctrl-C or because `cancelled` says so, stops the worker.

        Errors: those of `submit`; Cancelled.
        """
        future = self.submit(path, request)
        try:
            while True:
                try:
                    return future.result(LOOK)
                except TimeoutError:
                    if future.done():
                        raise
                    if cancelled():
                        raise Cancelled("stopped on request") from None
        finally:
            self.abandon(future)
            del future  # the error holds this frame

    def abandon(self, future: Future[Any]) -> None:
        """Nobody wants this any more: it is not begun, or its worker is killed. No-op when it is done."""
        self._crew.abandon(future)

    def pids(self) -> list[int]:
        """The process ids of the workers that are up."""
        return self._crew.pids()

    def close(self) -> None:
        """Stop now: what is not done gets a CancelledError, workers are killed. May be called twice."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class _Task(Future[T]):
    """A request on its way. hand: who has begun it."""

    def __init__(self, path: Path, request: Request[T], timeout: float) -> None:
        super().__init__()
        self.path, self.request, self.timeout = path, request, timeout
        self.hand: _Hand | None = None
        self.abandoned = False
        try:
            self.folder: str | None = os.getcwd()
        except OSError:  # deleted
            self.folder = None


class _Crew:
    """What the pool's threads share. It does not know the pool, so that a forgotten pool is closed."""

    def __init__(self, size: int) -> None:
        self.size, self.owner = size, os.getpid()
        self.lock = RLock()  # a finaliser may run inside a section that it guards
        self.hands: list[_Hand] = []
        self.idle: list[_Hand] = []
        self.waiting: deque[_Task[Any]] = deque()
        self.closed = False

    def take(self, task: _Task[Any]) -> None:
        if os.getpid() != self.owner:
            raise RuntimeError(f"this pool belongs to process {self.owner}; make one in this process")
        with self.lock:
            if self.closed:
                raise RuntimeError("the pool is closed")
            hand = next((one for one in self.idle if one.last == task.path), None)
            if hand is not None:
                self.idle.remove(hand)
            elif self.idle:
                hand = self.idle.pop()
            elif len(self.hands) < self.size:
                hand = _Hand(self)
                self.hands.append(hand)
            if hand is None:
                self.waiting.append(task)
            else:
                hand.inbox.put(task)

    def next(self, hand: _Hand) -> None:
        """Give a hand that is done its next task, if there is one."""
        with self.lock:
            if not self.waiting:
                self.idle.append(hand)
                return
            near = min(len(self.waiting), NEAR)
            at = next((i for i in range(near) if self.waiting[i].path == hand.last), 0)
            task = self.waiting[at]
            del self.waiting[at]
            hand.inbox.put(task)

    def abandon(self, future: Future[Any]) -> None:
        assert isinstance(future, _Task)
        if future.cancel() or future.done():
            return
        with self.lock:
            if future.hand is not None:
                future.abandoned = True
                future.hand.kill()

    def pids(self) -> list[int]:
        with self.lock:
            there = [hand.process for hand in self.hands]
        return [process.pid for process in there if process is not None and process.alive]

    def close(self) -> None:
        if os.getpid() != self.owner:
            return  # a fork: these are the parent's
        with self.lock:
            self.closed = True
            for task in self.waiting:
                task.cancel()
            self.waiting.clear()
            for hand in self.hands:
                hand.kill()
                hand.inbox.put(None)
        for hand in self.hands:
            if hand.thread is not current_thread():
                hand.thread.join(1.0)


class _Hand:
    """A thread that starts one worker after another and waits for it; it lives as long as the pool.

    The kernel ends a worker with the thread that started it, so that must not be a thread of the caller.
    """

    def __init__(self, crew: _Crew) -> None:
        self.crew = crew
        self.inbox: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        self.process: WorkerProcess | None = None
        self.last: Path | None = None  # the file that the worker read last
        self.used = False  # it has been asked before
        self.thread = Thread(target=self._work, name="tokenloom-decode", daemon=True)
        self.thread.start()

    def kill(self) -> None:
        """Kill the worker that is up; under the crew's lock."""
        if self.process is not None:
            self.process.kill()

    def _work(self) -> None:
        while (task := self.inbox.get()) is not None:
            if task.set_running_or_notify_cancel():
                self._do(task)
            del task  # while this thread waits, it must not hold what was read
            self.crew.next(self)
        self._dismiss()

    def _do(self, task: _Task[Any]) -> None:
        try:
            with self.crew.lock:
                task.hand = self
            result = self._read(task)
        except BaseException as error:
            told = CancelledError() if self.crew.closed or task.abandoned else error
            if isinstance(told, LoomError):  # it says all; its frames would keep the task, and so itself
                told.__traceback__ = None
            self._over(task)
            task.set_exception(told)
        else:
            self._over(task)
            task.set_result(result)

    def _over(self, task: _Task[Any]) -> None:
        with self.crew.lock:
            task.hand = None

    def _read(self, task: _Task[Any]) -> Any:
        process = self._worker()
        used, self.used, self.last = self.used, True, task.path
        message = {"path": str(task.path), "folder": task.folder, "request": packed(task.request)}
        try:
            answer, error = process.ask(message, task.timeout)
        except Hung:
            self._dismiss()
            raise hung(task.path, task.request.doing(), task.timeout) from None
        except Died as end:
            again = used and not self.crew.closed and not task.abandoned
            self._dismiss()
            if again:  # what came before may have spoilt or ended it: only a fresh one tells
                return self._read(task)
            raise died(task.path, task.request.doing(), end.status) from None
        if error is not None:
            raise as_error(task.path, answer, error)
        return task.request.result(task.path, answer)

    def _worker(self) -> WorkerProcess:
        """A worker that is up: the one there is, or a new one."""
        if self.process is None or not self.process.alive:
            self._dismiss()
            self._start()
        assert self.process is not None
        return self.process

    def _start(self) -> None:
        with self.crew.lock:
            if self.crew.closed:
                raise CancelledError
            self.process = process = WorkerProcess()
        try:
            process.wait_until_up()
        except (Died, Hung) as error:
            self._dismiss()
            raise unstarted(error.status if isinstance(error, Died) else None, START) from None

    def _dismiss(self) -> None:
        """End the worker, if there is one."""
        with self.crew.lock:
            process, self.process = self.process, None
        self.last, self.used = None, False
        if process is not None:
            process.close()
