"""`tokenloom sweep` at the command line: words, files, refusals, stops and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from tokenloom.runtime import registry
from tokenloom.runtime.cli import app
from tokenloom.runtime.commands import sweep as command
from tokenloom.runtime.commands.progress import Progress, duration
from tokenloom.runtime.rows import read_rows

PLUGIN = """
import pathlib, time
from tokenloom import node

@node
def sweep_say(*, text: str = "hello", times: int = 1) -> str:
    \"\"\"A text, several times.\"\"\"
    return text * times

@node
def sweep_wait(text: str, *, grid: tuple[int, ...] = (), slow: bool = False) -> str:
    \"\"\"The same text, noted in a file; later if it is slow.\"\"\"
    with open("runs", "a") as file:
        file.write(text + "\\n")
    if slow and text == "bbb":
        time.sleep(60)
    return text
"""
GRAPH = """
tokenloom: 1
title: Texts
params:
  text: {type: str, help: what to say}
  times: {type: int, default: 1, min: 1}
  grid: {type: list of int, default: [1, 2]}
  slow: {type: bool, default: false}
nodes:
  first: {node: sweep_say, text: $text, times: $times}
  last: {node: sweep_wait, text: $first, grid: $grid, slow: $slow}
outputs: {answer: $last}
"""
DATA = '{"text": "a", "answer": "aa"}\n{"text": "b", "answer": "bb"}\n'
COMMAND = "import sys; from tokenloom.runtime.cli import main; sys.argv[0] = 'tokenloom'; main()"
# a job in the background of a shell ignores SIGINT, and so would its children
TAKES_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a plug-in, a graph and data; a cache of its own, and no traces left."""
    for name, text in (("mine.py", PLUGIN), ("texts.yaml", GRAPH), ("items.jsonl", DATA)):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("TOKENLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry.load_builtin()
    before, loaded = dict(registry._nodes), set(registry._loaded)
    yield tmp_path
    registry._nodes.clear()
    registry._nodes.update(before)
    registry._loaded.clear()
    registry._loaded.update(loaded)


def call(*words: str, graph: str = "texts.yaml") -> Result:
    return CliRunner().invoke(app, ["sweep", graph, "--plugin", "mine.py", *words])


def with_data(*words: str) -> Result:
    return call(*words, "--data", "items.jsonl")


def test_a_grid_makes_rows_and_a_table() -> None:
    """Exit 0; one line per setting, the Pareto front marked, files named."""
    done = with_data("times=1,2,3")
    assert done.exit_code == 0
    assert len(read_rows(Path("texts.sweep.jsonl"))) == 6
    lines = done.stdout.split("\n")
    assert lines[0] == "Texts"
    assert lines[1].split() == ["times", "items", "right", "%", "seconds"]
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["1", "2", "0.0"],
        ["2", "2", "100.0"],
        ["3", "2", "0.0"],
    ]
    assert lines[-2] == "texts.sweep.jsonl written"


def test_all_outputs() -> None:
    """Parquet and a plot with what they were made of, where they were asked for; JSON says it all."""
    from pyarrow import parquet

    done = with_data(
        "times=1,2", "--x", "seconds", "-o", "a.jsonl", "--parquet", "a.parquet", "--plot", "a.png", "--json"
    )
    told = json.loads(done.stdout)
    assert told["files"] == ["a.jsonl", "a.parquet", "a.png"]
    assert [one["accuracy"] for one in told["settings"]] == [0, 100]
    assert told["settings"][1]["pareto"] is True
    assert parquet.read_table("a.parquet").column("params.times").to_pylist() == [1, 2, 1, 2]
    with Image.open("a.png") as picture:
        facts = json.loads(picture.text["tokenloom-sweep"])  # type: ignore[attr-defined]
    assert facts["graph_hash"] == told["graph_hash"]
    assert facts["sweep"] == {"times": ["1", "2"]}
    assert "sweep_say" in facts["graph_yaml"]


def test_again_it_does_nothing_new() -> None:
    """The rows are there; the table is the same."""
    first, again = with_data("times=1,2"), with_data("times=1,2")
    assert again.stdout == first.stdout
    assert again.stderr == "4 of 4 rows are in texts.sweep.jsonl already\n"
    assert len(Path("runs").read_text().split()) == 4


def test_words_are_read_by_what_the_parameter_takes() -> None:
    """Numbers split at commas, lists stand in brackets, texts are one value per word."""
    Path("empty.jsonl").write_text("{}\n")
    done = call("text=a, b", "text=c", "grid=[1,2],[3]", "slow=false", "--data", "empty.jsonl", "--json")
    found = [one["params"] for one in json.loads(done.stdout)["settings"]]
    assert found == [
        {"text": text, "times": 1, "grid": grid, "slow": False}
        for text in ("a, b", "c")
        for grid in ([1, 2], [3])
    ]


