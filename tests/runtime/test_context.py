"""The context of a call: wishes, progress, cancel; nothing leaks out of its block."""

from __future__ import annotations

import threading

import pytest

from tokenloom.runtime.context import Context, current, demand, progress, use, wanted
from tokenloom.runtime.errors import Cancelled
from tokenloom.runtime.needs import Need


def test_without_a_planner_nothing_is_known() -> None:
    """An eager call sees None, which is not the empty set."""
    assert wanted() is None
    assert current().device == "auto"


def test_demand_asks_eager_calls_for_channels() -> None:
    """Inside the block exactly these, outside nothing."""
    with demand(Need("keys"), Need("hidden", 3)):
        assert wanted() == {Need("keys"), Need("hidden", 3)}
        with demand():
            assert wanted() == frozenset()
    assert wanted() is None


def test_demand_keeps_the_rest_of_the_context() -> None:
    """Only the wishes change."""
    with use(Context(device="cpu", dtype="float32")), demand(Need("keys")):
        assert (current().device, current().dtype) == ("cpu", "float32")


def test_the_context_is_restored_after_an_error() -> None:
    """A failing node leaves no context behind."""
    with pytest.raises(RuntimeError), use(Context(device="cuda")):
        raise RuntimeError
    assert current().device == "auto"


def test_progress_reaches_the_runner() -> None:
    """done, total and text are passed on."""
    seen: list[tuple[int, int | None, str]] = []
    with use(Context(progress=lambda *args: seen.append(args))):
        progress(2, 5, "tiles")
        progress(3)
    assert seen == [(2, 5, "tiles"), (3, None, "")]


def test_progress_stops_a_cancelled_run() -> None:
    """A node that reports progress is a place to stop."""
    with use(Context(cancelled=lambda: True)), pytest.raises(Cancelled, match=r"^stopped on request$"):
        progress(1, 2)


def test_threads_have_contexts_of_their_own() -> None:
    """A context set here is not seen by another thread."""
    seen: list[str] = []
    with use(Context(device="cuda")):
        thread = threading.Thread(target=lambda: seen.append(current().device))
        thread.start()
        thread.join()
    assert seen == ["auto"]
