"""Graph files: `load` a graph from YAML, with every mistake of the file at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .excerpt import GraphFileError as GraphFileError
from .graph import Graph
from .layers import Reader, builtin_graphs, locate
from .yamlgraph import read_graph
from .yamltree import Broken


def load(
    path_or_name: str | Path, text: str | None = None, *, instead: Mapping[str, str] | None = None
) -> Graph:
    """The graph of a file, of a built-in graph (`visionzip`), or of `text` as if it stood at that path.

    Relative paths in the file start at the file's folder. A node of another file (`node: ./branch.yaml`) is
    inlined: its steps are called `branch/...`. instead: built-in graphs by name, and those to extend in their
    place: a method on another model's base.
    Errors: GraphFileError, which lists every mistake with file:line:column, source line and suggestion;
    GraphError when there is no such file.
    """
    path = str(path_or_name) if text is not None else locate(str(path_or_name))
    known = builtin_graphs() if instead else {}
    reader = Reader(instead={os.path.realpath(known[a]): str(known[b]) for a, b in (instead or {}).items()})
    try:
        graph = read_graph(reader, path, text)
    except Broken:
        raise GraphFileError(reader.problems, reader.sources) from None
    reader.stop()
    return graph


def dump(graph: Graph) -> str:
    """The graph as the text of a graph file; `load` reads an equal graph from it."""
    return graph.to_yaml()
