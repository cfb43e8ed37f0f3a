"""Mistakes in files: `file:line:column: message`, the source line, and a caret under the place."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .errors import GraphError
from .ir import At

WIDEST = 100  # characters of a source line that are shown


@dataclass(frozen=True)
class FileProblem:
    """One mistake and where it stands."""

    at: At
    message: str


class GraphFileError(GraphError):
    """All mistakes of a graph file and of those it builds on, file by file, sorted by line."""

    def __init__(self, problems: Iterable[FileProblem], sources: Mapping[str, Sequence[str]]) -> None:
        files = list(sources)

        def place(problem: FileProblem) -> tuple[int, int, int]:
            at = problem.at
            return (files.index(at.path) if at.path in sources else len(files), at.line, at.column)

        self.problems = tuple(sorted(dict.fromkeys(problems), key=place))
        super().__init__("\n".join(shown(p, sources.get(p.at.path, ())) for p in self.problems))


def source_lines(text: str) -> list[str]:
    """The lines as YAML counts them."""
    return re.split("\r\n|[\r\n\x85\u2028\u2029]", text)


def shown(problem: FileProblem, lines: Sequence[str]) -> str:
    """The message with its source line and caret; the message alone when the line is not known."""
    return "\n".join([f"{problem.at}: {problem.message}", *excerpt(problem.at, lines)])


def excerpt(at: At, lines: Sequence[str]) -> list[str]:
    """The source line and a caret under the place; nothing when the line is not known."""
    if not 0 < at.line <= len(lines) or not lines[at.line - 1].strip():
        return []
    line, column = lines[at.line - 1], at.column - 1
    start = max(0, column - WIDEST * 3 // 4) if len(line) > WIDEST else 0
    line, column = line[start : start + WIDEST].rstrip(), column - start
    return [f"    {line}", f"    {''.join(map(_blank, line[:column].ljust(column)))}^"]


def _blank(char: str) -> str:
    """White space as wide as the character is on a terminal."""
    if char == "\t":
        return char
    if unicodedata.combining(char):
        return ""
    return "  " if unicodedata.east_asian_width(char) in "WF" else " "
