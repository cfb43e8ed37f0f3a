"""Reading a side channel, with an error that says how to get it."""

from __future__ import annotations

from torch import Tensor

from .errors import NeedError
from .needs import Need
from .values import Tokens


def channel(where: str, tokens: Tokens, need: Need) -> Tensor:
    """The side channel [N, ...] of `tokens`, or a NeedError that starts with `where`."""
    if need.key in tokens.side:
        return tokens.side[need.key]
    carried = ", ".join(sorted(tokens.side)) or "none"
    raise NeedError(
        f"{where}: the tokens carry no {need.key} (side channels: {carried}); a graph asks for it by itself, "
        f"in an eager call encode inside `with demand({_call(need)})`"
    )


def _call(need: Need) -> str:
    layer = "" if need.layer is None else f", layer={need.layer}"
    rows = "" if need.rows is None else f", rows={need.rows!r}"
    return f'Need("{need.channel}"{layer}{rows})'
