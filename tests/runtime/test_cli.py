"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from tokenloom.runtime import registry
from tokenloom.runtime.cli import app
from tokenloom.runtime.version import __version__

ROOT = Path(__file__).parents[2]
IMAGE = f"image={ROOT / 'examples' / 'media' / 'shapes.png'}"
PLUGIN = """
from tokenloom import node
from tokenloom.runtime.context import progress

@node
def test_give(*, text: str = "hello", times: int = 1) -> str:
    \"\"\"A text, several times.

    text: the text.
    times: how often.
    \"\"\"
    return text * times

@node
def test_join(a: str, b: str | None = None) -> str:
    \"\"\"Two texts.\"\"\"
    return a + (b or "!")

@node
def test_fail(a: str, *, how: str = "foreign") -> str:
    \"\"\"Fails.\"\"\"
    if how == "stop":
        raise KeyboardInterrupt
    if how == "exit":
        raise SystemExit(0)
    if how == "loom":
        from tokenloom.runtime.errors import MediaError
        raise MediaError("clip.mp4: no frames; get another")
    raise ZeroDivisionError("division by zero")
"""
GRAPH = """
tokenloom: 1
title: Two texts
params:
  text: {type: str, default: hi, help: what to say}
  count: {type: int, default: 1, min: 1}
nodes:
  first: {node: test_give, text: $text, times: $count}
  both: {node: test_join, a: $first, b: $first}
outputs: {answer: $both}
"""
FAILING = """
tokenloom: 1
params: {how: {type: str, default: foreign}}
nodes:
  first: {node: test_give}
  broken: {node: test_fail, a: $first, how: $how}
outputs: {answer: $broken}
"""
COMMAND = "import sys; from tokenloom.runtime.cli import main; sys.argv[0] = 'tokenloom'; main()"
# a job in the background of a shell ignores SIGINT, and so would its children
TAKES_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
SLOW = """
import pathlib, time
from tokenloom import node

@node
def test_text() -> str:
    \"\"\"A text.\"\"\"
    return "a"

@node
def test_slow(text: str) -> str:
    \"\"\"The same text, much later.\"\"\"
    pathlib.Path("started").touch()
    time.sleep(60)
    return text
"""
SLOW_GRAPH = """
tokenloom: 1
nodes:
  first: {node: test_text}
  slow: {node: test_slow, text: $first}
outputs: {answer: $slow}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a plug-in and two graphs, a cache of its own, and no traces left."""
    for name, text in (("mine.py", PLUGIN), ("two.yaml", GRAPH), ("failing.yaml", FAILING)):
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


def call(*args: str) -> Result:
    return CliRunner().invoke(app, args)


def mine(command: str, graph: str, *args: str) -> Result:
    return call(command, graph, "--plugin", "mine.py", *args)


