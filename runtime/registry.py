"""Where node types are found by name: the built-in ones, entry points, and `--plugin` files."""

from __future__ import annotations

import importlib.util
import sys
import zlib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GraphError, did_you_mean

if TYPE_CHECKING:
    from .node import NodeType

_nodes: dict[str, NodeType[..., Any]] = {}
_loaded: set[str] = set()


def register(node_type: NodeType[..., Any]) -> None:
    """Add a node type; the same name from another place is an error, a reload of the same place is not."""
    old = _nodes.get(node_type.name)
    if old is not None and old.place != node_type.place:
        raise GraphError(
            f"node {node_type.name!r} is defined twice: in {old.place} and in {node_type.place}; rename one"
        )
    _nodes[node_type.name] = node_type


def load_builtin() -> None:
    """Import tokenloom's own nodes and every `tokenloom.nodes` entry point, once."""
    if "builtin" in _loaded:
        return
    import_module("tokenloom.nodes")
    for point in entry_points(group="tokenloom.nodes"):
        if point.value != "tokenloom.nodes":
            try:
                point.load()
            except Exception as error:
                error.add_note(f"while loading the plug-in {point.name!r} ({point.value})")
                raise
    _loaded.add("builtin")


def load_plugin(path: Path) -> None:
    """Import the nodes of a user's own Python file (`--plugin my_nodes.py`)."""
    path = path.resolve()
    if str(path) in _loaded:
        return
    if not path.is_file():
        raise GraphError(f"--plugin {path}: no such file")
    name = f"tokenloom_plugin_{path.stem}_{zlib.crc32(str(path).encode()):08x}"  # two files may share a stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GraphError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        error.add_note(f"while importing --plugin {path}")
        raise
    _loaded.add(str(path))


def all_nodes() -> Mapping[str, NodeType[..., Any]]:
    """Every node type by name."""
    load_builtin()
    return _nodes


def find(name: str) -> NodeType[..., Any]:
    """The node type called `name`, or a GraphError that suggests the nearest."""
    nodes = _nodes if name in _nodes else all_nodes()
    if name not in nodes:
        hint = did_you_mean(name, nodes)
        if "did you mean" not in hint:
            hint = "; `tokenloom nodes` lists all, and --plugin FILE adds those of a file of yours"
        raise GraphError(f"no node is called {name!r}{hint}")
    return nodes[name]
