"""Nodes that fail, each in its own way, and graphs with them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from tokenloom import Graph, load, node
from tokenloom.runtime.errors import MediaError
from tokenloom.runtime.events import Event, NodeCached, NodeDone
from tokenloom.runtime.values import Tokens

T = TypeVar("T", bound=Tokens)
PICTURE = Path(__file__).parents[3] / "examples" / "media" / "shapes.png"
TINY = {"checkpoint": "tiny-random", "question": "What is it?", "max_new_tokens": 4}


@node
def cmp_broken(tokens: T) -> T:
    """Never gives anything."""
    raise MediaError("cmp_broken: no luck; try another")


def broken(name: str, taker: str = "visual.tokens", sender: str = "merged") -> Graph:
    """A bundled graph that fails on the way from `sender` to `taker`."""
    graph = load(name)
    graph.add(cmp_broken, (graph[sender],), id="broken")
    graph.connect("broken", taker)
    return graph


class Seen:
    """A subscriber that keeps the types of what was executed, and the ids of what came from the cache."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.cached: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, NodeDone):
            self.done.append(event.type)
        elif isinstance(event, NodeCached):
            self.cached.append(event.node)