def command_in_fresh_python(*args: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Below half a second: no torch, no rich, no graph code."""
    code = (
        "import sys\nfrom tokenloom.runtime.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'rich', 'yaml', 'networkx', 'numpy') if m in sys.modules])"
    )
    (tmp_path / "tokenloom").symlink_to(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Run a graph: tokenloom run visionzip image=cat.jpg keep=54." in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    """One line."""
    assert call("--version").output == f"tokenloom {__version__}\n"


@pytest.mark.parametrize(
    "args", [("rnu",), ("run",), ("run", "visionzip", "--devize", "cpu"), ("cache", "lss")]
)
def test_bad_usage_is_exit_code_2(args: tuple[str, ...]) -> None:
    """Unknown commands and options, missing arguments."""
    assert call(*args).exit_code == 2


# -- run -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_visionzip_answers_about_a_picture(folder: Path) -> None:
    """An answer, labelled where weights are random, and the tokens of every stage."""
    done = call("run", "visionzip", IMAGE, "checkpoint=tiny-random", "keep=20", "max_new_tokens=4")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("answer: ")
    assert lines[1] == "(random weights: this text means nothing)"
    (dominant,) = (line for line in lines if line.startswith("dominant"))
    assert re.match(r"dominant +145 -> kept 20, rest 125( |$)", dominant)
    header = next(line for line in lines if line.startswith("stage"))
    assert header.split() == ["stage", "tokens", "FLOPs", "seconds", "memory", "cached"]
    counted = [line.split()[0] for line in lines if re.search(r" [kMGT] ", line)]
    assert counted == ["patches", "visual", "state", "answer", "total"]
    assert "\x1b" not in done.output


def test_results_and_stages_are_printed(folder: Path) -> None:
    """A text is an answer; no label when no model has random weights."""
    done = mine("run", "two.yaml", "text=ab", "count=2")
    assert done.exit_code == 0
    assert done.stdout.startswith("answer: abababab\n\nstage")
    assert done.stdout.splitlines()[-1].startswith("total")


def test_quiet_prints_the_results_alone(folder: Path) -> None:
    """For shell scripts."""
    assert mine("run", "two.yaml", "-q").stdout == "answer: hihi\n"


def test_a_given_parameter_that_nothing_uses_is_told(folder: Path) -> None:
    """A value that changes nothing is mostly a wire that was edited away."""
    (folder / "mine.yaml").write_text(GRAPH.replace("times: $count", "times: 2"))
    assert mine("run", "mine.yaml", "-q").stderr == ""
    told = "warning: params.count: nothing in the graph uses it, so it changes nothing\n"
    assert mine("run", "mine.yaml", "count=3", "-q").stderr == told


def test_json_is_one_object_and_nothing_else(folder: Path) -> None:
    """Outputs by name, one entry per stage."""
    done = mine("run", "two.yaml", "--json", "-v")
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert facts["outputs"] == {"answer": "hihi"}
    assert facts["random_weights"] is False
    assert [stage["node"] for stage in facts["stages"]] == ["first", "both"]
    assert done.stderr == ""


def test_a_second_run_comes_from_the_cache(folder: Path) -> None:
    """Marked in the table, and what was not needed is counted."""
    mine("run", "two.yaml")
    lines = mine("run", "two.yaml").stdout.splitlines()
    assert re.fullmatch(r"both +(memory|disk)", lines[3])
    assert lines[-1] == "1 more was not needed, as what follows it is cached; --no-cache runs all"


def test_no_cache_runs_everything_and_keeps_nothing(folder: Path) -> None:
    """No file appears in the cache folder."""
    for _ in range(2):
        stages = json.loads(mine("run", "two.yaml", "--no-cache", "--json").stdout)["stages"]
        assert [stage["cached"] for stage in stages] == [None, None]
    assert not (folder / "cache").exists()


def test_set_changes_a_setting(folder: Path) -> None:
    """Also one that a parameter was wired to."""
    assert mine("run", "two.yaml", "-q", "--set", "first.text=x", "--set", "first.times=3").stdout == (
        "answer: xxxxxx\n"
    )


def test_until_stops_after_a_node(folder: Path) -> None:
    """Its value is the result."""
    assert mine("run", "two.yaml", "--until", "first", "-q").stdout == "first: hi\n"


def test_from_runs_a_node_again(folder: Path) -> None:
    """What lies before comes from the cache."""
    mine("run", "two.yaml")
    stages = json.loads(mine("run", "two.yaml", "--from", "both", "--json").stdout)["stages"]
    assert [(s["node"], s["cached"] is None) for s in stages] == [("first", False), ("both", True)]


def test_verbose_tells_what_every_node_does(folder: Path) -> None:
    """On stderr, so that stdout stays the results."""
    done = mine("run", "two.yaml", "-v", "-q")
    assert done.stderr == ""
    done = mine("run", "two.yaml", "-v", "--no-cache")
    assert done.stderr.splitlines()[0] == "first (test_give)"


def test_events_and_trace_are_written(folder: Path) -> None:
    """A line of JSON per event; a Chrome trace."""
    done = mine("run", "two.yaml", "--events", "e.jsonl", "--trace", "t.json")
    assert done.exit_code == 0
    events = [json.loads(line) for line in (folder / "e.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events][:: len(events) - 1] == ["RunStarted", "RunDone"]
    assert {one["name"] for one in json.loads((folder / "t.json").read_text())} == {"first", "both"}


@pytest.mark.parametrize("option", ["--events", "--trace"])
def test_a_file_that_cannot_be_written_is_named_before_the_run(folder: Path, option: str) -> None:
    """Nothing runs."""
    done = mine("run", "two.yaml", option, "no/such/file")
    assert done.exit_code == 2
    assert done.stderr == f"error: {option} no/such/file: cannot be written: No such file or directory\n"


BAD_RUNS = {
    ("visionzp",): (
        "visionzp: no such graph file, and no built-in graph is called that; did you mean 'visionzip'?"
    ),
    ("visionzip_next",): (
        "params.checkpoint has no value; wanted str (local folder or hub id of a LLaVA-NeXT, such as "
        "llava-hf/llava-v1.6-vicuna-7b-hf), for model.checkpoint"
    ),
    ("visionzip", "a.jpg"): "'a.jpg': a parameter is given as name=value, such as image=a.jpg",
    ("visionzip", "imge=a.jpg"): "params: no parameter is called 'imge'; did you mean 'image'?",
    ("visionzip", "keep=0"): "params.keep: 0 is below 1",
    ("visionzip", IMAGE, "--set", "dominant.kep=3"): (
        "--set dominant.kep=3: dominant has no setting 'kep'; did you mean 'keep'?"
    ),
    ("visionzip", IMAGE, "--until", "dominnt"): (
        "until: no node is called 'dominnt'; did you mean 'dominant'?"
    ),
    ("visionzip", IMAGE, "--plugin", "no.py"): "--plugin {folder}/no.py: no such file",
}


@pytest.mark.parametrize("args", BAD_RUNS, ids=" ".join)
def test_a_bad_graph_or_value_is_exit_code_2(folder: Path, args: tuple[str, ...]) -> None:
    """One clear message on stderr, no traceback, nothing on stdout."""
    done = call("run", *args)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == f"error: {BAD_RUNS[args].format(folder=folder)}"
    assert "Traceback" not in done.stderr


def test_all_mistakes_of_a_graph_file_are_shown(folder: Path) -> None:
    """With line, column, source and caret."""
    (folder / "bad.yaml").write_text("tokenloom: 1\nnodes:\n  a: {node: test_giv}\n  b: {node: test_join}\n")
    done = mine("run", "bad.yaml")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[:3] == [
        "error: bad.yaml:3:13: a: no node is called 'test_giv'; did you mean 'test_give'?",
        "      a: {node: test_giv}",
        "                ^",
    ]
    assert "bad.yaml:4:3: b: nothing is connected to a (str)" in done.stderr


def test_a_failed_node_is_exit_code_1(folder: Path) -> None:
    """Type and message of the foreign error, the node, and how to go on."""
    done = mine("run", "failing.yaml")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "error: ZeroDivisionError: division by zero"
    assert lines[1] == "  in node broken (test_fail), failing.yaml:6:3"
    assert "Traceback" not in done.stderr
    assert lines[-1] == "(--debug shows where it was raised)"


def test_a_mistake_found_while_running_is_exit_code_1(folder: Path) -> None:
    """The graph was fine, the clip was not."""
    done = mine("run", "failing.yaml", "how=loom")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == "error: clip.mp4: no frames; get another"


def test_ctrl_c_is_exit_code_130(folder: Path) -> None:
    """Says where it stopped."""
    done = mine("run", "failing.yaml", "how=stop")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[:2] == ["stopped", "  in node broken (test_fail), failing.yaml:6:3"]


def test_a_node_that_ends_the_program_is_exit_code_1(folder: Path) -> None:
    """`sys.exit(0)` in a node is a failure of the run, not its end."""
    done = mine("run", "failing.yaml", "how=exit")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[:2] == [
        "error: SystemExit: 0",
        "  in node broken (test_fail), failing.yaml:6:3",
    ]


def test_a_plug_in_that_ends_the_program_is_exit_code_1(folder: Path) -> None:
    """`sys.exit()` at import is named with the file."""
    (folder / "ends.py").write_text("import sys\nsys.exit(3)\n")
    done = call("run", "two.yaml", "--plugin", "ends.py")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[:2] == [
        "error: SystemExit: 3",
        f"  while importing --plugin {folder / 'ends.py'}",
    ]


def test_a_real_interrupt_leaves_nothing_half_written(folder: Path) -> None:
    """SIGINT in the middle of a node: exit code 130, what was done is kept whole, and a resume line."""
    (folder / "slow.py").write_text(SLOW)
    (folder / "slow.yaml").write_text(SLOW_GRAPH)
    command = [sys.executable, "-c", TAKES_SIGINT + COMMAND, "run", "slow.yaml", "--plugin", "slow.py"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + 60
        while not (folder / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    assert err.splitlines()[:2] == ["stopped", "  in node slow (test_slow), slow.yaml:5:3"]
    assert err.splitlines()[-1] == (
        "  to go on from here: tokenloom run slow.yaml --from slow --plugin slow.py"
    )
    assert list((folder / "cache").rglob("*.tmp")) == []
    assert len(list((folder / "cache").rglob("*.safetensors"))) == 1


def test_a_reader_that_leaves_is_no_traceback(folder: Path) -> None:
    """`tokenloom nodes | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode in (0, 1)


def test_the_resume_line_keeps_all_options(folder: Path) -> None:
    """Settings, plug-ins and dtype decide what runs, so they are part of it."""
    done = mine("run", "failing.yaml", "how=loom", "--set", "first.times=2", "--dtype", "float32")
    words = "tokenloom run failing.yaml how=loom --from broken --set first.times=2 --plugin mine.py"
    assert f"  to go on from here: {words} --dtype float32" in done.stderr.splitlines()


def test_debug_shows_the_traceback(folder: Path) -> None:
    """With the line that raised."""
    done = mine("run", "failing.yaml", "--debug")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert 'raise ZeroDivisionError("division by zero")' in done.stderr


def test_a_failure_is_json_too(folder: Path) -> None:
    """stdout holds one object with the error; stderr the message."""
    done = mine("run", "failing.yaml", "--json")
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["ok"]) == (1, False)
    assert facts["error"]["type"] == "ZeroDivisionError"
    assert facts["error"]["notes"][0] == "in node broken (test_fail), failing.yaml:6:3"


# -- looking ---------------------------------------------------------------------------------------------


def test_check_reads_all_builtin_graphs(folder: Path) -> None:
    """One line each; those that have all that they need are planned."""
    done = call("check")
    assert done.exit_code == 0, done.output
    for start in ("visionzip: ok, plans: ", "visionzip_next: ok: "):
        assert any(line.startswith(start) for line in done.stdout.splitlines())


def test_check_plans_when_everything_is_given(folder: Path) -> None:
    """A budget that cannot be met is found without running."""
    assert call("check", "visionzip", IMAGE).stdout.startswith("visionzip: ok, plans: ")
    done = call("check", "visionzip", IMAGE, "keep=9999")
    assert done.exit_code == 2
    assert "9999" in done.stderr


def test_check_names_the_values_that_are_missing(folder: Path) -> None:
    """Once some are given."""
    done = call("check", "visionzip_next", "keep=3")
    assert (done.exit_code, done.stderr) == (2, "error: visionzip_next: no value was given for checkpoint\n")


def test_plan_says_what_would_run(folder: Path) -> None:
    """Afterwards it says what is cached; a changed parameter is named."""
    assert re.search(r"first +test_give +run +never cached", mine("plan", "two.yaml").stdout)
    mine("run", "two.yaml")
    assert re.search(r"both +test_join +cached", mine("plan", "two.yaml").stdout)
    assert "text 'hi' -> 'x'" in mine("plan", "two.yaml", "text=x").stdout


def test_a_plan_is_json_too(folder: Path) -> None:
    """One object: a step per row, with its key and what it waits for; mistakes as of a run."""
    mine("run", "two.yaml")
    facts = json.loads(mine("plan", "two.yaml", "text=x", "--json").stdout)
    assert (facts["ok"], facts["title"], facts["outputs"]) == (True, "Two texts", ["answer"])
    first, both = facts["steps"]
    assert (first["node"], first["state"], first["why"]) == ("first", "run", "text 'hi' -> 'x'")
    assert (both["sources"], both["why"], len(both["key"])) == (["first"], "inputs a, b changed (first)", 32)
    wrong = mine("plan", "two.yaml", "count=0", "--json")
    assert (wrong.exit_code, json.loads(wrong.stdout)["error"]["message"]) == (
        2,
        "params.count: 0 is below 1",
    )


def test_help_shows_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line on a command is cut on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    for words in (("--help",), ("cache", "--help")):
        commands = call(*words).stdout.partition("Commands:")[2]
        assert commands
        assert "..." not in commands


def test_nodes_lists_every_node(folder: Path) -> None:
    """Plug-ins included, with the first sentence."""
    done = call("nodes", "--plugin", "mine.py")
    assert re.search(r"^test_give +A text, several times\.$", done.stdout, re.MULTILINE)
    assert re.search(r"^select_dominant ", done.stdout, re.MULTILINE)


def test_a_node_is_shown_with_inputs_settings_and_outputs(folder: Path) -> None:
    """Types, defaults, needs and help."""
    done = call("nodes", "select_dominant")
    assert re.search(r"^tokens +Tokens +cls_attention when score=cls", done.stdout, re.MULTILINE)
    assert re.search(r"^keep +int 0\.\. or null +null +tokens that stay", done.stdout, re.MULTILINE)
    assert re.search(r"^rest +Tokens, the same as tokens$", done.stdout, re.MULTILINE)


def test_a_default_that_is_only_space_is_quoted(folder: Path) -> None:
    """A newline stays in its line of the table."""
    done = call("nodes", "assemble_hd")
    assert re.search(r"^row +int or str or null +'\\n' +after each row", done.stdout, re.MULTILINE)


def test_a_node_is_shown_with_the_rest_of_its_docstring(folder: Path) -> None:
    """What lies between the first sentence and the help of its settings, which is not said twice."""
    done = call("nodes", "measure_cost")
    assert (
        "\n\nBy formula, no weights are read. Rows `with text` count all that the model computes."
        in done.stdout
    )
    assert done.stdout.count("length of the answer") == 1


def test_an_unknown_node_suggests_the_nearest(folder: Path) -> None:
    """Exit code 2."""
    done = call("nodes", "select_dominnant")
    assert done.exit_code == 2
    assert done.stderr == ("error: no node is called 'select_dominnant'; did you mean 'select_dominant'?\n")


def test_draw_writes_svg_and_mermaid(folder: Path) -> None:
    """By the file's suffix."""
    for name in ("v.svg", "v.mmd", "v.md"):
        assert call("draw", "visionzip", "-o", name).exit_code == 0
    assert ElementTree.parse(folder / "v.svg").getroot().tag.endswith("svg")
    assert (folder / "v.mmd").read_text().startswith("flowchart")
    assert (folder / "v.md").read_text().startswith("```mermaid\nflowchart")


def test_draw_refuses_other_suffixes(folder: Path) -> None:
    """And says which it knows."""
    done = call("draw", "visionzip", "-o", "v.png")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: -o v.png: wants a file name that ends in .svg, .mmd or .md\n",
    )


