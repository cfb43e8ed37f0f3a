"""Edges: what a node call returns while a graph is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import did_you_mean
from .widgets import type_text

if TYPE_CHECKING:
    from .graph import Graph

building: ContextVar[Graph | None] = ContextVar("tokenloom_building", default=None)


@dataclass(frozen=True)
class ParamRef:
    """`$name`: stands for a graph parameter until a run gives it a value."""

    name: str

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            f"parameter {self.name}: used as a value while the graph is being written, when it has none yet; "
            "put the logic into a node"
        )

    __bool__ = __len__ = __iter__ = __getitem__ = __add__ = __sub__ = __mul__ = __truediv__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __int__ = __float__ = (
        _refuse
    )


@dataclass(frozen=True, eq=False)
class Edge:
    """A promise of one output of one node. `output` is "" for a node with a single, unnamed output.

    A node with named outputs returns an Edge whose `outputs` hold their types: `.kept` or unpacking picks
    one.
    """

    node: str
    output: str
    type: Any
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])

    def __getattr__(self, name: str) -> Edge:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.outputs:
            return Edge(self.node, name, self.outputs[name])
        if self.outputs:
            raise AttributeError(f"{self.node} has no output {name!r}{did_you_mean(name, self.outputs)}")
        raise AttributeError(
            f"{self.node}: .{name} was read while the graph is being written, {self._promise()}"
        )

    def __iter__(self) -> Iterator[Edge]:
        if not self.outputs:
            raise TypeError(f"{self.node} has one output and cannot be unpacked")
        return (Edge(self.node, name, t) for name, t in self.outputs.items())

    def _promise(self) -> str:
        what = " and ".join(self.outputs) if self.outputs else type_text(self.type)
        return f"when it is only a promise of {what}; put the logic into a node"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"{self.node}: used as a value while the graph is being written, {self._promise()}")

    __bool__ = __len__ = __getitem__ = __add__ = __sub__ = __mul__ = __truediv__ = __matmul__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __int__ = __float__ = (
        _refuse
    )
