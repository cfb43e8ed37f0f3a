"""Where a plan went wrong: the step of the graph file, and in it the setting that the message is about.

Files are read again only when there is an error to show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .build import ParamRef
from .errors import GraphError
from .excerpt import excerpt
from .ir import At, Step
from .widgets import short


def placed(error: Exception, step: Step, params: Mapping[str, Any] | None = None, key: str = "") -> Exception:
    """The error with a note: node, file:line:column, setting, the source line and a caret.

    params: what the parameters are; the one that the setting was taken from is named. key: the setting, when
    it is not to be found from the message.
    """
    key = key or next(_keys(str(error), step, params or {}), "")
    at, lines = step.at, list[str]()
    if step.at is not None and not step.at.path.endswith(".py"):  # else it was made in Python
        at, lines = _source(step, step.at, key)
    note = f"in node {step.id} ({step.type.name}){f', {at}' if at else ''}, while planning"
    value = _given(step, key)
    if isinstance(value, ParamRef) and params is not None and value.name in params:
        note += f": {key} (from parameter {value.name} = {_text(params[value.name])})"
    elif key in step.widgets and "/" in step.id:
        note += f": {key} = {_text(value)} in {step.id.rpartition('/')[0]}"
    error.add_note("\n".join([note, *(excerpt(at, lines) if at else ())]))
    return error


def _given(step: Step, key: str) -> Any:
    return step.when if key == "when" else step.widgets.get(key)


def _text(value: Any) -> str:
    """A parameter's value: paths as text, a list as a list."""
    if isinstance(value, tuple):
        return short([str(one) if isinstance(one, Path) else one for one in value])
    return short(str(value) if isinstance(value, Path) else value)


def _keys(message: str, step: Step, params: Mapping[str, Any]) -> Iterator[str]:
    """The settings and inputs that a message may be about, likeliest first."""
    head = re.match(rf"(?:{re.escape(step.id)}|{step.type.name})\.(\w+)", message)
    if head and (head[1] in step.widgets or head[1] in step.wires):
        yield head[1]
    body = message.partition(": ")[2] or message
    words = list(re.findall(r"\w+", body))
    yield from (word for word in words if word in step.widgets)
    for key, value in step.widgets.items():
        given = params.get(value.name) if isinstance(value, ParamRef) else value
        if isinstance(given, str | Path) and len(str(given)) > 2 and str(given) in message:
            yield key
    yield from (word for word in words if word in step.wires)


def _source(step: Step, at: At, key: str) -> tuple[At, list[str]]:
    """The place of the setting (of the step, when it is not to be found), and the lines of its file."""
    from .layers import Reader
    from .yamltree import Broken

    reader = Reader()
    try:
        entry = reader.document(at.path)["nodes"].value[step.id.rpartition("/")[2]]
        if entry.key != at:  # the file has changed since
            return at, []
        found = entry.value.get(key)
    except (Broken, GraphError, OSError, KeyError, AttributeError, TypeError):
        return at, []
    if found is not None and _same(found.value, step, key):
        at = found.at
    return at, reader.sources.get(at.path, [])


def _same(written: Any, step: Step, key: str) -> bool:
    """False for a setting that was changed after the file was read."""
    refers = isinstance(written, str) and written[:1] == "$" and written[:2] != "$$"
    given = _given(step, key)
    if key in step.wires or isinstance(given, ParamRef):
        return refers or key in step.wires
    if refers:  # a parameter of a file that stands for a node
        return "/" in step.id
    return bool(written == given or not isinstance(given, str | int | float))
