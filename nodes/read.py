"""Out of a state again: the visual tokens that it still has."""

from __future__ import annotations

from typing import Annotated

from ..runtime.errors import WiringError
from ..runtime.node import node
from ..runtime.values import LLMState, VisualTokens
from ..runtime.widgets import Range
from .prefill import known_state


def _foresee(state: object, *, wire: int) -> None:
    known = known_state(state)
    if known is not None and known.wires is not None:
        _check_wire(wire, known.wires)


@node(version=1, lane="gpu", foresee=_foresee)
def read_tokens(state: LLMState, *, wire: Annotated[int, Range(0)] = 0) -> VisualTokens:
    """The tokens behind the visual rows that are left in a state, in order, as they were placed.

    So pruning inside the language model can be drawn, counted, and compared with pruning before it. Errors:
    WiringError for a wire that place_tokens did not have.

    wire: which of the wires into place_tokens, from 0.
    """
    given = state.input.tokens
    _check_wire(wire, len(given))
    from_wire, token = state.input.wire[state.row], state.input.token[state.row]
    return given[wire].select(token[from_wire == wire])


def _check_wire(wire: int, wires: int) -> None:
    if wire >= wires:
        placed = "1 wire of visual tokens was" if wires == 1 else f"{wires} wires of visual tokens were"
        raise WiringError(f"read_tokens.wire: {wire}, but {placed} placed; they count from 0")
