"""Runs: results, freeing, cancelling, errors and what they say, output checks, reports."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest

from tokenloom.runtime import context
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import Cancelled, GraphError, WiringError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.node import node
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import execute, run
from tokenloom.runtime.values import Tokens

from . import engine_nodes as e


@pytest.fixture(autouse=True)
def _calls() -> None:
    e.CALLS.clear()


def broken(cache: Cache | None = None) -> Graph:
    with Graph() as g:
        bad = g.param("bad", bool, default=True)
        x = g.named("start", e.eng_number)(start=3)
        g.output(out=g.named("after", e.eng_add)(g.named("middle", e.eng_break)(x, bad=bad)))
    return g


def test_results_by_name() -> None:
    """A result is looked up by its output's name; an unknown one suggests the nearest."""
    with Graph() as g:
        g.output(total=e.eng_sum(e.eng_number(start=2), e.eng_number(start=3)))
    result = run(g, cache=False)
    assert result["total"] == 5
    with pytest.raises(GraphError) as error:
        result["totl"]
    assert str(error.value) == "the run has no output 'totl'; did you mean 'total'?"


def test_without_outputs_every_last_node_is_a_result() -> None:
    """A graph that names no outputs gives those of the nodes nobody takes from."""
    with Graph() as g:
        x = e.eng_number(start=1)
        g.named("left", e.eng_add)(x)
        g.named("right", e.eng_text)(x)
    assert dict(run(g, cache=False).outputs) == {"left": 2, "right": "1"}


def test_named_outputs() -> None:
    """Outputs of a NamedTuple are wired one by one, and a whole one can be a result."""
    with Graph() as g:
        halves = g.named("halves", e.eng_halve)(e.eng_encode(count=5), keep=2)
        g.output(rest=e.eng_count(halves.rest))
    assert run(g, cache=False)["rest"] == 3
    assert len(run(g, cache=False, until="halves")["halves"].kept) == 2


def test_report_rows() -> None:
    """The report has a row per step: tokens in and out, bytes, seconds."""
    with Graph() as g:
        g.output(
            out=g.named("count", e.eng_count)(g.named("halves", e.eng_halve)(e.eng_encode(count=5)).kept)
        )
    report = run(g, cache=False).report
    assert [(row.id, row.tokens) for row in report] == [
        ("eng_encode", "5"),
        ("halves", "5 -> kept 2, rest 3"),
        ("count", "2"),
    ]
    assert report[0].bytes > 5 * 3 * 4
    assert all(row.seconds > 0 and row.peak >= 0 and row.cached == "" for row in report)


def test_error_notes() -> None:
    """A foreign exception keeps its type and gains node, place, inputs and the command that resumes."""
    with pytest.raises(ZeroDivisionError) as error:
        run(broken(), cache=Cache(None))
    here, inputs, again = error.value.__notes__
    assert here.startswith("in node middle (eng_break), ")
    assert here.split(":")[0].endswith("test_run.py")
    assert inputs == "inputs: x: 3"
    assert again == "to go on from here: tokenloom.run(graph, from_='middle')"


def test_error_notes_of_tokens(tmp_path: object) -> None:
    """Inputs are told by class, shape, dtype and device."""

    @node(name="eng_breaks_tokens")
    def breaks(kept: Tokens, *more: Tokens) -> int:
        raise RuntimeError("no")

    with Graph() as g:
        g.at = "x.yaml"
        g.output(out=breaks(e.eng_encode(count=2), e.eng_encode(count=3)))
    with pytest.raises(RuntimeError) as error:
        run(g, cache=Cache(f"{tmp_path}"))
    assert error.value.__notes__[1:] == [
        "inputs: kept: Tokens[2 x 3, float32, cpu], more: (Tokens[3 x 3, float32, cpu])",
        "to go on from here: tokenloom run x.yaml --from eng_breaks_tokens",
    ]


def test_the_resume_command_resumes(tmp_path: object) -> None:
    """After a failure `from_` goes on with the values of the failed run, also in a new process's cache."""
    with pytest.raises(ZeroDivisionError):
        run(broken(), cache=Cache(f"{tmp_path}"))
    e.CALLS.clear()
    result = run(broken(), cache=Cache(f"{tmp_path}"), from_="middle", bad=False)
    assert result["out"] == 4
    assert e.CALLS == ["break", "add 1"]


def test_from_without_cache() -> None:
    """`from_` says what is missing when the cache does not hold what lies before."""
    with pytest.raises(GraphError) as error:
        run(broken(), cache=Cache(None), from_="middle")
    assert str(error.value) == (
        "from: start is not in the cache, and middle goes on from there; run without --from, or from start on"
    )


def test_from_says_what_is_not_put_on_disk(tmp_path: Path) -> None:
    """In a new process, what was large and quick is not there; the message tells that rule and what to do."""
    with pytest.raises(GraphError) as error:
        run(broken(), cache=Cache(tmp_path), from_="middle")
    assert str(error.value) == (
        "from: start is not in the cache, and middle goes on from there; run without --from, or from start "
        "on (if start was made by another process: values of 1 MB and more that took less than 50 ms are put "
        "on disk only when a run fails; making them again is as quick as reading them)"
    )


def test_from_runs_afresh() -> None:
    """`from_` runs its node and what follows even though the cache holds them."""
    cache = Cache(None)
    run(broken(), cache=cache, bad=False)
    e.CALLS.clear()
    run(broken(), cache=cache, bad=False, from_="middle")
    assert e.CALLS == ["break", "add 1"]


