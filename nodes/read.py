"""Out of a state again: the visual tokens that it still has."""

from __future__ import annotations

from typing import Annotated

from ..runtime.errors import WiringError
from ..runtime.node import node
from ..runtime.values import LLMState, VisualTokens
from ..runtime.widgets import Range


@node(version=1, lane="gpu")
def read_tokens(state: LLMState, *, wire: Annotated[int, Range(0)] = 0) -> VisualTokens:
    """The tokens behind the visual rows that are left in a state, in order, as they were placed.

    So pruning inside the language model can be drawn, counted, and compared with pruning before it. Errors:
    WiringError for a wire that place_tokens did not have.

    wire: which of the wires into place_tokens, from 0.
    """
    given = state.input.tokens
    if wire >= len(given):
        wires = f"{len(given)} {'wire' if len(given) == 1 else 'wires'}"
        raise WiringError(
            f"read_tokens.wire: {wire}, but {wires} of visual tokens were placed; they count from 0"
        )
    from_wire, token = state.input.wire[state.row], state.input.token[state.row]
    return given[wire].select(token[from_wire == wire])