def test_a_sweep_file_and_words_that_replace_its_parts() -> None:
    """The command line wins."""
    Path("mine.yaml").write_text(
        "tokenloom: 1\ntitle: Mine\ngraph: texts.yaml\ndata: items.jsonl\nparams: {times: [1, 2, 3]}\n"
        "outputs: {rows: out/rows.jsonl, plot: out/plot.png}\nplot: {x: seconds}\n"
    )
    done = call(graph="mine.yaml")
    assert done.exit_code == 0
    assert done.stdout.startswith("Mine\n")
    assert Path("out/plot.png").stat().st_size
    assert len(read_rows(Path("out/rows.jsonl"))) == 6
    told = json.loads(call("times=2", "-o", "b.jsonl", "--json", graph="mine.yaml").stdout)
    assert (told["rows"], told["files"]) == (2, ["b.jsonl", "out/plot.png"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["time=2"], "params: no parameter is called 'time'; did you mean 'times'?"),
        (["times"], "'times': a parameter is given as name=value or name=value,value"),
        (["times=1,x"], "params.times: 'x' is a str, wanted int 1.."),
        (["times=1,1"], "params.times: 1 is there twice"),
        (["text=c"], "items.jsonl:1: text is a column of the data and a parameter of the sweep; give one"),
        (["--score", "exat"], "score: 'exat' is no rule; did you mean 'exact'?"),
        (["--x", "token"], "--x token: no such figure; did you mean 'tokens'?"),
        (["--plot", "a.gif"], "--plot a.gif: wants a file name that ends in .png, .svg, .pdf"),
        (["-o", "items.jsonl"], "-o items.jsonl: is the file of --data too; choose another"),
        (["--y", "kl"], "--y kl: nothing is compared; say --kl"),
        (
            ["--kl"],
            "--kl: texts.yaml extends no other graph, so nothing says what it would be uncompressed; name "
            "that graph with --base GRAPH",
        ),
    ],
)
def test_mistakes_are_refused_before_work(words: list[str], message: str) -> None:
    """Exit 2, one sentence, no file."""
    done = with_data(*words)
    assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")
    assert not Path("texts.sweep.jsonl").exists()
    assert not Path("runs").exists()


def test_a_plot_needs_something_to_draw() -> None:
    """Known before the first row."""
    Path("items.jsonl").write_text('{"text": "a"}\n')
    assert with_data("--plot", "a.png").stderr == (
        "error: --plot a.png: nothing to draw: the data says no `answer` that is expected; say --kl to draw "
        "how far the first token is from the uncompressed model's\n"
    )
    assert with_data("--y", "accuracy").stderr == (
        "error: --y accuracy: no line of the data has an `answer` that is expected\n"
    )


def test_without_data() -> None:
    """It says what is wanted."""
    assert call("times=1").stderr == (
        "error: sweep: no data; say --data FILE.jsonl, one JSON object of parameters per line\n"
    )


def test_very_many_runs_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused where nobody can answer; --yes, or --limit, or a yes, goes on."""
    monkeypatch.setattr(command, "MANY", 3)
    assert with_data("times=1,2").stderr == (
        "error: sweep: 2 combinations of 2 items are 4 runs; say --yes if that is meant, or --limit N for "
        "the first N items\n"
    )
    assert not Path("texts.sweep.jsonl").exists()
    assert with_data("times=1,2", "--limit", "1").exit_code == 0
    assert with_data("times=1,2", "--yes").exit_code == 0
    monkeypatch.setattr(command, "interactive", lambda: True)
    monkeypatch.setattr(
        typer, "confirm", lambda text, err: text != "2 combinations of 2 items are 4 runs. Go on?"
    )
    assert with_data("times=1,2").exit_code == 1


def test_a_hundred_thousand_combinations_are_counted_quickly() -> None:
    """The question comes before they are made."""
    words = [f"times={','.join(map(str, range(1, 401)))}", *(f"grid=[{i}]" for i in range(250))]
    began = time.monotonic()
    done = with_data(*words)
    assert "100,000 combinations of 2 items are 200,000 runs" in done.stderr
    assert time.monotonic() - began < 20


def test_a_torn_file_is_mended_with_a_word() -> None:
    """The row is made again, and it is said."""
    with_data("times=1,2")
    path = Path("texts.sweep.jsonl")
    path.write_bytes(path.read_bytes()[:-25])
    done = with_data("times=1,2")
    assert done.stderr == (
        "3 of 4 rows are in texts.sweep.jsonl already\n"
        "warning: texts.sweep.jsonl: its last line was cut short; that row is made again\n"
    )
    assert len(read_rows(path)) == 4


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_was_stopped_goes_on(how: signal.Signals, folder: Path) -> None:
    """Ctrl-C: exit 130 and how to go on; after either, finished rows are not made again."""
    words = [
        "sweep",
        "texts.yaml",
        "--plugin",
        "mine.py",
        "times=1,2,3",
        "--data",
        "items.jsonl",
        "--no-cache",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_SIGINT + COMMAND, *words, "--set", "last.slow=true"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    end = time.monotonic() + 60
    while "bbb" not in (Path("runs").read_text() if Path("runs").exists() else ""):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped" in stderr
        assert "5 of 6 rows are in texts.sweep.jsonl; the same command goes on from there" in stderr
    assert len(read_rows(Path("texts.sweep.jsonl"))) == 5
    Path("mine.py").write_text(PLUGIN.replace("sleep(60)", "sleep(0)"))
    Path("runs").unlink()
    assert CliRunner().invoke(app, [*words, "--set", "last.slow=true"]).exit_code == 0
    assert Path("runs").read_text() == "bbb\n"
    assert len(read_rows(Path("texts.sweep.jsonl"))) == 6


def test_progress_says_how_long_it_may_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From what was done now, not from what was there; every ten seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(total=100, done=50, began=0, told=0)
    for now[0] in (6.0, 12.0):
        progress.take({})
    progress.close()
    assert capsys.readouterr().err == "52 of 100 rows, about 4 min 48 s left\n"
    assert [duration(s) for s in (7, 65, 7500)] == ["7 s", "1 min 05 s", "2 h 05 min"]
