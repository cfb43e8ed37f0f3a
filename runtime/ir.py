"""What a graph is made of: positions, wires, parameters and steps. Plain frozen data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .build import ParamRef
from .node import NodeType
from .widgets import MISSING, Range, Widget


@dataclass(frozen=True)
class At:
    """A place in a file; line and column count from 1."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Wire:
    """One output of one step; `output` is "" for the single, unnamed one."""

    node: str
    output: str = ""

    def __str__(self) -> str:
        return f"{self.node}.{self.output}" if self.output else self.node


@dataclass(frozen=True)
class Param:
    """A value that a run gives: to widgets (`type` is a widget type) or to sockets (a value type)."""

    name: str
    type: Any
    default: Any = MISSING
    bounds: Range | None = None
    help: str = ""
    at: At | None = field(default=None, compare=False)

    @property
    def required(self) -> bool:
        """True when a run must give it."""
        return self.default is MISSING

    @cached_property
    def widget(self) -> Widget | None:
        """How its values are checked; None for a value type, which only sockets take."""
        try:
            widget = Widget.of(self.name, self.type, self.default, self.help)
        except TypeError:
            return None
        return widget if self.bounds is None else replace(widget, bounds=self.bounds)


@dataclass(frozen=True)
class Step:
    """One node of a graph.

    wires: per socket that is connected, one entry (several when variadic, in connection order). widgets:
    those that were given; the others have the node type's defaults. when: false bypasses the step.
    """

    id: str
    type: NodeType[..., Any]
    wires: Mapping[str, tuple[Wire | ParamRef, ...]]
    widgets: Mapping[str, Any]
    when: bool | ParamRef = True
    at: At | None = field(default=None, compare=False)
    device: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Ids of the steps it takes something from, in order, each once."""
        ids = (end.node for ends in self.wires.values() for end in ends if isinstance(end, Wire))
        return tuple(dict.fromkeys(ids))
