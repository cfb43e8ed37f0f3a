"""Sweeps: what runs and what comes from the cache, rows, resuming, what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenloom import Graph, sweep
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import BudgetError, Cancelled, SweepError
from tokenloom.runtime.node import node
from tokenloom.runtime.rows import read_rows
from tokenloom.runtime.sweep.sweep import Options

from .. import engine_nodes as e
from .toy import DATA, Counts, lines, refused, toy


def values(rows: list[dict[str, Any]], name: str = "answer") -> list[Any]:
    return [row[name] for row in rows]


def test_a_row_for_every_item_and_combination() -> None:
    """Item by item, the parameter that is used last varying fastest, whatever the order given."""
    rows = sweep(toy(), {"late": [0, 2], "early": [10, 20]}, DATA, cache=False)
    assert values(rows) == ["11", "13", "21", "23", "12", "14", "22", "24"]
    assert values(rows, "item") == ["one"] * 4 + ["2"] * 4
    assert values(rows, "correct") == [False, True, False, False, False, True, False, False]
    assert [row["params"] for row in rows[:2]] == [{"early": 10, "late": 0}, {"early": 10, "late": 2}]


def test_a_row_says_all_that_it_is_made_of() -> None:
    """Parameters with their defaults, inputs, expectation, stages, hashes and versions."""
    row = sweep(toy(), {"late": 5}, DATA[:1], cache=False)[0]
    assert row["params"] == {"early": 10, "late": 5}
    assert row["inputs"] == {"start": 1}
    assert (row["kind"], row["expected"], row["score"]) == ("sum", ["13"], "exact")
    assert row["stages"].keys() == {"number", "first", "last", "text"}
    assert row["seconds"] == pytest.approx(sum(stage["seconds"] for stage in row["stages"].values()))
    assert (row["graph"], row["device"], row["dtype"]) == ("toy", "cpu", "float32")
    assert len(row["graph_hash"]) == len(row["data_hash"]) == 16
    assert row["versions"].keys() >= {"tokenloom", "torch", "transformers", "python"}
    assert row["kl"] is row["base_hash"] is None
    json.dumps(row)


def test_a_late_parameter_reruns_only_late_stages() -> None:
    """Early stages run once per item, and once per value of an early parameter; events tell."""
    counts = Counts()
    sweep(toy(), {"late": [0, 1, 2, 3]}, DATA, cache=Cache(None), subscribers=[counts])
    assert counts.done == {"number": 2, "first": 2, "last": 8, "text": 8}
    counts = Counts()
    sweep(toy(), {"late": [0, 1, 2], "early": [1, 2]}, DATA, cache=Cache(None), subscribers=[counts])
    assert counts.done == {"number": 2, "first": 4, "last": 12, "text": 12}


def test_stages_from_the_cache_have_their_cost(tmp_path: Path) -> None:
    """What a stage took when it was done is told with every row, in the next process, too."""
    first = sweep(toy(), {"late": [0, 1]}, DATA[:1], cache=Cache(tmp_path))
    assert first[1]["stages"]["first"] == first[0]["stages"]["first"]
    counts = Counts()
    second = sweep(toy(), {"late": [0, 1]}, DATA[:1], cache=Cache(tmp_path), subscribers=[counts])
    assert not counts.done
    assert values(second, "stages") == values(first, "stages")


def test_what_another_program_cached_is_measured_again(tmp_path: Path) -> None:
    """Its cost is not known; the answer is the same."""
    rows = sweep(toy(), {}, DATA[:1], cache=Cache(tmp_path))
    (tmp_path / "costs.jsonl").unlink()
    counts = Counts()
    again = sweep(toy(), {}, DATA[:1], cache=Cache(tmp_path), subscribers=[counts])
    assert counts.done == {"number": 1, "first": 1, "last": 1, "text": 1}
    assert values(again) == values(rows)


# -- resuming -----------------------------------------------------------------------------------------------


def test_finished_rows_are_not_made_again(tmp_path: Path) -> None:
    """Stopped after three of four rows: the fourth alone is made, and all four come back in order."""
    out, made = tmp_path / "rows.jsonl", list[dict[str, Any]]()

    def stop_after_three(row: dict[str, Any]) -> None:
        made.append(row)
        if len(made) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(toy(), {"late": [0, 2]}, DATA, output=out, cache=False, on_row=stop_after_three)
    assert len(read_rows(out)) == 3
    counts = Counts()
    rows = sweep(toy(), {"late": [0, 2]}, DATA, output=out, cache=False, subscribers=[counts])
    assert counts.done == {"number": 1, "first": 1, "last": 1, "text": 1}
    assert values(rows) == ["11", "13", "12", "14"]
    assert read_rows(out) == rows


def test_more_values_add_rows_to_the_file(tmp_path: Path) -> None:
    """A parameter that had its default before is the same as one that is given with that value."""
    out = tmp_path / "rows.jsonl"
    sweep(toy(), {}, DATA, output=out, cache=False)
    counts = Counts()
    rows = sweep(toy(), {"late": [2, 3]}, DATA, output=out, cache=False, subscribers=[counts])
    assert counts.done["text"] == 2
    assert values(rows) == ["13", "14", "14", "15"]


def test_a_torn_row_is_made_again(tmp_path: Path) -> None:
    """As a kill in the middle of writing leaves it."""
    out = tmp_path / "rows.jsonl"
    sweep(toy(), {}, DATA, output=out, cache=False)
    out.write_bytes(out.read_bytes()[:-40])
    counts = Counts()
    rows = sweep(toy(), {}, DATA, output=out, cache=False, subscribers=[counts])
    assert counts.done["text"] == 1
    assert values(read_rows(out)) == values(rows) == ["13", "14"]


@pytest.mark.parametrize("what", ["graph", "data", "score", "dtype"])
def test_rows_of_another_sweep_are_refused(what: str, tmp_path: Path) -> None:
    """Nothing is added to them, and the error names both hashes."""
    out = tmp_path / "rows.jsonl"
    old = sweep(toy(), {}, DATA, output=out, cache=False)[0]
    graph, data = toy(), [*DATA]
    options: dict[str, Any] = {}
    if what == "graph":
        graph.connect("number", "last.x")
    elif what == "data":
        data.append({"start": 3})
    else:
        options = {"score": "contains"} if what == "score" else {"dtype": "bfloat16"}
    before = out.read_bytes()
    with pytest.raises(SweepError) as error:
        sweep(graph, {}, data, output=out, cache=False, **options)
    name = {"graph": "graph_hash", "data": "data_hash"}.get(what, what)
    assert str(error.value).startswith(f"{out}: holds rows of another {what} ({old[name]}, this sweep's is ")
    assert str(error.value).endswith("); choose another file with -o, or remove it")
    assert out.read_bytes() == before


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    """JSON lines may be anything."""
    out = lines(tmp_path / "rows.jsonl", '{"question": "What?"}')
    with pytest.raises(SweepError) as error:
        sweep(toy(), {}, DATA, output=out, cache=False)
    assert str(error.value) == f"{out}:1: is no row of a sweep; choose another file with -o"


def test_rows_of_other_versions_are_kept_with_a_warning(tmp_path: Path) -> None:
    """They are not made again, but it is said."""
    out = tmp_path / "rows.jsonl"
    row = sweep(toy(), {}, DATA[:1], output=out, cache=False)[0]
    out.write_text(json.dumps({**row, "versions": {"torch": "1.0"}}) + "\n")
    with pytest.warns(UserWarning, match="1 of its rows were made with other versions than today's"):
        assert len(sweep(toy(), {}, DATA[:1], output=out, cache=False)) == 1


# -- failures -----------------------------------------------------------------------------------------------


def _foresee(*, start: int, most: int) -> None:
    if start > most:
        raise BudgetError(f"capped: {start} is more than {most}")


@node(foresee=_foresee)
def capped(*, start: int, most: int) -> int:
    """A number that may not be too large."""
    return start


def fragile() -> Graph:
    with Graph("fragile") as g:
        number = e.eng_number(start=g.param("start", int))
        g.output(answer=e.eng_text(e.eng_break(number, bad=g.param("bad", bool, default=False))))
    return g


def test_a_failure_stops_and_says_which_row() -> None:
    """The error keeps its type."""
    with pytest.raises(ZeroDivisionError) as error:
        sweep(fragile(), {"bad": [False, True]}, DATA[:1], cache=False)
    assert error.value.__notes__[-1] == (
        "in the row of data[0] bad=true; --keep-going notes it in its row and goes on"
    )


def test_keep_going_notes_the_error_and_tries_again_next_time(tmp_path: Path) -> None:
    """The other rows are made; a row with an error is not finished."""
    out = tmp_path / "rows.jsonl"
    rows = sweep(fragile(), {"bad": [True, False]}, DATA[:1], output=out, cache=False, keep_going=True)
    assert rows[0]["error"] == "ZeroDivisionError: the bottom is nought"
    assert rows[1]["answer"] == "1"
    e.CALLS.clear()
    sweep(fragile(), {"bad": [True, False]}, DATA[:1], output=out, cache=False, keep_going=True)
    assert e.CALLS.count("break") == 1
    assert len(read_rows(out)) == 3


def test_keep_going_notes_what_cannot_be_planned() -> None:
    """Some combinations of a grid may be impossible; if all are, nothing begins."""
    with Graph("capped") as g:
        g.output(answer=e.eng_text(capped(start=g.param("start", int), most=g.param("most", int, default=9))))
    data = [{"start": 3}]
    rows = sweep(g, {"most": [2, 5]}, data, cache=False, keep_going=True)
    assert [row.get("answer") for row in rows] == [None, "3"]
    assert rows[0]["error"] == "BudgetError: capped: 3 is more than 2"
    assert refused({"most": [2, 5]}, data, g) == "capped: 3 is more than 2\n  with most=2"
    assert refused({"most": [1, 2]}, data, g, options=Options(keep_going=True)) == (
        "capped: 3 is more than 1\n  with most=1\ncapped: 3 is more than 2\n  with most=2"
    )


def test_it_stops_when_it_is_told_to() -> None:
    """Also with keep_going: a stop is no failure."""
    with pytest.raises(Cancelled):
        sweep(toy(), {}, DATA, cache=False, keep_going=True, cancel=lambda: True)


# -- refused before any work --------------------------------------------------------------------------------


def test_everything_is_said_at_once() -> None:
    """Parameters, values, columns, what is missing; nothing runs."""
    e.CALLS.clear()
    data = [{"start": "one", "stat": 3}, {"answer": {}}, {"start": 1, "id": "2"}]
    assert refused({"lat": 1, "early": [1, -1, "x", 1], "late": []}, data).split("\n") == [
        "params: no parameter is called 'lat'; did you mean 'late'?",
        "params.early: -1 is below 0",
        "params.early: 'x' is a str, wanted int 0..",
        "params.early: 1 is there twice",
        "params.late: no value; give at least one",
        "data[0].start: 'one' is a str, wanted int",
        "data[0]: no parameter of the graph is called 'stat'; did you mean 'start'?",
        "data[1].answer: wanted a text or a list of texts, got {}",
        "data[2]: the id '2' is that of data[1] too",
        "data[0]: no start (where to begin), and 1 more lines",
    ]
    assert not e.CALLS


def test_what_both_give_is_refused() -> None:
    """A column of the data cannot be swept."""
    assert refused({"start": [1, 2]}) == (
        "data[0]: start is a column of the data and a parameter of the sweep; give one"
    )


def test_an_axis_must_change_something() -> None:
    """A parameter that no node takes."""
    graph = toy()
    graph.param("idle", int, default=1)
    assert refused({"idle": [1, 2]}, graph=graph) == (
        "params.idle: nothing in the graph uses it, so its values would change nothing"
    )


def test_an_expectation_needs_an_answer() -> None:
    """A graph that gives none cannot be right."""
    graph = toy()
    graph.outputs = {"sum": graph.outputs["answer"]}
    assert refused({}, graph=graph) == "toy: gives no output `answer`, but the data says what is expected"


def test_many_mistakes_are_counted() -> None:
    """Twenty lines are enough to see what is wrong."""
    told = refused({}, [{"start": "x"} for _ in range(50)]).split("\n")
    assert len(told) == 21
    assert told[-1] == "and 31 more mistakes"  # 50, and one for what is missing


def test_kl_needs_a_base() -> None:
    """A graph made in Python extends nothing; and there is no first token to compare."""
    assert refused({}, options=Options(kl=True)) == (
        "--kl: toy extends no other graph, so nothing says what it would be uncompressed; name that graph "
        "with --base GRAPH"
    )
    assert refused({}, options=Options(kl=True, base=toy())) == (
        "--kl: toy has no `generate` whose first token could be compared"
    )


def test_an_unknown_rule() -> None:
    """The rules are named."""
    assert refused({}, options=Options(score="exat")) == "score: 'exat' is no rule; did you mean 'exact'?"
