"""What plans and runs look up of a node type again and again, read from its signature once."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args, get_origin

from .errors import WiringError
from .fingerprint import Code, fingerprint
from .fit import bare, holds
from .generic import type_of
from .node import NodeType
from .store import storable
from .widgets import type_text

_statics: dict[NodeType[..., Any], Statics] = {}


@dataclass(frozen=True, eq=False)
class Statics:
    """sockets: (name, variadic, required) in order. defaults: when no widget is required, their values.

    named: outputs have names. checks: (field or "", class, type) of what the node returns. has_paths: some
    widgets name files.
    """

    type: NodeType[..., Any]
    sockets: tuple[tuple[str, bool, bool], ...]
    defaults: Mapping[str, Any] | None
    named: bool
    checks: tuple[tuple[str, Any, Any], ...]
    has_needs: bool
    has_paths: bool

    @cached_property
    def code(self) -> Code:
        """The code that decides the node's results."""
        return fingerprint(self.type.fn)

    @cached_property
    def prefix(self) -> str:
        """The part of every key that the node type alone decides."""
        return f"{self.type.name}\0{self.type.version}\0{self.code.digest}"

    def reread(self) -> Code:
        """The code, read again if a module that it lies in was reloaded since."""
        if not self.code.current:
            for name in ("code", "prefix"):
                self.__dict__.pop(name, None)
        return self.code

    def check_output(self, value: Any, where: str, sockets: Mapping[str, Any] | None = None) -> None:
        """A WiringError when a node returns something else than its annotation says.

        sockets: what it was given, which decides its type variables.
        """
        for field, cls, wanted in self.checks:
            one = getattr(value, field) if field else value
            if type(one) is not cls and not holds(one, wanted):
                name = f"{where}.{field}" if field else where
                got, said = type_text(type(one)), type_text(wanted)
                raise WiringError(f"{name}: the node returned {got}, its annotation says {said}")
        if sockets is not None and self.type.generic:
            self._check_generic(value, where, sockets)

    def _check_generic(self, value: Any, where: str, sockets: Mapping[str, Any]) -> None:
        given = {
            s.name: tuple(map(type_of, sockets[s.name] if s.variadic else (sockets[s.name],)))
            for s in self.type.sockets.values()
            if s.generic is not None and s.name in sockets
        }
        for field, wanted in self.type.resolve(given).items():
            one = getattr(value, field) if field else value
            if not holds(one, wanted):
                name = f"{where}.{field}" if field else where
                said = type_text(wanted)
                if same := self.type.echoes.get(field):
                    said += f", the same as {' and '.join(same)}"
                raise WiringError(f"{name}: the node returned {type_text(type(one))}, wanted {said}")


def statics(node: NodeType[..., Any]) -> Statics:
    """The facts of a node type, read once."""
    known = _statics.get(node)
    if known is None:
        known = _statics[node] = _read(node)
    return known


def _read(node: NodeType[..., Any]) -> Statics:
    outputs = node.outputs
    named = "" not in outputs
    if named and isinstance(node.output, type):
        storable(node.output)
    checks = [("", _plain(node.output), node.output)] if named else []
    checks += [(name, _plain(t), bare(t)) for name, t in outputs.items()]
    required = any(widget.required for widget in node.widgets.values())
    return Statics(
        node,
        tuple((s.name, s.variadic, s.required) for s in node.sockets.values()),
        None if required else types.MappingProxyType({w.name: w.default for w in node.widgets.values()}),
        named,
        tuple(checks),
        any(socket.needs for socket in node.sockets.values()),
        any("path" in type_text(widget.type) for widget in node.widgets.values()),
    )


def _plain(t: Any) -> Any:
    """The class that settles the check at once; None when generic arguments must be looked at."""
    t = bare(t)
    return t if isinstance(t, type) and not get_args(t) and get_origin(t) is None else None
