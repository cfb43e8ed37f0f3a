"""tokenloom: typed node graphs for visual token compression in vision-language models."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runtime.compare.api import compare as compare
    from .runtime.context import demand as demand
    from .runtime.graph import Graph as Graph
    from .runtime.live.compress import compress as compress
    from .runtime.mapping.api import map as map
    from .runtime.needs import Needs as Needs
    from .runtime.node import node as node
    from .runtime.plan import plan as plan
    from .runtime.run import execute as execute
    from .runtime.run import run as run
    from .runtime.sweep.api import sweep as sweep
    from .runtime.version import __version__ as __version__
    from .runtime.widgets import Range as Range
    from .runtime.yamlfile import load as load

if __name__ != "tokenloom" and "tokenloom" not in sys.modules:
    # loaded by ComfyUI or pytest under another name: be the only copy (`from tokenloom import nodes` too)
    sys.modules["tokenloom"] = sys.modules[__name__]
    __name__ = "tokenloom"

_WHERE = {
    "Graph": ".runtime.graph",
    "Needs": ".runtime.needs",
    "Range": ".runtime.widgets",
    "__version__": ".runtime.version",
    "compare": ".runtime.compare.api",
    "compress": ".runtime.live.compress",
    "demand": ".runtime.context",
    "execute": ".runtime.run",
    "load": ".runtime.yamlfile",
    "map": ".runtime.mapping.api",
    "node": ".runtime.node",
    "plan": ".runtime.plan",
    "run": ".runtime.run",
    "sweep": ".runtime.sweep.api",
}
__all__ = [  # not `map`: a star must not hide Python's own
    "Graph",
    "Needs",
    "Range",
    "compare",
    "compress",
    "demand",
    "execute",
    "load",
    "node",
    "plan",
    "run",
    "sweep",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import tokenloom` stays instant."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name], "tokenloom"), name)
    globals()[name] = value
    return value
