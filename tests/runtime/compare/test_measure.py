"""How stages are measured: memory anew for each, failures apart, values given in Python."""

from __future__ import annotations

import pytest
import torch

from tokenloom import Graph, plan
from tokenloom.runtime.compare.measure import ProcessMeter, measure
from tokenloom.runtime.compare.merge import merge, output_name
from tokenloom.runtime.errors import Cancelled
from tokenloom.runtime.plan import Plan
from tokenloom.runtime.widgets import MISSING

from .. import engine_nodes as e

MB = 1_000_000


def test_memory_is_counted_anew_for_each_step() -> None:
    """64 MB are seen the second time, too, though the process has had them before."""
    assert ProcessMeter.works()
    meter = ProcessMeter()
    for _ in range(2):
        meter.start()
        held = torch.ones(16 * MB)
        assert 60 * MB < meter.peak(1.0) < 80 * MB
        del held
    meter.start()
    assert meter.peak(1.0) < 8 * MB


def sums(first: int, second: int) -> Graph:
    """5 + first + second as text."""
    with Graph(f"{first} {second}") as g:
        five = g.named("number", e.eng_number)(start=5)
        first_sum = g.named("first", e.eng_add)(five, add=first)
        g.output(text=g.named("text", e.eng_text)(g.named("last", e.eng_add)(first_sum, add=second)))
    return g


def test_equal_steps_are_one() -> None:
    """Two graphs that differ in their last sum share all before it."""
    merged = merge([plan(sums(1, 2)), plan(sums(1, 3))], ["a", "b c"])
    assert list(merged.graph.steps) == ["number", "first", "a/last", "a/text", "b_c/last", "b_c/text"]
    result, failed = measure(plan(merged.graph))
    assert failed == {}
    assert [result[output_name(number, "text")] for number in (0, 1)] == ["8", "9"]
    assert merged.users["first"] == (0, 1)
    assert merged.places[1]["last"] == ("b_c/last",)


def test_steps_of_one_id_that_differ_stay_apart() -> None:
    """Nothing is shared by its name."""
    merged = merge([plan(sums(1, 2)), plan(sums(4, 2))], ["a", "b"])
    assert [id for id in merged.graph.steps if id.endswith("first")] == ["a/first", "b/first"]


def test_a_step_that_fails_takes_what_follows_it_along() -> None:
    """The other branch is done; what is lost is MISSING, and the error says where."""
    with Graph() as g:
        five = e.eng_number(start=5)
        g.output(bad=e.eng_text(g.named("bad", e.eng_break)(five)), good=e.eng_text(five))
    result, failed = measure(plan(g))
    assert result["good"] == "5"
    assert result["bad"] is MISSING
    assert list(failed) == ["bad"]
    assert failed["bad"].__notes__[0].startswith("in node bad (eng_break)")
    assert failed["bad"].__traceback__ is None


def test_a_stop_stops_all() -> None:
    """Cancelling is no failure of one step."""
    with pytest.raises(Cancelled):
        measure(plan(sums(1, 2)), cancel=lambda: True)


def test_values_that_a_graph_is_given_are_shared() -> None:
    """Parameters that are wired to sockets: equal ones are one, others keep graphs apart."""

    def given(x: int) -> Plan:
        with Graph() as g:
            number = g.param("number", int)
            g.output(text=e.eng_text(g.named("sum", e.eng_add)(number, add=1)))
        return plan(g, {"number": x})

    merged = merge([given(3), given(3), given(4)], ["a", "b", "c"])
    assert [id for id in merged.graph.steps if id.endswith("sum")] == ["sum", "c/sum"]
    result, _ = measure(plan(merged.graph, merged.params))
    assert [result[output_name(number, "text")] for number in range(3)] == ["4", "4", "5"]
