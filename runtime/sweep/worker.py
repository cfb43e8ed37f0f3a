"""One row of a sweep: plan, run, and put down what came out and what every stage took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..agreement import divergence
from ..cache import Cache
from ..plan import Plan, plan
from ..result import Result
from ..rows import Row
from ..run import execute
from ..scoring import right
from .gauge import LOGITS, STATE, Reading
from .grid import Combination
from .identity import plain
from .items import Item
from .ledger import Ledger, Spent

if TYPE_CHECKING:
    from .sweep import Sweep


@dataclass
class Worker:
    """Makes rows, one after another; remembers the base's scores of the latest question."""

    sweep: Sweep
    ledger: Ledger
    cache: Cache | None
    latest: tuple[str, Tensor] | None = None

    def head(self, item: Item, combination: Combination) -> Row:
        """What a row begins with: what was asked of what, and what was expected."""
        return {
            "item": item.id,
            "kind": item.kind,
            "params": self.sweep.params(item, combination),
            "inputs": {name: plain(value) for name, value in item.given.items()},
            "expected": None if item.expected is None else list(item.expected),
        }

    def failed(self, item: Item, combination: Combination, error: Exception) -> Row:
        """The row of a run that raised."""
        told = f"{type(error).__name__}: {error}"
        return {**self.head(item, combination), "error": told, **self.sweep.common, "time": _now()}

    def row(self, item: Item, combination: Combination) -> Row:
        """One row of results."""
        sweep = self.sweep
        made = sweep.plan(sweep.gauge, item, combination, self.cache)
        result, spent = self._done(made)
        found = sweep.gauge.take(result)
        stages = {id: one for id, one in spent.items() if id not in (STATE, LOGITS)}
        counted = [one.flops for one in stages.values() if one.flops is not None]
        return {
            **self.head(item, combination),
            "answer": found.answer,
            "correct": self._correct(item, found),
            "tokens": found.tokens,
            "tokens_placed": found.placed,
            "tokens_mean": found.mean,
            "flops": sum(counted) if counted else None,
            "flops_prompt": found.prefill,
            "kl": self._kl(item, combination, found),
            "seconds": sum(one.seconds for one in stages.values()),
            "stages": {id: one._asdict() for id, one in stages.items()},
            **sweep.common,
            "time": _now(),
        }

    def _execute(self, made: Plan) -> Result:
        options = self.sweep.options
        return execute(made, subscribers=options.subscribers, cancel=options.cancel)

    def _done(self, made: Plan) -> tuple[Result, Mapping[str, Spent]]:
        """The result, and what every stage took; done again without the cache where that is not known."""
        result = self._execute(made)
        spent = self.ledger.take(result)
        if spent is None:
            result = self._execute(_without_cache(made))
            spent = self.ledger.take(result)
            assert spent is not None, "every step of a run without the cache is done"
        return result, spent

    def _correct(self, item: Item, found: Reading) -> bool | None:
        if item.expected is None or found.answer is None:
            return None
        return right(found.answer, item.expected, self.sweep.options.score)

    def _kl(self, item: Item, combination: Combination, found: Reading) -> float | None:
        base = self.sweep.base
        if base is None or found.logits is None:
            return None
        made = self.sweep.plan(base, item, combination, self.cache)
        key = made.by_id[LOGITS].key
        if self.latest is None or self.latest[0] != key:
            logits = base.take(self._execute(made)).logits
            assert logits is not None, "the base was checked to give scores"
            self.latest = (key, logits)
        return divergence(self.latest[1], found.logits)


def _now() -> float:
    """Seconds since 1970."""
    return round(time.time(), 3)


def _without_cache(made: Plan) -> Plan:
    again = plan(
        made.graph,
        made.params,
        outputs=tuple(made.outputs),
        device=made.device,
        dtype=made.dtype,
        cache=None,
    )
    return replace(again, options=made.options)
