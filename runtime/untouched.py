"""Nodes never write into their inputs, which others hold too; this notices when one does.

torch counts the in-place writes to every tensor. What numpy writes through a shared array it does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from .models.handle import Model
from .store import tensors_of

_PLAIN = (int, float, str, bool, type(None), Model)


class Stamp(NamedTuple):
    """A tensor of an input, and how often it had been written to."""

    socket: str
    tensor: Tensor
    version: int


def stamps(sockets: Mapping[str, Any]) -> list[Stamp]:
    """One for every tensor that the inputs hold."""
    return [
        Stamp(name, tensor, tensor._version)
        for name, value in sockets.items()
        if not isinstance(value, _PLAIN)
        for tensor in tensors_of(value)
        if not tensor.is_inference()  # these have no counter
    ]


def touched(before: list[Stamp]) -> str | None:
    """The first socket whose tensors were written to since; None when all are as they were."""
    for socket, tensor, version in before:
        if tensor._version != version:
            return socket
    return None
