"""A run that measures: a step that fails takes only what follows it along, weights are loaded before a stage
is timed, and memory is what the stage itself took."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from ..dispatch import Dispatcher
from ..errors import Cancelled
from ..events import Bus, NodeFailed, Subscriber
from ..lanes import Completion, InlineLane, Job, Meter
from ..models.handle import Model
from ..models.pool import loading_seconds
from ..plan import Plan
from ..result import Result

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(
    plan: Plan, subscribers: Iterable[Subscriber] = (), cancel: Callable[[], bool] | None = None
) -> tuple[Result, dict[str, Exception]]:
    """The result of a plan, and the errors of the steps that failed, by id.

    Outputs that depend on these are MISSING. Errors: Cancelled when told to stop.
    """
    run = Measured(plan, Bus(subscribers), cancel)
    return run.run(), run.failed


class Measured(Dispatcher):
    """A dispatcher that goes on with what does not depend on a step that failed."""

    def __init__(self, plan: Plan, bus: Bus, cancel: Callable[[], bool] | None) -> None:
        super().__init__(plan, bus, cancel)
        self.lane = MeasuringLane(self.finished, plan.device)
        self.failed: dict[str, Exception] = {}

    def _finish(self, completion: Completion) -> None:
        try:
            super()._finish(completion)
        except Cancelled:
            raise
        except Exception as error:
            planned = completion.job.planned
            error.add_note(f"in node {planned.where}")
            error.with_traceback(None)  # it would hold on to the tensors of the step
            self.failed[planned.id] = error
            self.running = None
            if self.bus:
                self.bus.emit(
                    NodeFailed(
                        node=planned.id,
                        type=planned.statics.type.name,
                        error=type(error).__name__,
                        message=str(error),
                        notes=tuple(error.__notes__),
                    )
                )

    def _stopped(self, error: BaseException) -> None:
        if self.running is not None:
            error.add_note(f"in node {self.running.where}")


class MeasuringLane(InlineLane):
    """Loads the models that a job needs before its clock and its memory meter are started."""

    def __init__(self, finished: SimpleQueue[Completion], device: str) -> None:
        super().__init__(finished, device)
        if type(self._meter) is Meter and ProcessMeter.works():
            self._meter = ProcessMeter()

    def submit(self, job: Job) -> None:
        """Load, then run the job."""
        before = loading_seconds()
        try:
            for value in job.sockets.values():
                if isinstance(value, Model):
                    value.load()
        except Exception as error:
            loading = loading_seconds() - before
            self._finished.put(Completion(job, None, error, 0.0, 0, loading, None))
            return
        loading = loading_seconds() - before
        super().submit(job)
        if loading:
            done = self._finished.get()
            self._finished.put(done._replace(loading=done.loading + loading))


class ProcessMeter(Meter):
    """Memory of the process (Linux): by how much a job raised the resident size, counted anew for each."""

    def __init__(self) -> None:
        super().__init__()
        self._before = 0

    @staticmethod
    def works() -> bool:
        """Whether the system lets a process forget its highest resident size."""
        try:
            REFS.write_text("5")
        except OSError:
            return False
        return sys.platform == "linux" and bool(_field("VmHWM"))

    def start(self) -> None:
        """Give back what earlier jobs freed, and forget how high memory was."""
        with suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
        REFS.write_text("5")
        self._before = _field("VmRSS")

    def peak(self, seconds: float) -> int:
        """Bytes since `start`."""
        return max(_field("VmHWM") - self._before, 0)


def _field(name: str) -> int:
    """A size in the status of this process, in bytes; 0 where it has none."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0
    found = next((line.split() for line in lines if line.startswith(f"{name}:")), None)
    return int(found[1]) * 1024 if found else 0
