"""Sweep files: a graph, parameters with their values, data and outputs, in YAML.

tokenloom: 1
title: How few tokens VisionZip can do with
graph: visionzip
data: questions.jsonl
params: {keep: [16, 32, 54], targets: [5, 10]}
kl: true
outputs: {rows: visionzip.jsonl, parquet: visionzip.parquet, plot: visionzip.png}
plot: {x: flops, y: kl}

Paths start at the file's folder; `graph` and `base` may also be names of built-in graphs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import GraphError, did_you_mean
from ..excerpt import FileProblem, GraphFileError, source_lines
from ..layers import VERSION, kind_text, locate
from ..scoring import RULES
from ..yamltree import MOST_BYTES, Broken, Marked, decode, tree
from .summary import COSTS, QUALITIES

TOP = ("tokenloom", "title", "graph", "data", "params", "kl", "base", "score", "limit", "outputs", "plot")
OUTPUTS = ("rows", "parquet", "plot")


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """What a sweep file says. params: lists are axes. None: it does not say."""

    graph: str
    title: str = ""
    data: Path | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kl: bool = False
    base: str | None = None
    score: str = "exact"
    limit: int | None = None
    rows: Path | None = None
    parquet: Path | None = None
    plot: Path | None = None
    x: str = "tokens"
    y: str | None = None


def is_sweep_file(name: str) -> bool:
    """Whether a word names a sweep file, rather than a graph: its top has `graph`."""
    if not name.endswith((".yaml", ".yml")) or not os.path.isfile(name):
        return False
    try:
        top = tree(name, _text(name, []), lambda problem: None).value
    except Broken:
        return False
    return isinstance(top, dict) and "graph" in top


def read_sweep_file(path: str) -> SweepFile:
    """The sweep of a file. Errors: GraphFileError with every mistake, its place, line and suggestion."""
    problems: list[FileProblem] = []
    text = ""
    try:
        text = _text(path, problems)
        found = _Reader(path, problems).read(tree(path, text, problems.append))
    except Broken:
        found = None
    if problems or found is None:
        raise GraphFileError(problems, {path: source_lines(text)})
    return found


def _text(path: str, problems: list[FileProblem]) -> str:
    try:
        with open(path, "rb") as file:
            return decode(path, file.read(MOST_BYTES + 1), problems.append)
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror}") from None


@dataclass
class _Reader:
    """Checks the keys one by one; mistakes are noted."""

    path: str
    problems: list[FileProblem]

    def read(self, root: Marked) -> SweepFile | None:
        if not isinstance(root.value, dict):
            self._say(root, "a sweep file is a mapping that starts with 'tokenloom: 1'")
            return None
        top: dict[str, Marked] = root.value
        self._known(top, TOP, "at the top of a sweep file")
        version = top.get("tokenloom")
        if version is None or version.value != VERSION:
            self._say(
                version or root, "the version is missing or unknown: a sweep file starts with 'tokenloom: 1'"
            )
        outputs, plot = self._section(top, "outputs", OUTPUTS), self._section(top, "plot", ("x", "y"))
        graph = self._graph(top, "graph")
        return SweepFile(
            graph=graph or "",
            title=self._typed(top, "title", str, "a text") or "",
            data=self._path(top, "data"),
            params={name: self._plain(name, value) for name, value in self._mapping(top, "params").items()},
            kl=bool(self._typed(top, "kl", bool, "true or false")),
            base=self._graph(top, "base"),
            score=self._one_of(top, "score", tuple(RULES)) or "exact",
            limit=self._typed(top, "limit", int, "a number of items"),
            rows=self._path(outputs, "rows"),
            parquet=self._path(outputs, "parquet"),
            plot=self._path(outputs, "plot"),
            x=self._one_of(plot, "x", tuple(COSTS)) or "tokens",
            y=self._one_of(plot, "y", tuple(QUALITIES)),
        )

    def _say(self, value: Marked, message: str) -> None:
        self.problems.append(FileProblem(value.at, message))

    def _known(self, mapping: Mapping[str, Marked], known: tuple[str, ...], where: str) -> None:
        for name, value in mapping.items():
            if name not in known:
                self.problems.append(
                    FileProblem(value.key, f"{name!r} is not known {where}{did_you_mean(name, known)}")
                )

    def _mapping(self, top: Mapping[str, Marked], name: str) -> dict[str, Marked]:
        value = top.get(name)
        if value is None or value.value is None:
            return {}
        if not isinstance(value.value, dict):
            self._say(value, f"{name}: wants a mapping by name, got {kind_text(value)}")
            return {}
        found: dict[str, Marked] = value.value
        return found

    def _section(self, top: Mapping[str, Marked], name: str, known: tuple[str, ...]) -> dict[str, Marked]:
        found = self._mapping(top, name)
        self._known(found, known, f"in {name}")
        return found

    def _typed(self, top: Mapping[str, Marked], name: str, kind: type[Any], wanted: str) -> Any:
        value = top.get(name)
        if value is None or value.value is None:
            return None
        if type(value.value) is not kind or (kind is int and value.value < 1):
            self._say(value, f"{name}: wants {wanted}, got {kind_text(value)}")
            return None
        return value.value

    def _one_of(self, top: Mapping[str, Marked], name: str, known: tuple[str, ...]) -> str | None:
        found: str | None = self._typed(top, name, str, " or ".join(known))
        if found is not None and found not in known:
            self._say(top[name], f"{name}: {found!r} is not one of {', '.join(known)}{_meant(found, known)}")
        return found

    def _path(self, top: Mapping[str, Marked], name: str) -> Path | None:
        found: str | None = self._typed(top, name, str, "the name of a file")
        if not found:
            return None
        return Path(os.path.relpath(os.path.join(os.path.dirname(self.path), found)))

    def _graph(self, top: Mapping[str, Marked], name: str) -> str | None:
        """A graph file beside this one, or a built-in graph."""
        found: str | None = self._typed(top, name, str, "a graph file or a built-in graph")
        if found is None:
            return None
        beside = os.path.join(os.path.dirname(self.path), found)
        try:
            return beside if os.path.isfile(beside) else locate(found)
        except GraphError as error:
            self._say(top[name], str(error))
            return None

    def _plain(self, name: str, value: Marked) -> Any:
        if isinstance(value.value, dict):
            self._say(value, f"params.{name}: wants a value or a list of values, got a mapping")
            return None
        return (
            [self._plain(name, one) for one in value.value] if isinstance(value.value, list) else value.value
        )


def _meant(name: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(name, known)
    return hint if "did you mean" in hint else ""
