"""Events and their subscribers: console, JSON lines, Chrome trace."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest

from tokenloom.runtime import context
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.console import Console, _left
from tokenloom.runtime.events import (
    Event,
    NodeDone,
    NodeFailed,
    NodeProgress,
    NodeStarted,
    RunDone,
    RunStarted,
)
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.node import node
from tokenloom.runtime.run import run
from tokenloom.runtime.trace import ChromeTrace, JsonLines

from . import engine_nodes as e


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@node
def eng_progress(x: int) -> int:
    for i in range(3):
        context.progress(i + 1, 3, "frames")
    return x


def halves() -> Graph:
    with Graph("two halves") as g:
        kept = g.named("halves", e.eng_halve)(g.named("encode", e.eng_encode)(count=6), keep=2).kept
        g.output(out=eng_progress(e.eng_count(kept)))
    return g


def failing() -> Graph:
    with Graph() as g:
        g.output(out=g.named("bad", e.eng_break)(e.eng_number()))
    return g


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_events_in_order() -> None:
    """A run tells its start, every node's start, progress and end, and its own end."""
    events: list[Event] = []
    run(halves(), cache=False, subscribers=[events.append])
    pair = ["NodeStarted", "NodeDone"]
    last = ["NodeStarted", *["NodeProgress"] * 3, "NodeDone"]
    assert names(events) == ["RunStarted", *pair * 3, *last, "RunDone"]
    done = next(event for event in events if isinstance(event, NodeDone) and event.node == "halves")
    assert (done.tokens_in, dict(done.tokens_out)) == (6, {"kept": 2, "rest": 4})
    progress = next(event for event in events if isinstance(event, NodeProgress))
    assert (progress.node, progress.done, progress.total, progress.text) == ("eng_progress", 1, 3, "frames")


def test_cached_nodes_are_told() -> None:
    """A second run tells what came from the cache and runs nothing."""
    cache, events = Cache(None), list[Event]()
    run(halves(), cache=cache)
    run(halves(), cache=cache, subscribers=[events.append])
    assert names(events) == ["RunStarted", "NodeCached", "RunDone"]


def test_failures_are_told() -> None:
    """A failed node is told with its error and notes, and the run still ends."""
    events: list[Event] = []
    with pytest.raises(ZeroDivisionError):
        run(failing(), cache=Cache(None), subscribers=[events.append])
    assert names(events)[-3:] == ["NodeStarted", "NodeFailed", "RunDone"]
    failed = next(event for event in events if isinstance(event, NodeFailed))
    assert (failed.node, failed.error, failed.message) == ("bad", "ZeroDivisionError", "the bottom is nought")
    assert failed.notes[-1] == "to go on from here: tokenloom.run(graph, from_='bad')"


def test_a_failing_subscriber_is_dropped() -> None:
    """A subscriber that raises gets no more events and does not fail the run."""
    seen: list[Event] = []

    def bad(event: Event) -> None:
        seen.append(event)
        raise OSError("disk full")

    with pytest.warns(UserWarning, match=r"bad failed \(OSError: disk full\) and gets no more events"):
        assert run(halves(), cache=False, subscribers=[bad])["out"] == 2
    assert len(seen) == 1


def test_json_lines(tmp_path: Path) -> None:
    """One JSON object per event and line."""
    path = tmp_path / "events.jsonl"
    run(halves(), cache=False, subscribers=[JsonLines(path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines][:3] == ["RunStarted", "NodeStarted", "NodeDone"]
    assert lines[4] | {"time": 0, "seconds": 0, "peak": 0, "bytes": 0} == {
        "event": "NodeDone",
        "time": 0,
        "node": "halves",
        "type": "eng_halve",
        "seconds": 0,
        "bytes": 0,
        "peak": 0,
        "loading": 0.0,
        "flops": None,
        "tokens_in": 6,
        "tokens_out": {"kept": 2, "rest": 4},
    }


def test_chrome_trace_is_whole_after_every_event(tmp_path: Path) -> None:
    """The trace is valid JSON at any moment, the one after a failure included."""
    path = tmp_path / "trace.json"
    trace = ChromeTrace(path)

    def whole(event: Event) -> None:
        json.loads(path.read_text())

    with pytest.raises(ZeroDivisionError):
        run(failing(), cache=False, subscribers=[trace, whole])
    events = json.loads(path.read_text())
    assert [(one["name"], one["ph"]) for one in events] == [("eng_number", "X"), ("bad", "X")]
    assert events[1]["args"] == {"error": "ZeroDivisionError", "message": "the bottom is nought"}
    assert all(one["dur"] >= 0 and one["ts"] > 0 for one in events)


def test_console_shows_tokens_per_stage() -> None:
    """On a terminal every stage is a line with tokens in and out; a second run marks what was cached."""
    cache, screen = Cache(None), Terminal()
    run(halves(), cache=cache, subscribers=[Console(file=screen)])
    text = screen.getvalue()
    assert "6 -> kept 2, rest 4 tokens" in text
    assert "done in" in text
    assert "4 of 4 nodes run" in text
    screen = Terminal()
    run(halves(), cache=cache, subscribers=[Console(file=screen, verbose=True)])
    assert "cached (memory)" in screen.getvalue()


def test_console_shows_the_failure() -> None:
    """A failed node is a line with its error."""
    screen = Terminal()
    with pytest.raises(ZeroDivisionError):
        run(failing(), cache=False, subscribers=[Console(file=screen)])
    assert "bad  ZeroDivisionError: the bottom is nought" in screen.getvalue()
    assert "stopped in" in screen.getvalue()


@pytest.mark.parametrize(("file", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_console_is_silent(file: io.StringIO, quiet: bool) -> None:
    """Nothing is written where no terminal is, or when quiet."""
    run(halves(), cache=False, subscribers=[Console(file=file, quiet=quiet)])
    assert file.getvalue() == ""


def test_progress_says_what_is_left() -> None:
    """From the mean of what is done; nothing before there is a mean, or when the end is not known."""
    assert _left(3.0, 1, 4) == " (9 s left)"
    assert [_left(3.0, 0, 4), _left(3.0, 4, 4), _left(3.0, 1, None)] == ["", "", ""]


def test_progress_is_shown_on_a_terminal() -> None:
    """The node that works, how far it is, and how long it will take."""
    screen = Terminal()
    console = Console(file=screen)
    console(RunStarted(title="t", run=1, cached=0))
    console(NodeStarted(node="patches", type="encode_vision", lane="gpu"))
    console(NodeProgress(node="patches", type="encode_vision", done=1, total=4, text="tiles"))
    time.sleep(0.3)  # the line is drawn every tenth of a second
    console(RunDone(seconds=1.0, ok=True, peak=0))
    assert re.search(r"patches 1/4 tiles \(\d+ s left\)", screen.getvalue())
