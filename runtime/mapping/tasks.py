"""Items as they are streamed in: lines of a file of any length, or what Python iterates over.

An item is what it is in a sweep (`sweep/items.py`): the graph's parameters, and maybe `id`, `answer` and
`kind`. Nothing is held beside the item that is looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..describe import describe
from ..errors import MapError, SweepError
from ..fit import holds
from ..graph import Graph
from ..keys import value_key
from ..sweep.identity import plain
from ..sweep.items import Item, item_of, json_object
from ..sweep.problems import MOST, Problems
from ..widgets import type_text
from .ids import Ids

Data = Path | str | Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One item to be run. index: its place, from 0. params: checked values, the common ones included.

    given: what the item says, as JSON. digest: a hash of that. wrong: why it cannot be run.
    """

    index: int
    id: str
    where: str
    digest: str
    kind: str = ""
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    expected: tuple[str, ...] | None = None
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found by looking through all items once. wrong: how many cannot be run; told: why, the first.

    alike: parameters that every item gives.
    """

    total: int
    wrong: int
    told: tuple[str, ...]
    alike: frozenset[str]


def tasks(graph: Graph, data: Data, common: Mapping[str, Any], limit: int | None = None) -> Iterator[Task]:
    """The items one by one; those that cannot be run say why. Errors: MapError for a file that is none."""
    file = str(data) if _is_file(data) else ""
    for number, (where, line) in enumerate(islice(_lines(data), limit)):
        yield _task(graph, number, where, line, common, file)


def unlike(found: Iterable[Task]) -> Iterator[Task]:
    """The same tasks. Errors: MapError for an id that was there before."""
    with Ids() as ids:
        for task in found:
            if before := ids.before(task.id, task.where):
                raise MapError(_twice(task, before))
            yield task


def survey(graph: Graph, data: Data, common: Mapping[str, Any], limit: int | None) -> Survey | None:
    """Look through all items of a file or a sequence; None for an iterator, which gives them only once.

    Errors: MapError for ids that are there twice, and for no items at all.
    """
    if not _is_file(data) and not isinstance(data, Sequence):
        return None
    total, wrong, told = 0, 0, list[str]()
    twice = Problems(MapError)
    alike: frozenset[str] | None = None
    with Ids() as ids:
        for task in tasks(graph, data, common, limit):
            total += 1
            wrong += bool(task.wrong)
            told += task.wrong[: MOST - len(told)]
            own = frozenset(task.given)
            alike = own if alike is None else alike & own
            if before := ids.before(task.id, task.where):
                twice.say(_twice(task, before))
    twice.stop()
    if not total:
        raise MapError(f"{data if _is_file(data) else 'items'}: holds no items; wanted at least one")
    return Survey(total=total, wrong=wrong, told=tuple(told), alike=alike or frozenset())


def _twice(task: Task, before: str) -> str:
    return f"{task.where}: the id {task.id!r} is that of {before} too; results are known by their ids"


def _is_file(data: Data) -> bool:
    return isinstance(data, str | Path)


def _lines(data: Data) -> Iterator[tuple[str, bytes | Mapping[str, Any]]]:
    """Lines of a file as bytes, without empty ones; or mappings."""
    if not isinstance(data, str | Path):
        yield from ((f"items[{number}]", one) for number, one in enumerate(data))
        return
    try:
        if not stat.S_ISREG(os.stat(data).st_mode):
            raise MapError(f"{data}: is no file; wanted JSON lines, which are read more than once")
        with open(data, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield f"{data}:{number}", text
    except OSError as error:
        raise MapError(f"{data}: cannot be read: {error.strerror}") from None


def _task(
    graph: Graph,
    index: int,
    where: str,
    line: bytes | Mapping[str, Any],
    common: Mapping[str, Any],
    file: str,
) -> Task:
    problems = Problems()
    live: dict[str, Any] = {}
    try:
        row = json_object(where, _text(where, line)) if isinstance(line, bytes) else _mapping(where, line)
        if not file:
            live = {name: row[name] for name in row if name in graph.params and not graph.params[name].widget}
        item = item_of(graph, where, {n: row[n] for n in row if n not in live}, index + 1, file, problems)
    except SweepError as error:  # no object at all: there is nothing to take an id from
        raw = line if isinstance(line, bytes) else repr(line).encode(errors="replace")
        wrong = (str(error),)
        return Task(index=index, id=f"line {index + 1}", where=where, digest=_hash(raw), wrong=wrong)
    for name, value in live.items():
        if not holds(value, wanted := graph.params[name].type):
            problems.say(f"{where}.{name}: wanted {type_text(wanted)}, got {type_text(type(value))}")
    params = {**common, **item.params, **live}
    for name, param in graph.params.items():
        if param.required and name not in params and name not in row:
            told = f" ({param.help})" if param.help else ""
            problems.say(f"{where}: no {name}{told}")
    given = {name: plain(value) for name, value in item.given.items()}
    given |= {name: describe(value) for name, value in live.items()}
    return Task(
        index=index,
        id=item.id,
        where=where,
        digest=_digest(item, live),
        kind=item.kind,
        params=params,
        given=given,
        expected=item.expected,
        wrong=tuple(problems.found),
    )


def _text(where: str, line: bytes) -> str:
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SweepError(f"{where}: is no UTF-8 text; wanted one JSON object per line") from None


def _mapping(where: str, line: Any) -> Mapping[str, Any]:
    if not isinstance(line, Mapping):
        raise SweepError(f"{where}: wanted a mapping of parameters, got {type_text(type(line))}")
    return line


def _digest(item: Item, live: Mapping[str, Any]) -> str:
    """Of what the item says; of values that only Python can give, by content."""
    keys = {name: value_key(value) or describe(value) for name, value in live.items()}
    told = [item.id, item.kind, item.given, item.expected, keys]
    return _hash(json.dumps(told, sort_keys=True, default=str).encode(errors="surrogatepass"))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
