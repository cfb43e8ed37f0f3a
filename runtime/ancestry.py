"""Which files a graph file extends, and which of them is the same model uncompressed."""

from __future__ import annotations

from pathlib import Path

from .errors import GraphError
from .graph import Graph
from .layers import Reader
from .yamlfile import load

BASES = "base"  # the folder of graphs that compress nothing


def extended(path: str) -> list[str]:
    """The files that the graph file at `path` builds on, the nearest first."""
    reader = Reader()
    reader.document(path)
    reader.stop()
    return list(reader.sources)[1:]


def uncompressed(graph: Graph, where: str = "base") -> Graph:
    """The graph that `graph` is compared with: the nearest that it extends in a folder called `base`.

    Where none is in such a folder, the last that it extends. Errors: GraphError, beginning with `where`, for
    a graph that extends nothing, or was not read from a file.
    """
    files = extended(graph.at) if graph.at is not None and Path(graph.at).is_file() else []
    if not files:
        name = graph.at or graph.title or "the graph"
        raise GraphError(
            f"{where}: {name} extends no other graph, so nothing says what it would be uncompressed; name "
            "that graph"
        )
    near = [file for file in files if Path(file).resolve().parent.name == BASES]
    return load(near[0] if near else files[-1])
