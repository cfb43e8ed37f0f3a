"""What decides whether rows belong together: hashes of the graph and of the data, versions, device, dtype."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..device import resolve_device, resolve_dtype
from ..errors import GraphError
from ..graph import Graph
from ..layers import builtin_graphs
from .items import Item

SHORT = 16  # hex digits of a hash in a row


def graph_hash(graph: Graph) -> str:
    """Of the graph as it is after `extends` and changed settings, and of the versions of its nodes."""
    kinds = sorted({f"{step.type.name} {step.type.version}" for step in graph.steps.values()})
    return _hash([graph_text(graph), *kinds])


def graph_text(graph: Graph) -> str:
    """The graph as YAML, or, where it holds what only Python can give, its steps as Python writes them."""
    try:
        return graph.to_yaml()
    except GraphError:
        return "\n".join(
            f"{id}: {step.type.name} {step.wires} {step.widgets}" for id, step in graph.steps.items()
        )


def data_hash(items: Sequence[Item]) -> str:
    """Of what the items say, and of the sizes of the files that they name."""
    return _hash([[i.id, i.kind, i.given, i.expected, _sizes(i.params)] for i in items])


def graph_name(graph: Graph) -> str:
    """`visionzip` for a built-in graph, the path of another file, else its title."""
    if graph.at is None:
        return graph.title
    here = os.path.realpath(graph.at)
    known = {os.path.realpath(path): name for name, path in builtin_graphs().items()}
    return known.get(here, graph.at)


def identity(graph: Graph, items: Sequence[Item], device: str, dtype: str) -> dict[str, str]:
    """What all rows of a file have in common."""
    where = resolve_device(device)
    return {
        "graph_hash": graph_hash(graph),
        "data_hash": data_hash(items),
        "device": where.partition(":")[0],
        "dtype": resolve_dtype(dtype, where),
    }


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it; paths as text."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _sizes(params: Mapping[str, Any]) -> list[int]:
    flat = [one for value in params.values() for one in (value if isinstance(value, tuple) else (value,))]
    return [os.path.getsize(one) for one in flat if isinstance(one, Path) and one.is_file()]


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=SHORT // 2).hexdigest()
