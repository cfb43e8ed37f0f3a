"""The engine's own cost per node stays small and flat; bench/overhead.py measures it beside other engines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tokenloom.runtime.cache import Cache
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.run import run

from . import engine_nodes as e


def chain(n: int) -> Graph:
    with Graph() as g:
        x = e.eng_number()
        for _ in range(n):
            x = e.eng_add(x)
        g.output(out=x)
    return g


def microseconds(n: int, work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / n * 1e6


@pytest.mark.parametrize("n", [200, 5000])
def test_overhead_per_node(n: int) -> None:
    """Far above the targets (10 us warm, 30 us cold on a quiet machine) something is wrong."""
    g, cold, warm = chain(n), list[float](), list[float]()
    run(g, cache=False)
    for _ in range(3):
        cache = Cache(None)
        cold.append(microseconds(n, lambda: run(g, cache=cache)))  # noqa: B023
        warm.append(microseconds(n, lambda: run(g, cache=cache)))  # noqa: B023
    assert min(cold) < 90
    assert min(warm) < 40
