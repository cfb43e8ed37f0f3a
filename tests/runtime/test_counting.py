"""What nodes count goes into the report, the events, the tables and the trace."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tokenloom import Graph, node, run
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.commands.run import show_stages
from tokenloom.runtime.console import Console
from tokenloom.runtime.context import count, counting
from tokenloom.runtime.cost import flops_text
from tokenloom.runtime.events import Event, NodeDone
from tokenloom.runtime.report.record import plain
from tokenloom.runtime.trace import ChromeTrace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@node(version=1)
def counting_twice(x: int) -> int:
    """Two reports add up."""
    count(2_000_000)
    count(x)
    return x + 1


@node(version=1)
def counting_nothing(x: int) -> int:
    """It does not say."""
    return x


@node(version=1)
def counting_source() -> int:
    """A number."""
    return 500_000


def graph() -> Graph:
    with Graph() as g:
        g.output(out=counting_nothing(counting_twice(counting_source())))
    return g


def test_reports_of_a_node_add_up() -> None:
    """None for a node that counts nothing, also after one that does."""
    report = run(graph(), cache=False).report
    assert [row.flops for row in report] == [None, 2_500_000, None]


def test_what_is_cached_did_nothing() -> None:
    """A value from the cache costs nothing, whatever it cost once."""
    cache = Cache(None)
    run(graph(), cache=cache)
    assert [row.flops for row in run(graph(), cache=cache).report] == [None]


def test_events_say_it() -> None:
    """Subscribers see what the report has, and so does the trace."""
    events: list[Event] = []
    result = run(graph(), cache=False, subscribers=[events.append])
    done = [event.flops for event in events if isinstance(event, NodeDone)]
    assert done == [row.flops for row in result.report]


def test_the_trace_says_it(tmp_path: Path) -> None:
    """Among the arguments of the event; nothing where nothing was counted."""
    run(graph(), cache=False, subscribers=[ChromeTrace(tmp_path / "trace.json")])
    args = [event["args"] for event in json.loads((tmp_path / "trace.json").read_text())]
    assert [one.get("flops") for one in args] == [None, 2_500_000, None]


def test_the_console_says_it() -> None:
    """After the seconds of the node's line."""
    screen = Terminal()
    run(graph(), cache=False, subscribers=[Console(file=screen)])
    lines = [line for line in screen.getvalue().splitlines() if "✓" in line]
    assert [line.rstrip().endswith(" s  2.5 MFLOP") for line in lines] == [False, True, False]


def test_the_stages_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of their own, blank where nothing was counted, and a total."""
    show_stages(run(graph(), cache=False))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0] == ["stage", "tokens", "FLOPs", "seconds", "memory", "cached"]
    assert lines[2][:3] == ["counting_twice", "2.5", "M"]
    assert lines[-1][:3] == ["total", "2.5", "M"]


def test_plain_data_has_the_number() -> None:
    """`tokenloom run --json`, and the report as a table."""
    result = run(graph(), cache=False)
    assert [stage["flops"] for stage in plain(result)["stages"]] == [None, 2_500_000, None]
    table = result.table()
    assert table.columns[-1] == "flops"
    assert [row[-1] for row in table.rows] == [None, 2_500_000, None]


def test_eager_calls_are_counted_on_request() -> None:
    """Blocks may lie within each other; outside of any, nobody listens."""
    counting_twice(1)
    with counting() as outer:
        counting_twice(1)
        with counting() as inner:
            counting_twice(2)
    with counting() as nothing:
        counting_nothing(1)
    assert (outer.flops, inner.flops, nothing.flops) == (4_000_003, 2_000_002, None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (812, "812"),
        (1234, "1.2 k"),
        (999_900, "1.0 M"),
        (32.62e12, "32.6 T"),
        (1.5e14, "150 T"),
        (2e18, "2000 P"),
    ],
)
def test_flops_for_people(number: float, text: str) -> None:
    """Two or three digits and a unit."""
    assert flops_text(number) == text
