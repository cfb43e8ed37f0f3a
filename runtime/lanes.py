"""Where nodes are executed. A lane takes jobs and reports completions; the dispatcher alone owns all state.

Today one lane works in the calling thread; lanes with threads of their own have the same interface.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from queue import SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from .context import Context, Tally, use
from .errors import WroteIntoInputError
from .models.pool import loading_seconds
from .plan import Planned
from .untouched import stamps, touched


class Job(NamedTuple):
    """One call: the sockets' values by name, and what the node may know of the run."""

    planned: Planned
    sockets: Mapping[str, Any]
    context: Context


class Completion(NamedTuple):
    """How a job ended: a value, or an error; seconds of work; bytes by which memory rose at most.

    loading: seconds that it spent on loading models, not counted in `seconds`. flops: what it counted, None:
    nothing.
    """

    job: Job
    value: Any
    error: BaseException | None
    seconds: float
    peak: int
    loading: float
    flops: int | None


class Lane(Protocol):
    """Takes a job without waiting for it; its completion comes through the queue the lane was made with."""

    def submit(self, job: Job) -> None:
        """Begin, or queue, the job."""

    def count(self, flops: int) -> None:
        """Called from inside the running job: it does so many floating-point operations."""


class InlineLane:
    """Works in the calling thread: a submitted job is complete when `submit` returns."""

    def __init__(self, finished: SimpleQueue[Completion], device: str) -> None:
        self._finished, self._tally = finished, Tally()
        self._meter = CudaMeter(device) if device.startswith("cuda") else Meter()

    def submit(self, job: Job) -> None:
        """Run the job now."""
        planned, sockets, context = job
        self._meter.start()
        self._tally.flops = None
        value, error = None, None
        given = stamps(sockets)
        before, begin = loading_seconds(), perf_counter()
        try:
            with use(context):
                value = planned.statics.type.call(sockets, planned.widgets)
            self._meter.wait()
        except BaseException as caught:  # Ctrl-C too: the dispatcher decides what becomes of it
            error = caught
        if error is None and (socket := touched(given)):
            error = WroteIntoInputError(
                f"{planned.id}: it wrote into its input {socket} in place, which others use too; "
                "let the node work on a copy (.clone())"
            )
        seconds, loading = perf_counter() - begin, loading_seconds() - before
        peak, flops = self._meter.peak(seconds), self._tally.flops
        self._finished.put(Completion(job, value, error, seconds - loading, peak, loading, flops))

    def count(self, flops: int) -> None:
        """Add to what the running job has counted."""
        self._tally.add(flops)


QUICK = 1e-4  # in less, a CPU fills no memory to speak of, and asking the system costs more than a small node


class Meter:
    """Memory of the process: by how much a job raised its highest resident size (0 where unknown)."""

    def __init__(self) -> None:
        self._high = _resident()

    def start(self) -> None:
        """Begin a job."""

    def wait(self) -> None:
        """Wait until the work that was begun is done."""

    def peak(self, seconds: float) -> int:
        """Bytes since `start`; 0 when the job took less than `QUICK` seconds."""
        if seconds < QUICK:
            return 0
        before, self._high = self._high, _resident()
        return self._high - before


class CudaMeter(Meter):
    """Memory of a CUDA device, by torch's allocator; waits for the device, so that seconds are of work."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda, self._device = torch.cuda, torch.device(device)
        self._before = 0

    def start(self) -> None:
        """Begin a job."""
        self._cuda.reset_peak_memory_stats(self._device)
        self._before = self._cuda.memory_allocated(self._device)

    def wait(self) -> None:
        """Wait for the device."""
        self._cuda.synchronize(self._device)

    def peak(self, seconds: float) -> int:
        """Bytes since `start`."""
        return self._cuda.max_memory_allocated(self._device) - self._before


if sys.platform == "win32":

    def _resident() -> int:
        return 0

else:
    import resource

    _UNIT = 1 if sys.platform == "darwin" else 1024

    def _resident() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
