"""A sweep: checked as a whole before any work, then row by row; what is in its file already is not redone.

Order: models, then items, then the other parameters, the one that the graph uses last varying fastest. So an
item's early stages are done once, and a late parameter's values re-run only what follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..ancestry import uncompressed
from ..cache import Cache
from ..check import unused_params
from ..errors import Cancelled, GraphError, LoomError, did_you_mean
from ..events import Subscriber
from ..graph import Graph
from ..models.pool import pool
from ..plan import Plan, plan
from ..rows import Row
from ..scoring import RULES
from ..versions import versions
from .gauge import Gauge
from .grid import Combination, Grid, read_grid
from .identity import graph_hash, graph_name, identity, plain
from .items import MEDIA, Item, other_media, read_items
from .ledger import ledger_of
from .problems import Problems
from .resume import finished, key_of, row_key
from .worker import Worker

CHECKED = 2000  # combinations, and items, that are planned before work begins


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a sweep is run. base: what KL compares with; None: the graph that this one extends.

    score: how an answer is compared, exact, contains or choice. keep_going: a row that fails is written with
    its error, and the sweep goes on. subscribers, cancel: as in `run`.
    """

    kl: bool = False
    base: Graph | None = None
    score: str = "exact"
    device: str = "auto"
    dtype: str = "auto"
    keep_going: bool = False
    subscribers: Sequence[Subscriber] = ()
    cancel: Callable[[], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A graph over a grid and items. common: what all its rows share."""

    graph: Graph
    grid: Grid
    items: Sequence[Item]
    options: Options
    common: Mapping[str, Any]
    gauge: Gauge
    base: Gauge | None = None

    @classmethod
    def of(
        cls,
        graph: Graph,
        grid: Mapping[str, Any],
        data: Path | str | Iterable[Mapping[str, Any]],
        options: Options | None = None,
        *,
        limit: int | None = None,
        problems: Problems | None = None,
    ) -> Sweep:
        """A sweep whose every part fits the others. limit: the first items only.

        Errors: SweepError with everything that is wrong: unknown parameters and columns, values that do not
        fit, missing values and files, empty data, rows that cannot be planned.
        """
        options, problems = options or Options(), problems or Problems()
        graph.check()
        read = read_grid(graph, grid, problems)
        items = read_items(data, graph, problems)
        _check_given(graph, read, items, problems)
        if options.score not in RULES:
            problems.say(f"score: {options.score!r} is no rule{did_you_mean(options.score, RULES)}")
        base = _base(graph, options, problems) if options.kl else None
        gauge = Gauge.of(graph, logits=options.kl)
        _check_gauges(graph, gauge, base, items, problems)
        problems.stop()
        common = {
            "graph": graph_name(graph),
            **identity(graph, items, options.device, options.dtype),
            "base_hash": None if base is None else graph_hash(base.graph),
            "score": options.score,
            "versions": versions(),
        }
        made = cls(
            graph=graph,
            grid=read,
            items=items if limit is None else items[:limit],
            options=options,
            common=common,
            gauge=gauge,
            base=base,
        )
        made._check_plans(problems)
        problems.stop()
        return made

    def __len__(self) -> int:
        return len(self.grid) * len(self.items)

    def pairs(self) -> Iterator[tuple[Item, Combination]]:
        """Items and combinations in the order in which they run."""
        for outer in self.grid.outer():
            for item in self.items:
                for inner in self.grid.inner():
                    yield item, {**outer, **inner}

    def params(self, item: Item, combination: Combination) -> dict[str, Any]:
        """What decides a row beside its item: every parameter that the item does not give."""
        known = {
            name: combination.get(name, param.default)
            for name, param in self.graph.params.items()
            if name in combination or (name not in item.params and not param.required)
        }
        return {name: plain(value) for name, value in known.items()}

    def key(self, item: Item, combination: Combination) -> str:
        """What a row of this item and combination is known by; `row_key` of the row is the same."""
        return key_of(item.id, self.params(item, combination))

    def todo(self, rows: Iterable[Row]) -> Iterator[tuple[Item, Combination]]:
        """What has no finished row yet."""
        done = {row_key(row) for row in rows if finished(row, kl=self.options.kl)}
        return (pair for pair in self.pairs() if self.key(*pair) not in done)

    def mine(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of these items and combinations, each once (the latest), in the sweep's order."""
        latest = {row_key(row): row for row in rows}
        return [latest[key] for pair in self.pairs() if (key := self.key(*pair)) in latest]

    def run(
        self, pairs: Iterable[tuple[Item, Combination]], cache: Cache | None
    ) -> Iterator[tuple[Item, Combination, Row]]:
        """A row of each pair. Errors: whatever a node raises, with a note saying where it was."""
        worker = Worker(self, ledger_of(cache), cache)
        models: list[Any] | None = None
        for item, combination in pairs:
            before, models = models, [combination[name] for name in self.grid.models]
            if before not in (None, models):
                pool().release()  # the models of the combinations before are not used again
            try:
                row = worker.row(item, combination)
            except (Cancelled, KeyboardInterrupt):
                raise
            except Exception as error:
                if not self.options.keep_going:
                    at = " ".join(filter(None, (item.where, self.grid.label(combination))))
                    error.add_note(f"in the row of {at}; --keep-going notes it in its row and goes on")
                    raise
                row = worker.failed(item, combination, error)
            yield item, combination, row

    def plan(self, gauge: Gauge, item: Item, combination: Combination, cache: Cache | None) -> Plan:
        """The plan of a row, or of its uncompressed counterpart, which takes the parameters that it has."""
        own = gauge.graph.params
        defaults = {n: p.default for n, p in self.graph.params.items() if not p.required}
        given = {**defaults, **combination, **item.params} if gauge is not self.gauge else {
            **combination, **item.params
        }  # fmt: skip
        return plan(
            gauge.graph,
            {name: value for name, value in given.items() if name in own},
            outputs=tuple(gauge.outputs.values()),
            device=self.options.device,
            dtype=self.options.dtype,
            cache=cache,
        )

    def _check_plans(self, problems: Problems) -> None:
        """Note what planning refuses: each combination with the first item, each item with the first one.

        With keep_going that is noted in rows, unless it is all of them.
        """
        first = next(iter(self.grid))
        refused: dict[str, list[str]] = {}
        pairs = [(self.items[0], combination) for combination in self.grid.sample(CHECKED)]
        pairs += [(item, first) for item in islice(self.items, 1, CHECKED)]
        for item, combination in pairs:
            for gauge in (self.gauge, self.base):
                try:
                    if gauge is not None:
                        self.plan(gauge, item, combination, None)
                except LoomError as error:
                    text = str(error)
                    if gauge is not None and gauge is self.base:
                        name = graph_name(gauge.graph)
                        text = f"the base of --kl, {name}: {error}; name another with --base GRAPH"
                    at = self.grid.label(combination) if item is self.items[0] else item.where
                    refused.setdefault(text, []).append(at)
        if self.options.keep_going and sum(map(len, refused.values())) < len(pairs):
            return
        for text, places in refused.items():
            unlike = [place for place in dict.fromkeys(places) if place]
            more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
            problems.say(f"{text}\n  with {'; '.join(unlike[:3])}{more}" if unlike else text)


def _base(graph: Graph, options: Options, problems: Problems) -> Gauge | None:
    try:
        base = options.base or uncompressed(graph, "--kl")
        if told := other_media(graph, base, graph_name(graph), graph_name(base)):
            problems.say(f"--kl: {told}")
        return Gauge.of(base, answer=False, logits=True)
    except GraphError as error:
        problems.say(error if "--base" in str(error) else f"{error} with --base GRAPH")
        return None


def _check_given(graph: Graph, grid: Grid, items: Sequence[Item], problems: Problems) -> None:
    """Note parameters that nothing gives, that change nothing, and that the grid and the data both give."""
    for name in unused_params(graph):
        if name in grid.axes:
            problems.say(f"params.{name}: nothing in the graph uses it, so its values would change nothing")
    for name, param in graph.params.items():
        lacking = [item for item in items if name not in item.params]
        twice = [item for item in items if name in item.params]
        if name in grid.values and twice:
            problems.say(
                f"{twice[0].where}: {name} is a column of the data and a parameter of the sweep; give one"
            )
        elif name not in grid.values and lacking and (param.required or (name in MEDIA and twice)):
            told = f" ({param.help})" if param.help else ""
            more = f", and {len(lacking) - 1} more lines" if len(lacking) > 1 else ""
            problems.say(f"{lacking[0].where}: no {name}{told}{more}")


def _check_gauges(
    graph: Graph, gauge: Gauge, base: Gauge | None, items: Sequence[Item], problems: Problems
) -> None:
    """Note what is to be measured and cannot be."""
    name = graph_name(graph)
    if not gauge.answers and any(item.expected is not None for item in items):
        problems.say(f"{name}: gives no output `answer`, but the data says what is expected")
    if base is not None and not (gauge.outputs.get("logits") and base.outputs.get("logits")):
        which = name if not gauge.outputs.get("logits") else graph_name(base.graph)
        problems.say(f"--kl: {which} has no `generate` whose first token could be compared")
