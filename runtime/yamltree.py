"""YAML text as a tree in which every value knows its place; only plain data, in one pass, without recursion.

Scalars follow YAML 1.2 (`yes` and `on` are strings, `1e-3` is a number). Anchors, aliases, tags, merge keys,
doubled keys, several documents, deep nesting and large files are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from .excerpt import FileProblem
from .ir import At

MOST_BYTES, DEEPEST = 1_000_000, 50
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
INT = re.compile(r"[-+]?[0-9]{1,100}|0x[0-9a-fA-F]{1,80}|0o[0-7]{1,100}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf", ".Inf", ".INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
Report = Callable[[FileProblem], None]


@dataclass(frozen=True, eq=False)
class Marked:
    """A scalar, a list of `Marked` or a dict of them, with its place and that of its key.

    soft: inherited by a node whose type was replaced; dropped when the new type does not know it.
    """

    value: Any
    at: At
    key: At
    soft: bool = False


class Broken(Exception):  # noqa: N818  (never leaves the reader)
    """Nothing more can be read from this file; the problem has been reported."""


def decode(path: str, data: bytes, report: Report) -> str:
    """The text of a file, which must be UTF-8 and not too large."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        at = At(path, before.count("\n") + 1, len(before) - before.rfind("\n"))
        report(FileProblem(at, f"byte 0x{data[error.start]:02x} is no UTF-8; save the file as UTF-8"))
        raise Broken from None
    return text


def scalar(text: str) -> Any:
    """What an unquoted word means: null, a bool, a number, or itself."""
    if text in WORDS:
        return WORDS[text]
    if INT.fullmatch(text):
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
    return float(text) if FLOAT.fullmatch(text) else text


def tree(path: str, text: str, report: Report) -> Marked:
    """The one document in `text`. Mistakes go to `report`; Broken when there is no going on."""
    size = len(text.encode())
    if size > MOST_BYTES:
        _stop(report, At(path, 1, 1), f"the file has {size} bytes; a graph file has at most {MOST_BYTES}")
    if bad := UNPRINTABLE.search(text):
        before = text[: bad.start()]
        at = At(path, before.count("\n") + 1, len(before) - before.rfind("\n"))
        _stop(report, at, f"character U+{ord(bad[0]):04X} cannot stand in a text file")
    if not re.sub(r"(?m)^\s*(#.*)?$", "", text).strip():
        _stop(report, At(path, 1, 1), "the file is empty; a graph file starts with 'tokenloom: 1'")
    builder = _Builder(path, report)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = text.split("\n")
        indent = re.match(r"[ ]*\t", lines[line]) if line < len(lines) else None
        if indent:
            _stop(report, At(path, line + 1, indent.end()), "a tab indents this line; use spaces")
        _stop(report, At(path, line + 1, column + 1), f"this is not YAML: {error.problem or error.context}")
    return builder.root


def _stop(report: Report, at: At, message: str) -> None:
    report(FileProblem(at, message))
    raise Broken


@dataclass
class _Open:
    """A mapping or list that is being read; `key` is the mapping key that waits for its value."""

    made: Marked
    key: tuple[str, At] | None = None


@dataclass
class _Builder:
    """Takes parser events, one by one, and keeps the open collections on a stack."""

    path: str
    report: Report
    stack: list[_Open] = field(default_factory=list[_Open])
    documents: int = 0
    _root: Marked | None = None

    @property
    def root(self) -> Marked:
        if self._root is None:
            raise Broken
        return self._root

    def take(self, event: Any) -> None:
        at = At(self.path, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                _stop(self.report, at, "a second document starts here; a file holds one graph")
        elif isinstance(event, yaml.AliasEvent):
            self._say(at, f"*{event.anchor} is an alias; write the value out, or make it a parameter")
            self._put(None, at)
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, at)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()

    def _node(self, event: Any, at: At) -> None:
        if event.anchor is not None:
            self._say(at, f"&{event.anchor} is an anchor; write the value out, or make it a parameter")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._say(at, f"{tag} is a tag; graph files hold plain values only")
        if isinstance(event, yaml.ScalarEvent):
            self._put(scalar(event.value) if event.implicit[0] else event.value, at, event.value)
            return
        if len(self.stack) >= DEEPEST:
            _stop(self.report, at, f"nested more than {DEEPEST} deep")
        made = self._put({} if isinstance(event, yaml.MappingStartEvent) else [], at)
        self.stack.append(_Open(made))

    def _put(self, value: Any, at: At, text: str | None = None) -> Marked:
        """Place a value into the innermost open collection; in a mapping every other one is a key."""
        if not self.stack:
            self._root = Marked(value, at, at)
            return self._root
        top = self.stack[-1]
        if isinstance(top.made.value, list):
            made = Marked(value, at, at)
            top.made.value.append(made)
            return made
        if top.key is None:
            top.key = (self._key_name(top.made.value, text, at), at)
            return Marked(value, at, at)
        name, key = top.key
        top.key = None
        made = Marked(value, at, key)
        top.made.value.setdefault(name, made)
        return made

    def _key_name(self, mapping: dict[str, Marked], text: str | None, at: At) -> str:
        if text is None:
            self._say(at, "a key is a plain name, not a list or a mapping")
        elif text == "<<":
            self._say(at, "<< merges another mapping; use extends: to build on a file")
        elif text in mapping:
            first = mapping[text].key
            self._say(at, f"{text!r} is written twice; the first is at line {first.line}")
        return text or ""

    def _say(self, at: At, message: str) -> None:
        self.report(FileProblem(at, message))
