"""What a graph is, in short: title, what it extends, what it takes, and whose weights it runs on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import GraphError
from .graph import Graph
from .layers import builtin_graphs, locate
from .widgets import MISSING
from .yamlfile import load

EXTENDS = re.compile(r"^(extends:\s*)(\S+)", re.MULTILINE)
DEFAULT = re.compile(r"(\bdefault:\s*)([^\s,{}\[\]\"']+)")
# which node says what a graph takes
INPUTS = {"load_image": "pictures", "load_video": "a clip", "load_media": "pictures or a clip"}
FOLDERS = ("", "mixes", "seen", "base")  # of built-in graphs, in the order of a list


@dataclass(frozen=True)
class About:
    """A graph in short.

    why: the comment that its file starts with. extends: the graph under it, and the one under that, as names.
    checkpoint: the default, "" when a run must give one, None when no parameter is called so.
    """

    name: str
    path: str
    graph: Graph
    why: str
    extends: tuple[str, ...]
    inputs: str
    checkpoint: str | None

    @property
    def weights(self) -> str:
        """The default checkpoint, or what a run must say."""
        return {None: "-", "": "needs checkpoint="}.get(self.checkpoint, self.checkpoint or "")


def about(name: str) -> About:
    """A built-in graph, or a graph file. Errors: GraphError with a suggestion; GraphFileError."""
    path = locate(name)
    graph = load(path)
    param = graph.params.get("checkpoint")
    checkpoint = None if param is None else "" if param.default in (MISSING, None) else str(param.default)
    kinds = dict.fromkeys(step.type.name for step in graph.steps.values())
    inputs = " and ".join(text for kind, text in INPUTS.items() if kind in kinds) or "-"
    text = Path(path).read_text(encoding="utf-8")
    return About(known_name(path) or name, path, graph, _why(text), _chain(path), inputs, checkpoint)


def listed() -> list[str]:
    """Names of the built-in graphs: methods and models, then mixes, those with pictures, and bases."""
    names = builtin_graphs()
    return sorted(names, key=lambda name: (_folder(name), name))


def own_copy(name: str) -> str:
    """A graph's file as text that may lie anywhere: built-in graphs by name, sample media by whole path."""
    path = locate(name)
    folder = os.path.dirname(os.path.abspath(path))
    text = EXTENDS.sub(lambda m: m[1] + _named(folder, m[2]), Path(path).read_text(encoding="utf-8"))
    return DEFAULT.sub(lambda m: m[1] + _whole(folder, m[2]), text)


def known_name(path: str) -> str | None:
    """The name of the built-in graph in this file."""
    real = os.path.realpath(path)
    return next((name for name, file in builtin_graphs().items() if os.path.realpath(file) == real), None)


def _folder(name: str) -> int:
    folder = name.rpartition("/")[0]
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


def _why(text: str) -> str:
    """The comment at the top of a file, in one line."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _chain(path: str) -> tuple[str, ...]:
    out: list[str] = []
    while (found := EXTENDS.search(Path(path).read_text(encoding="utf-8"))) and len(out) < 20:
        beside = os.path.normpath(os.path.join(os.path.dirname(path), found[2]))
        try:
            path = beside if os.path.isfile(beside) else locate(found[2])
        except GraphError:
            break
        out.append(known_name(path) or path)
    return tuple(out)


def _named(folder: str, target: str) -> str:
    name = known_name(os.path.join(folder, target))
    return f"{name}.yaml" if name else target


def _whole(folder: str, value: str) -> str:
    path = os.path.normpath(os.path.join(folder, value))
    return path if "/" in value and os.path.isfile(path) else value


def stages(graph: Graph) -> Sequence[tuple[str, str, str, str]]:
    """Per step, in the order in which they run: name, node type, what it takes, settings that were given."""
    from .draw import changed

    rows = []
    for name in graph.order():
        step = graph.steps[name]
        sources = ", ".join(
            dict.fromkeys(
                str(getattr(end, "node", None) or f"${getattr(end, 'name', '')}")
                for ends in step.wires.values()
                for end in ends
            )
        )
        rows.append((name, step.type.name, sources, ", ".join(f"{r.name} {r.value}" for r in changed(step))))
    return rows
