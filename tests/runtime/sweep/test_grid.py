"""The grid: order, values, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom import Graph, load
from tokenloom.runtime.sweep.grid import Grid, read_grid
from tokenloom.runtime.sweep.problems import Problems

from .. import engine_nodes as e


def grid(graph: Graph, given: dict[str, Any]) -> Grid:
    problems = Problems()
    made = read_grid(graph, given, problems)
    problems.stop()
    return made


def test_what_is_used_first_varies_slowest() -> None:
    """Whatever order the parameters are given in; models before everything."""
    made = grid(
        load("visionzip"), {"max_new_tokens": [1, 2], "targets": [0, 1], "keep": [3, 4], "checkpoint": "a"}
    )
    assert list(made.values) == ["checkpoint", "keep", "targets", "max_new_tokens"]
    assert made.models == ("checkpoint",)
    assert made.axes == ("keep", "targets", "max_new_tokens")
    assert len(made) == 8
    assert [one["max_new_tokens"] for one in made] == [1, 2] * 4
    assert made.label(next(iter(made))) == "keep=3 targets=0 max_new_tokens=1"


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ([14, 14], [(14, 14)]),
        ([[14, 14], [12, 12]], [(14, 14), (12, 12)]),
        ([(3, 4)], [(3, 4)]),
    ],
)
def test_lists_of_a_parameter_that_takes_lists(value: Any, values: list[Any]) -> None:
    """One list is one value, a list of lists an axis."""
    assert list(grid(load("onevision"), {"grid": value}).values["grid"]) == values


@pytest.mark.parametrize("value", [[1, 2], (1, 2), range(1, 3)])
def test_any_sequence_is_an_axis(value: Any) -> None:
    """Lists, tuples, ranges."""
    assert grid(load("visionzip"), {"keep": value}).values["keep"] == (1, 2)


def test_values_get_their_parameters_type() -> None:
    """As in a run: paths from text, floats from integers."""
    with Graph() as g:
        e.eng_read(path=g.param("path", Path))
    assert grid(g, {"path": "a.txt"}).values["path"] == (Path("a.txt"),)
    assert grid(load("prunevid"), {"alpha": [1]}).values["alpha"] == (1.0,)


def test_a_parameter_that_only_python_can_give() -> None:
    """Said at once."""
    with Graph() as g:
        g.param("x", Graph)
    problems = Problems()
    read_grid(g, {"x": 1}, problems)
    assert list(problems.found) == ["params.x wants Graph, which a sweep cannot give; give it a widget type"]


def test_a_sample_of_a_large_grid_has_every_value() -> None:
    """Beside the first values of the others; a small grid is whole."""
    made = Grid({"a": tuple(range(100)), "b": tuple(range(100))})
    assert len(list(made.sample(10_000))) == 10_000
    found = list(made.sample(9_999))
    assert {one["a"] for one in found} == {one["b"] for one in found} == set(range(100))
    assert len(found) == 200


def test_no_parameters_are_one_combination() -> None:
    """All defaults."""
    made = grid(load("visionzip"), {})
    assert [dict(one) for one in made] == [{}]
    assert made.label({}) == ""
