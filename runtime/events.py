"""What happens during a run, as it happens. Subscribers are functions that take an event.

`time` is in seconds since 1970. A subscriber that raises is dropped with a warning; it never fails the run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened now."""

    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run begins. run: steps that will run. cached: steps whose values come from the cache."""

    title: str
    run: int
    cached: int


@dataclass(frozen=True, kw_only=True)
class NodeEvent(Event):
    """Something happened to one node: its id and the name of its type."""

    node: str
    type: str


@dataclass(frozen=True, kw_only=True)
class NodeStarted(NodeEvent):
    """The node begins to work on a lane."""

    lane: str


@dataclass(frozen=True, kw_only=True)
class NodeProgress(NodeEvent):
    """The node has done `done` of `total` (None: unknown)."""

    done: int
    total: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class NodeCached(NodeEvent):
    """The node's value came from the cache: "memory" or "disk"."""

    tier: str
    tokens_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class NodeDone(NodeEvent):
    """The node is done. seconds: of work. bytes: of its value. peak: bytes by which memory rose, at most.

    tokens_in: of all inputs, None when they hold none. tokens_out: by output name ("" for the single one).
    loading: seconds spent before on loading the models that it was the first to use. flops: floating-point
    operations, by formula; None: it does not say.
    """

    seconds: float
    bytes: int
    peak: int
    loading: float = 0.0
    flops: int | None = None
    tokens_in: int | None
    tokens_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class NodeFailed(NodeEvent):
    """The node raised; or was stopped: the error's type, its message, and the notes on it."""

    error: str
    message: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunDone(Event):
    """The run is over. ok: False after a failure or a stop. peak: bytes, the highest of any node."""

    seconds: float
    ok: bool
    peak: int


Subscriber = Callable[[Event], None]


class Bus:
    """Hands events to subscribers. False when there are none, so that nobody makes events for nobody."""

    def __init__(self, subscribers: Iterable[Subscriber]) -> None:
        self._subscribers = list(subscribers)

    def __bool__(self) -> bool:
        return bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Give the event to everyone; who fails is dropped with a warning."""
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            except Exception as error:
                self._subscribers.remove(subscriber)
                name = getattr(subscriber, "__qualname__", type(subscriber).__qualname__)
                text = f"event subscriber {name} failed ({type(error).__name__}: {error})"
                warnings.warn(f"{text} and gets no more events", stacklevel=2)
