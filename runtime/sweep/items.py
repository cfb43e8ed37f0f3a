"""The data of a sweep: a JSON lines file whose objects hold the graph's parameters, and what is expected.

{"image": "cat.jpg", "question": "What is it?", "answer": ["cat", "kitten"], "id": "17", "kind": "object"}

Beside the parameters there may be `answer` (a text, or a list of those that are right), `id` (default: the
line's number) and `kind` (what sort of question it is). Columns that only describe the item, `options`,
`split` and `scene`, are passed over. Paths start at the file's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LoomError, SweepError, did_you_mean
from ..graph import Graph
from ..yamlparams import placed
from .problems import Problems

OWN = ("answer", "id", "kind")
PASSED_OVER = ("options", "split", "scene")  # as `shapes make` writes them
MEDIA = ("image", "video", "media")  # what a graph may call its picture or clip; `media` stands for any
Line = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question. params: checked values. given: the same as written. expected: None when unknown."""

    id: str
    where: str
    kind: str = ""
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    expected: tuple[str, ...] | None = None


def other_media(graph: Graph, base: Graph, called: str, base_called: str) -> str | None:
    """That a base would look at a picture or clip that its graph is not given, such as its own default.

    called, base_called: their names. None: both look at the same.
    """
    lacking = [name for name in MEDIA if name in base.params and name not in graph.params]
    if not lacking:
        return None
    own = [name for name in MEDIA if name in graph.params]
    return (
        f"{called}: is asked about {' and '.join(own) or 'nothing'}, its base {base_called} about "
        f"{' and '.join(lacking)}; name another with --base GRAPH"
    )


def read_items(
    data: Path | str | Iterable[Mapping[str, Any]], graph: Graph, problems: Problems
) -> list[Item]:
    """The items of a file, or of mappings given in Python; every mistake is noted."""
    items: list[Item] = []
    seen: dict[str, str] = {}
    file = str(data) if isinstance(data, str | Path) else ""
    try:
        lines = list(_lines(data, problems))
    except SweepError as error:
        problems.say(error)
        return []
    for number, (where, line) in enumerate(lines, start=1):
        item = item_of(graph, where, line, number, file, problems)
        if item.id in seen:
            problems.say(f"{where}: the id {item.id!r} is that of {seen[item.id]} too")
        seen[item.id] = where
        items.append(item)
    if not items and not problems.found:
        problems.say(f"{file or 'data'}: holds no items; wanted at least one")
    return items


def _lines(data: Path | str | Iterable[Mapping[str, Any]], problems: Problems) -> Iterator[Line]:
    if not isinstance(data, str | Path):
        yield from ((f"data[{i}]", line) for i, line in enumerate(data))
        return
    try:
        text = Path(data).read_text("utf-8-sig")
    except OSError as error:
        raise SweepError(f"--data {data}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SweepError(f"--data {data}: is no UTF-8 text; wanted JSON lines, one object per line") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{data}:{number}", json_object(f"{data}:{number}", line)
        except SweepError as error:
            problems.say(error)


def json_object(where: str, line: str) -> dict[str, Any]:
    """The object that a line holds. Errors: SweepError, saying `where`."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SweepError(f"{where}: is no JSON ({error}); wanted one object per line") from None
    if not isinstance(found, dict):
        raise SweepError(f'{where}: wanted an object such as {{"question": ...}}, got {line.strip()[:40]}')
    return found


def item_of(
    graph: Graph, where: str, line: Mapping[str, Any], number: int, file: str, problems: Problems
) -> Item:
    """The item of a line; mistakes are noted.

    number: of the item, counted from 1: its id where the line gives none. file: where the line is from, ""
    for one given in Python.
    """
    given: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for column, value in line.items():
        if column in graph.params or column not in (*OWN, *PASSED_OVER):
            name = _parameter(graph, where, column, problems)
            if name is not None and (checked := _checked(graph, where, name, value, file, problems)):
                params[name], given[name] = checked[0], value
    name = line.get("id", str(number)) if "id" not in graph.params else str(number)
    kind = line.get("kind", "") if "kind" not in graph.params else ""
    expected = _expected(where, line["answer"], problems) if _has_answer(graph, line) else None
    return Item(id=str(name), where=where, kind=str(kind), params=params, given=given, expected=expected)


def _has_answer(graph: Graph, line: Mapping[str, Any]) -> bool:
    return "answer" not in graph.params and line.get("answer") is not None


def _parameter(graph: Graph, where: str, column: str, problems: Problems) -> str | None:
    """The parameter that a column fills."""
    if column in graph.params:
        return column
    if column in MEDIA:
        own = [name for name in MEDIA if name in graph.params]
        if len(own) == 1 and "media" in (column, own[0]):
            return own[0]
    known = (*graph.params, *OWN)
    problems.say(f"{where}: no parameter of the graph is called {column!r}{did_you_mean(column, known)}")
    return None


def _checked(
    graph: Graph, where: str, name: str, value: Any, file: str, problems: Problems
) -> tuple[Any] | None:
    """The value in its parameter's type, in a tuple of one; None after a mistake."""
    widget = graph.params[name].widget
    if widget is None:
        problems.say(f"{where}.{name}: only Python can give this parameter: tokenloom.run(...)")
        return None
    try:
        checked = placed(widget.check(where, value), file) if file else widget.check(where, value)
    except LoomError as error:
        problems.say(error)
        return None
    for path in checked if isinstance(checked, tuple) else (checked,):
        if isinstance(path, Path) and not path.exists():
            problems.say(f"{where}.{name}: {path}: no such file")
    return (checked,)


def _expected(where: str, answer: Any, problems: Problems) -> tuple[str, ...]:
    found = answer if isinstance(answer, list) else [answer]
    if not found or not all(isinstance(one, str | int | float) for one in found):
        problems.say(f"{where}.answer: wanted a text or a list of texts, got {json.dumps(answer)[:40]}")
        return ()
    return tuple({True: "yes", False: "no"}[one] if isinstance(one, bool) else str(one) for one in found)
