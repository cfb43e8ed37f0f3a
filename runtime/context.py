"""What a node may know about the run it is part of: wishes from downstream, device, dtype, progress, cancel;
and whom it tells how much it computes.

The scheduler sets a `Context` around every call. An eager call has the default one: no planner said what is
wanted, so `wanted()` is None and a node offers what is cheap; `with demand(Need(...))` asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .errors import Cancelled
from .needs import Need

if TYPE_CHECKING:
    from .media.pool import DecodePool


def _ignore(done: int, total: int | None, text: str) -> None:
    return None


def _uncounted(flops: int) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Context:
    """Device and dtype defaults (`"auto"` or torch's names), wishes, and the callbacks.

    wired: while planning, the sockets of the node that something is connected to. decoder: what media are
    read through (`media.front`); a run hands on that of where it was begun.
    """

    device: str = "auto"
    dtype: str = "auto"
    wanted: frozenset[Need] | None = None
    wired: frozenset[str] = frozenset()
    progress: Callable[[int, int | None, str], None] = _ignore
    cancelled: Callable[[], bool] = _never
    count: Callable[[int], None] = _uncounted
    decoder: DecodePool | None = None


_context: ContextVar[Context] = ContextVar("tokenloom_context", default=Context())  # noqa: B039  (frozen)


def current() -> Context:
    """The context of the call that is running."""
    return _context.get()


class use:  # noqa: N801  (a context manager is called like a function)
    """`with use(context):` makes it the current one inside the block."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        self._token = _context.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


@contextmanager
def demand(*needs: Need) -> Iterator[None]:
    """Ask eager calls inside the block for exactly these side channels (a plan does this by itself)."""
    with use(replace(current(), wanted=frozenset(needs))):
        yield


def wanted() -> frozenset[Need] | None:
    """The side channels asked of the running node; None when no planner and no `demand` said anything."""
    return current().wanted


def progress(done: int, total: int | None = None, text: str = "") -> None:
    """Report `done` of `total` (None: unknown) inside a node, and stop here if the run was cancelled."""
    context = current()
    if context.cancelled():
        raise Cancelled("stopped on request")
    context.progress(done, total, text)


def count(flops: int) -> None:
    """Report floating-point operations of the running node, by formula (`runtime.cost`); reports add up."""
    current().count(flops)


class Tally:
    """What was counted; `flops` is None as long as nobody counted anything."""

    __slots__ = ("flops",)

    def __init__(self) -> None:
        self.flops: int | None = None

    def add(self, flops: int) -> None:
        """Take one report."""
        self.flops = flops + (self.flops or 0)


@contextmanager
def counting() -> Iterator[Tally]:
    """`with counting() as tally:` what eager calls inside it count; whoever counts outside sees it too."""
    tally, outer = Tally(), current().count

    def add(flops: int) -> None:
        tally.add(flops)
        outer(flops)

    with use(replace(current(), count=add)):
        yield tally
