"""Reading a side channel, with an error that says how to get it."""

from __future__ import annotations

from torch import Tensor

from .errors import NeedError
from .needs import Need
from .values import LLMState, Tokens


def channel(where: str, value: Tokens | LLMState, need: Need) -> Tensor:
    """The side channel [N, ...] of tokens, [S, ...] of a state; else a NeedError after `where`."""
    if need.key in value.side:
        return value.side[need.key]
    what, verb = ("tokens carry", "encode") if isinstance(value, Tokens) else ("state carries", "prefill")
    carried = ", ".join(sorted(value.side)) or "none"
    raise NeedError(
        f"{where}: the {what} no {need.key} (side channels: {carried}); a graph asks for it by itself, "
        f"in an eager call {verb} inside `with demand({_call(need)})`"
    )


def _call(need: Need) -> str:
    layer = "" if need.layer is None else f", layer={need.layer}"
    rows = "" if need.rows is None else f", rows={need.rows!r}"
    form = "" if need.form is None else f", form={need.form!r}"
    return f'Need("{need.channel}"{layer}{rows}{form})'