def test_schema_is_json(folder: Path) -> None:
    """Printed, or written."""
    text = call("schema").stdout
    assert json.loads(text)["type"] == "object"
    assert call("schema", "-o", "s.json").exit_code == 0
    assert (folder / "s.json").read_text() == text


# -- files -----------------------------------------------------------------------------------------------


def test_the_cache_can_be_listed_explained_and_emptied(folder: Path) -> None:
    """By node or by the beginning of a key; `explain` says what changed, with -v all there is."""
    mine("run", "two.yaml", "text=ho")
    time.sleep(0.02)
    mine("run", "two.yaml")
    assert re.search(r"^[0-9a-f]{32} +first +test_give +str ", call("cache", "ls").stdout, re.MULTILINE)
    assert call("cache", "explain", "first").stdout.splitlines()[2:] == ["  text 'ho' -> 'hi'"]
    assert call("cache", "explain", "both").stdout.splitlines()[2:] == ["  inputs a, b changed (first)"]
    assert "  widgets: text = 'hi'\n" in call("cache", "explain", "first", "-v").stdout
    assert call("cache", "rm", "first").stdout == "2 removed\n"
    assert call("cache", "rm", "--all").stdout == "2 removed\n"
    assert len(call("cache", "ls").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("rm",), "cache rm: name keys or nodes, or say --all"),
        (("rm", "x", "--all"), "cache rm: name keys or nodes, or say --all"),
        (("rm", "nope"), "cache rm: no key starts with 'nope' and no node is called so"),
        (("explain", "nope"), "cache explain: no key starts with 'nope' and no node is called so"),
    ],
)
def test_bad_cache_commands(folder: Path, args: tuple[str, ...], message: str) -> None:
    """Nothing is removed by accident."""
    done = call("cache", *args)
    assert (done.exit_code, done.stderr) == (2, f"error: {message}\n")


