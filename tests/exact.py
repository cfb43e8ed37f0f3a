"""Built-in graphs on the checkpoints with random weights of `tests/data`: small, exact, and never retrained.

`load` and `run` are tokenloom's, but that a graph takes its family's checkpoint when none is given.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenloom
from tokenloom import Graph
from tokenloom.runtime.layers import Reader, builtin_graphs
from tokenloom.runtime.result import Result

FAMILIES = {
    "pvc": "tiny-random-pvc",
    "tokenpacker_hd": "tiny-random-tokenpacker",
    "onevision_image": "tiny-random-onevision",
    "base/internvl2": "tiny-random-internvl2",
    "base/llava15": "tiny-random",
    "base/llava_next": "tiny-random-next",
    "base/onevision": "tiny-random-onevision",
    "base/pllava": "tiny-random-pllava",
    "base/tokenpacker": "tiny-random-tokenpacker",
}


def load(name: str | Path, *, text: str | None = None) -> Graph:
    """The graph; its checkpoint is that of the nearest family, unless a file between names one."""
    graph = tokenloom.load(name, text=text)
    ours = {path.resolve(): FAMILIES[known] for known, path in builtin_graphs().items() if known in FAMILIES}
    param = graph.params.get("checkpoint")
    if param is None or param.at is None:
        return graph
    written = Path(param.at.path)
    for path in map(Path, _files(str(graph.at), text)):
        if path.resolve() in ours:
            graph.params["checkpoint"] = replace(param, default=ours[path.resolve()])
            break
        if path == written:
            break
    return graph


def _files(path: str, text: str | None) -> list[str]:
    """The graph's file and those that it extends."""
    reader = Reader()
    reader.document(path, text)
    return list(reader.sources)


def run(graph: str | Path | Graph, **params: Any) -> Result:
    """The results of a run with that checkpoint."""
    return tokenloom.run(graph if isinstance(graph, Graph) else load(graph), **params)
