"""Costs of stages that came from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom import Graph, run
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.sweep import ledger
from tokenloom.runtime.sweep.ledger import Ledger, ledger_of

from .. import engine_nodes as e
from .toy import toy


def test_costs_are_known_to_the_next_process(tmp_path: Path) -> None:
    """Of every step, those that nothing needed included; a torn or foreign line is passed by."""
    cache = Cache(tmp_path)
    result = run(toy(), start=1, cache=cache)
    spent = Ledger(cache).take(result)
    with (tmp_path / ledger.FILE).open("a") as file:
        file.write('{"no": "list"}\n["key"]\n["other", 1.0, nu')
    again = run(toy(), start=1, cache=Cache(tmp_path))
    assert [row.cached for row in again.report] == ["disk"]
    assert Ledger(Cache(tmp_path)).take(again) == spent
    assert spent is not None
    assert spent.keys() == {"number", "first", "last", "text"}


def test_what_nobody_measured_is_not_known(tmp_path: Path) -> None:
    """None, rather than a wrong sum."""
    cache = Cache(tmp_path)
    run(toy(), start=1, cache=cache)
    assert Ledger(cache).take(run(toy(), start=1, cache=cache)) is None


def test_impure_steps_are_measured_every_time() -> None:
    """Their keys are one run's own and are not kept."""
    with Graph() as g:
        g.output(time=e.eng_clock())
    held = Ledger(Cache(None))
    for _ in range(2):
        spent = held.take(run(g, cache=Cache(None)))
        assert spent is not None
        assert spent.keys() == {"eng_clock"}


def test_one_ledger_per_cache() -> None:
    """Sweeps of one process share what they measured, as they share the cache."""
    cache = Cache(None)
    assert ledger_of(cache) is ledger_of(cache)
    assert ledger_of(cache) is not ledger_of(Cache(None))


def test_old_costs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A very long sweep does not fill the memory; the latest steps are kept."""
    monkeypatch.setattr(ledger, "MOST", 10)
    cache = Cache(None)
    held = Ledger(cache)
    for start in range(5):
        assert held.take(run(toy(), start=start, cache=cache))
        assert held.take(run(toy(), start=start, cache=cache))
        assert len(held) <= 10


def test_a_file_that_grew_too_large_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are measured again when they are needed."""
    path = tmp_path / ledger.FILE
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(ledger, "MOST_BYTES", 99)
    Ledger(Cache(tmp_path)).take(run(toy(), start=1, cache=False))
    assert path.read_bytes().count(b"\n") == 4
    assert not path.read_bytes().startswith(b"x")