def test_wrong_output_type() -> None:
    """A node that returns something else than its annotation says is stopped there."""
    with Graph() as g:
        g.output(out=e.eng_lies(e.eng_number()))
    with pytest.raises(WiringError) as error:
        run(g, cache=False)
    assert str(error.value) == "eng_lies: the node returned int, its annotation says str"


def test_values_are_freed_after_their_last_use() -> None:
    """Without a cache a value is gone as soon as its last taker is done."""
    alive: list[bool] = []
    made: list[weakref.ref[Tokens]] = []

    @node(name="eng_make_watched")
    def make() -> Tokens:
        value = e.tokens()
        made.append(weakref.ref(value))
        return value

    @node(name="eng_watch")
    def watch(x: int) -> int:
        gc.collect()
        alive.append(made[0]() is not None)
        return x

    with Graph() as g:
        g.output(out=watch(e.eng_add(e.eng_count(make()))))
    assert run(g, cache=False)["out"] == 5
    assert alive == [False]


def test_one_output_is_freed_before_the_other() -> None:
    """Each output of a NamedTuple lives as long as it is needed itself."""
    made: list[weakref.ref[Tokens]] = []
    alive: list[bool] = []

    @node(name="eng_watched_halves")
    def halve(tokens: Tokens) -> e.Halves:
        one, other = e.tokens(2), e.tokens(3)
        made.extend((weakref.ref(one), weakref.ref(other)))
        return e.Halves(one, other)

    @node(name="eng_watch_halves")
    def watch(x: int, kept: Tokens) -> int:
        gc.collect()
        alive.extend(ref() is not None for ref in made)
        return x + len(kept)

    with Graph() as g:
        halves = halve(e.eng_encode())
        g.output(out=watch(e.eng_count(halves.rest), halves.kept))
    assert run(g, cache=False)["out"] == 5
    assert alive == [True, False]


def test_cancel_between_nodes() -> None:
    """A run that is told to stop stops before the next node and says how to go on."""
    flag = threading.Event()

    @node(name="eng_sets_flag")
    def sets(x: int) -> int:
        flag.set()
        return x

    with Graph() as g:
        g.output(out=g.named("later", e.eng_add)(sets(e.eng_number(start=1))))
    cache = Cache(None)
    with pytest.raises(Cancelled) as error:
        run(g, cache=cache, cancel=flag)
    assert error.value.__notes__[0].startswith("before node later (eng_add), ")
    assert error.value.__notes__[-1] == "to go on from here: tokenloom.run(graph, from_='later')"
    assert run(g, cache=cache, from_="later")["out"] == 2


def test_cancel_within_a_node() -> None:
    """A node that reports progress is stopped there."""
    steps: list[int] = []

    @node(name="eng_long")
    def long() -> int:
        for i in range(100):
            context.progress(i, 100)
            steps.append(i)
        return 1

    with Graph() as g:
        g.output(out=long())
    with pytest.raises(Cancelled, match="stopped on request"):
        run(g, cache=False, cancel=lambda: len(steps) >= 3)
    assert steps == [0, 1, 2]


def test_ctrl_c_keeps_what_is_done() -> None:
    """Ctrl-C stays KeyboardInterrupt, says how to go on, and what was done is cached."""

    @node(name="eng_interrupted")
    def interrupted(x: int) -> int:
        raise KeyboardInterrupt

    with Graph() as g:
        g.output(out=g.named("slow", interrupted)(e.eng_number(start=4)))
    cache = Cache(None)
    with pytest.raises(KeyboardInterrupt) as error:
        run(g, cache=cache)
    assert error.value.__notes__[-1] == "to go on from here: tokenloom.run(graph, from_='slow')"
    assert plan(g, cache=cache).by_id["eng_number"].state == "memory"


def test_identical_steps_run_once() -> None:
    """Two steps with the same recipe are computed once when there is a cache."""
    with Graph() as g:
        g.output(out=e.eng_sum(e.eng_number(start=8), e.eng_number(start=8)))
    assert run(g, cache=Cache(None))["out"] == 16
    assert e.CALLS == ["number 8", "sum"]


def test_nodes_see_device_and_dtype() -> None:
    """The context of a node names the device and number format of the run, and what is wanted."""
    seen: list[context.Context] = []

    @node(name="eng_sees")
    def sees() -> int:
        seen.append(context.current())
        return 1

    with Graph() as g:
        g.output(out=sees())
    run(g, cache=False, device="cpu", dtype="bf16")
    assert (seen[0].device, seen[0].dtype, seen[0].wanted) == ("cpu", "bfloat16", frozenset())


def test_a_plan_can_be_executed_again() -> None:
    """A plan is a value: executing it twice gives the same."""
    with Graph() as g:
        g.output(out=e.eng_add(e.eng_number()))
    made = plan(g)
    assert execute(made)["out"] == execute(made)["out"] == 1


def test_command_of_a_plan() -> None:
    """The command repeats parameters that differ from their defaults, and `--until`."""
    with Graph() as g:
        text = g.param("question", str, default="what?")
        number = g.param("n", int)
        g.output(out=g.named("x", e.eng_number)(start=number))
        g.param("flag", bool, default=False)
    assert text is not None
    g.at = "graphs/a b.yaml"
    made = plan(g, {"n": 3, "question": "a cat?", "flag": True}, until="x")
    assert made.command() == "tokenloom run 'graphs/a b.yaml' 'question=a cat?' n=3 flag=true --until x"