def test_convert_writes_safetensors(folder: Path) -> None:
    """Progress on stderr, the new folder on stdout; a second time is refused."""
    import torch
    from safetensors.torch import load_file

    torch.save({"weight": torch.ones(2)}, folder / "pytorch_model.bin")
    done = call("convert", "pytorch_model.bin", "out")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out written\n", "1/1 pytorch_model.bin\n")
    assert load_file(folder / "out" / "model.safetensors")["weight"].tolist() == [1, 1]
    again = call("convert", "pytorch_model.bin", "out")
    assert again.exit_code == 1
    assert again.stderr == ("error: out: exists already; convert writes a new folder, choose another name\n")


def test_doctor_is_ready_to_paste(folder: Path) -> None:
    """Versions, devices, decoders and the cache folder; a token is never shown."""
    done = command_in_fresh_python(
        "doctor", cwd=folder, TOKENLOOM_CACHE=str(folder / "cache"), HF_TOKEN="hf_secret"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line[2:].split("  ")[0].strip() for line in done.stdout.splitlines()]
    assert {"tokenloom", "python", "torch", "transformers", "decord", "av", "cache", "nodes"} <= set(names)
    assert "hf_secret" not in done.stdout
    assert done.stdout.splitlines()[-1] == "all is well"


def test_doctor_finds_a_broken_torchvision(folder: Path) -> None:
    """In a process of its own; said with the cure, and exit code 1."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    done = command_in_fresh_python("doctor", cwd=folder, PYTHONPATH=str(folder))
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if "torchvision" in line and line.startswith("!"))
    assert line.endswith(
        "broken: RuntimeError: operator nms does not exist; not needed: pip uninstall torchvision"
    )


def test_python_m_tokenloom_is_the_command_line(tmp_path: Path) -> None:
    """From any folder."""
    (tmp_path / "tokenloom").symlink_to(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "tokenloom", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"tokenloom {__version__}\n"


def test_check_names_parameters_that_nothing_uses(folder: Path) -> None:
    """Giving them would change nothing, and nobody would notice."""
    text = "tokenloom: 1\nextends: visionzip\noutputs: {tokens: $visual}\n"
    text += "nodes: {merged: null, dominant: null, visual: {tokens: $patches}}\n"
    Path("mine.yaml").write_text(text)
    done = call("check", "mine.yaml")
    assert done.stdout == (
        "mine.yaml: ok, plans: 9 nodes; parameters checkpoint, image, question, max_new_tokens, keep, "
        "targets; outputs answer, tokens; nothing uses the parameters keep, targets\n"
    )
