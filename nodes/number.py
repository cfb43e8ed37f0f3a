"""Number tokens before some of them go, so that those that stay keep their places in the prompt."""

# N = tokens

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from ..runtime.foreseen import KnownTokens
from ..runtime.node import node
from ..runtime.values import Kind, Tokens

TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(tokens: KnownTokens | None) -> KnownTokens | None:
    return None if tokens is None else replace(tokens, numbered=True)


@node(version=1, foresee=_foresee)
def number_tokens(tokens: TokensT) -> TokensT:
    """The same tokens with side channel `position`: 0, 1, 2, ... in their order, [CLS] at the one after it.

    place_tokens seats them there, whatever has been selected since; what is merged sits at the mean of its
    parts' places. Without it, rows are numbered anew. Nodes that make one token of a group of patches refuse
    numbered ones: number theirs. Source: ours; the released codes number anew.
    """
    counts_N = (tokens.kind != int(Kind.CLS)).long()
    return tokens.with_side(position=(counts_N.cumsum(0) - counts_N).to(torch.float32))
