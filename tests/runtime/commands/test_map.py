"""`tokenloom map` at the command line: exit codes, what is told, refusals, Ctrl-C."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime import registry
from tokenloom.runtime.cli import app
from tokenloom.runtime.commands.map import ItemProgress, rate_text
from tokenloom.runtime.mapping.job import Tally
from tokenloom.runtime.rows import read_rows

PLUGIN = """
import time
from tokenloom import node

@node
def cmap_say(*, text: str = "hello", times: int = 1) -> str:
    \"\"\"A text, several times; "slow" takes a minute.\"\"\"
    if text == "raise":
        raise ZeroDivisionError("the bottom is nought")
    if text == "slow":
        open("slow", "w").close()
        time.sleep(60)
    return text * times
"""
GRAPH = """
tokenloom: 1
title: Texts
params:
  text: {type: str, help: what to say}
  times: {type: int, default: 1, min: 1}
nodes:
  said: {node: cmap_say, text: $text, times: $times}
outputs: {answer: $said}
"""
COMMAND = "import sys; from tokenloom.runtime.cli import main; sys.argv[0] = 'tokenloom'; main()"
# a job in the background of a shell ignores SIGINT, and so would its children
TAKES_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a plug-in and a graph; no traces left."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "texts.yaml").write_text(GRAPH)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry.load_builtin()
    before, loaded = dict(registry._nodes), set(registry._loaded)
    yield tmp_path
    registry._nodes.clear()
    registry._nodes.update(before)
    registry._loaded.clear()
    registry._loaded.update(loaded)


def call(*words: str, texts: str = "a b") -> Result:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts.split())
    Path("items.jsonl").write_text(lines)
    known = ["map", "texts.yaml", "items.jsonl", "-o", "out", "--plugin", "mine.py"]
    return CliRunner().invoke(app, [*known, *words])


def test_all_fine() -> None:
    """Exit 0, a summary, rows; again, nothing is left to do."""
    done = call("times=2")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("2 items: 2 ok, 0 failed, ")
    assert first.endswith(" s)")
    assert second == "out holds the rows (part-*.jsonl)"
    assert [row["answer"] for row in read_rows(Path("out/part-00000.jsonl"))] == ["aa", "bb"]
    assert call("times=2").stdout.splitlines()[0] == "2 items: 2 ok, 0 failed"
    assert call("times=2", texts="a b c").stderr == "2 of 3 rows are there already\n"


def test_some_failed() -> None:
    """Exit 1, failures by class, and how to run them again."""
    done = call(texts="a raise")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1] == "  1 ZeroDivisionError"
    assert done.stderr == "to run the failed ones again, say --retry-failed\n"
    assert call("--retry-failed", "--json", texts="a raise").exit_code == 1


def test_json_says_it_all() -> None:
    """One object on stdout, nothing on stderr."""
    done = call("--json", texts="a raise")
    told = json.loads(done.stdout)
    assert (told["ok"], told["items"], told["done"], told["failed"]) == (False, 2, 1, 1)
    assert (told["errors"], told["folder"], told["fresh"]) == ({"ZeroDivisionError": 1}, "out", 2)
    assert (told["items_per_second"] > 0, done.stderr) == (True, "")


def test_fail_fast() -> None:
    """Exit 1 with the node's own error, the item, and how far it came."""
    done = call("--fail-fast", texts="a raise b")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ZeroDivisionError: the bottom is nought\n  in node said (cmap_say)")
    assert "  in item '2' (items.jsonl:2); it has no row, and will be run again\n" in done.stderr
    assert "  1 of 3 rows are in out; the same command goes on from there\n" in done.stderr


def test_items_that_are_wrong_are_told_before_work() -> None:
    """A warning with the first of them; with --strict exit 2, and no folder."""
    call()  # writes items
    Path("items.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    words = ["map", "texts.yaml", "items.jsonl", "--plugin", "mine.py"]
    strict = CliRunner().invoke(app, [*words, "-o", "new", "--strict"])
    assert strict.exit_code == 2
    assert strict.stderr.startswith("error: 1 of 2 items cannot be run:\nitems.jsonl:2: no parameter")
    assert not Path("new").exists()
    done = CliRunner().invoke(app, [*words, "-o", "new"])
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "warning: 1 of 2 items cannot be run; their rows will say why (--strict refuses them all before any "
        "work):\n  items.jsonl:2: no parameter of the graph is called 'txt'; did you mean 'text'?\n"
    )


def test_another_map_is_refused() -> None:
    """Exit 2; the rows stay."""
    call("times=2")
    done = call("times=3")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: out: was begun with something else, and its rows would not fit together; choose another "
        "folder, or undo:\n  the parameter times: 2, now 3\n",
    )


def worked(process: subprocess.Popen[str]) -> float:
    """Seconds of CPU that a process has had."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_ctrl_c_ends_at_once_and_goes_on_later() -> None:
    """In the middle of a node that sleeps: exit 130, how far it came, and no row is lost.

    Within two seconds of its own: how long others keep the processor from it is not its fault.
    """
    Path("items.jsonl").write_text('{"text": "a"}\n{"text": "slow"}\n{"text": "b"}\n')
    words = ["map", "texts.yaml", "items.jsonl", "-o", "out", "--plugin", "mine.py"]
    so_far = resource.getrusage(resource.RUSAGE_CHILDREN)
    others = so_far.ru_utime + so_far.ru_stime
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_SIGINT + COMMAND, *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    end = time.monotonic() + 200
    while not Path("slow").exists():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    before = worked(process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=50)  # the node sleeps for longer
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - others - before < 2
    assert process.returncode == 130
    assert stderr.startswith("stopped\n")
    assert "1 of 3 rows are in out; the same command goes on from there" in stderr
    assert [row["answer"] for row in read_rows(Path("out/part-00000.jsonl"))] == ["a"]
    again = CliRunner().invoke(app, [*words, "--limit", "1"])
    assert (again.exit_code, again.stdout.splitlines()[0]) == (0, "1 items: 1 ok, 0 failed")


def test_progress_tells_failures_speed_and_time_left() -> None:
    """The first item, which loads the models, is not in the speed."""
    line = ItemProgress(total=100, done=20, what="items", silent=True, tally=Tally(rows=20), began=0)
    line.fresh, line.first, line.done = 11, 50.0, 31
    line.tally.failed = 3
    assert line.text(60.0) == "31 of 100 items, 3 failed, 1 items/s, about 1 min 09 s left"
    assert [rate_text(rate) for rate in (123.4, 5.25, 0.1)] == ["123 items/s", "5.25 items/s", "10 s/item"]
