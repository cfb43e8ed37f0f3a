"""Subscribers that write files: JSON lines, and a trace for chrome://tracing or Perfetto."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from .events import Event, NodeCached, NodeDone, NodeFailed, NodeStarted, RunDone


def record(event: Event) -> dict[str, Any]:
    """An event as JSON: its fields, and its class as `event`."""
    fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    return {"event": type(event).__name__} | {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()
    }


class JsonLines:
    """One JSON object per event and line, flushed at once. Appends to a file, or writes to an open one."""

    def __init__(self, file: Path | str | TextIO) -> None:
        self._file = open(file, "a", encoding="utf-8") if isinstance(file, Path | str) else file  # noqa: SIM115
        self._own = isinstance(file, Path | str)

    def __call__(self, event: Event) -> None:
        """Write one event; the run's last one closes a file that was opened here."""
        self._file.write(json.dumps(record(event)) + "\n")
        self._file.flush()
        if self._own and isinstance(event, RunDone):
            self._file.close()


class ChromeTrace:
    """A JSON array of trace events; whole after every event, so also after a failure.

    Every write puts the closing bracket down, and the next one writes over it.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115  (closed by the last event)
        self._file.write("[")
        self._end = self._file.tell()
        self._first = True
        self._open: dict[str, NodeStarted] = {}
        self._file.write("]\n")
        self._file.flush()

    def __call__(self, event: Event) -> None:
        """Add one event; the run's last one closes the file."""
        if isinstance(event, NodeStarted):
            self._open[event.node] = event
        elif isinstance(event, NodeDone):
            started = self._open.pop(event.node, None)
            whole = event.seconds + event.loading
            begin = event.time - whole if started is None else started.time
            args: dict[str, Any] = {"bytes": event.bytes, "peak": event.peak, "tokens in": event.tokens_in}
            args |= {"loading": event.loading} if event.loading else {}
            args |= {"flops": event.flops} if event.flops is not None else {}
            args |= {f"tokens {name or 'out'}": count for name, count in event.tokens_out.items()}
            self._add(event.node, "X", begin, started, args, dur=whole * 1e6)
        elif isinstance(event, NodeFailed):
            started = self._open.pop(event.node, None)
            begin = event.time if started is None else started.time
            args = {"error": event.error, "message": event.message}
            self._add(event.node, "X", begin, started, args, dur=(event.time - begin) * 1e6, cname="terrible")
        elif isinstance(event, NodeCached):
            self._add(event.node, "i", event.time, None, {"cached": event.tier}, s="t")
        elif isinstance(event, RunDone):
            self._file.close()

    def _add(
        self, name: str, phase: str, at: float, started: NodeStarted | None, args: dict[str, Any], **more: Any
    ) -> None:
        lane = "cpu" if started is None else started.lane
        one = {"name": name, "ph": phase, "ts": at * 1e6, "pid": 1, "tid": lane, "args": args, **more}
        self._file.seek(self._end)
        self._file.write(("\n" if self._first else ",\n") + json.dumps(one))
        self._first = False
        self._end = self._file.tell()
        self._file.write("\n]\n")
        self._file.flush()
