"""Rows put together by setting."""

from __future__ import annotations

from typing import Any

import pytest

from tokenloom.runtime.errors import SweepError
from tokenloom.runtime.sweep.summary import axes, check_names, points, quality_of, settings, wilson


def row(keep: int, item: str, **figures: Any) -> dict[str, Any]:
    return {"item": item, "params": {"keep": keep, "checkpoint": "tiny"}, **figures}


ROWS = [
    row(16, "a", correct=True, tokens=20, kl=1.0),
    row(16, "b", correct=False, tokens=22, kl=2.0),
    row(32, "a", correct=False, tokens=40, kl=0.5),
    row(32, "b", correct=False, tokens=40, kl=0.5),
    row(64, "a", correct=True, tokens=70, kl=0.1),
    row(64, "b", error="MemoryError: "),
]


def test_means_over_the_items() -> None:
    """Of the rows that have the figure; failed ones are counted."""
    one, _, last = settings(ROWS)
    assert (one.label, one.count, one.failed, one.accuracy) == ("keep=16", 2, 0, 50.0)
    assert one.figures["tokens"] == 21
    assert one.figures["kl"] == 1.5
    assert one.figures["flops"] is None
    assert (last.count, last.failed, last.accuracy) == (2, 1, 100.0)


@pytest.mark.parametrize(
    ("y", "best"), [(None, [True, False, True]), ("accuracy", [True, False, True]), ("kl", [True] * 3)]
)
def test_the_front_of_what_is_asked_for(y: str | None, best: list[bool]) -> None:
    """More accuracy, or less KL, for fewer tokens."""
    assert [one.best for one in settings(ROWS, y=y)] == best


def test_without_answers_kl_is_compared() -> None:
    """And without either, nothing."""
    rows = [row(n, "a", tokens=n, kl=1.0) for n in (1, 2)]
    assert quality_of(settings(rows)) == "kl"
    assert [one.best for one in settings(rows)] == [True, False]
    bare = settings([row(n, "a", tokens=n) for n in (1, 2)])
    assert quality_of(bare) is None
    assert not any(one.best for one in bare)


def test_points_of_a_plot() -> None:
    """With intervals of the accuracy; settings without the figure are left out."""
    found = points(settings(ROWS), "tokens", "accuracy")
    assert [(one.x, one.y, one.label) for one in found] == [
        (21, 50, "keep=16"),
        (40, 0, "keep=32"),
        (70, 100, "keep=64"),
    ]
    assert (found[0].low, found[0].high) == wilson(1, 2)
    assert points(settings(ROWS), "flops", "accuracy") == []
    assert points(settings(ROWS), "tokens", "kl")[0].low is None
    assert axes("flops", "kl", "T").higher is False


def test_wilsons_interval() -> None:
    """Known values; no interval of width 0 at the ends."""
    assert wilson(5, 10) == pytest.approx((23.66, 76.34), abs=0.01)
    assert wilson(0, 10) == pytest.approx((0, 27.75), abs=0.01)
    assert wilson(10, 10)[1] == 100


def test_unknown_figures() -> None:
    """With the nearest that there is."""
    with pytest.raises(SweepError) as error:
        check_names("flop", None)
    assert str(error.value) == "--x flop: no such figure; did you mean 'flops'?"
    with pytest.raises(SweepError, match=r"^--y acc: no such figure; known: accuracy, kl$"):
        check_names("tokens", "acc")
