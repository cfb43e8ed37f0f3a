"""Square groups of patches that become one token: which rows of the tokens they are."""

# G = groups, P = patches of a group

from __future__ import annotations

import torch
from torch import Tensor

from .errors import WiringError
from .foreseen import KnownTokens
from .values import Tokens


def whole_groups(where: str, tokens: Tokens, side: int, *, by_column: bool = False) -> Tensor:
    """[G, P] long: the rows of the patches of each side x side group, row by row.

    Groups come in reading order, or column by column. Whole ones may be missing. Errors: WiringError for
    tokens that are not one patch each, and for groups of which a part is missing.
    """
    source = tokens.source
    row_P = torch.full((len(source),), -1, dtype=torch.long, device=tokens.device)
    if len(tokens.member) == len(tokens) and bool((tokens.count == 1).all()):
        row_P[tokens.member] = torch.arange(len(tokens), device=tokens.device)
    if source.rows % side == 0 == source.cols % side:
        cells = row_P.reshape(-1, source.rows // side, side, source.cols // side, side)
        cells = cells.permute(0, 3, 1, 2, 4) if by_column else cells.transpose(2, 3)
        row_GP = cells.reshape(-1, side**2)
        row_GP = row_GP[(row_GP >= 0).all(1)]
        if row_GP.numel() == len(tokens):
            return row_GP
    raise not_whole(where, f"{len(tokens)} tokens of {source.rows} x {source.cols} patches per tile", side)


def refuse_numbered(where: str, tokens: Tokens | KnownTokens) -> None:
    """A WiringError for tokens that have places in the prompt, of which groups would leave most empty."""
    if tokens.numbered if isinstance(tokens, KnownTokens) else "position" in tokens.side:
        raise WiringError(
            f"{where}.tokens: number_tokens gave them places in the prompt, and one token of several would "
            "sit as far from the next as all of them; put number_tokens behind this node"
        )


def not_whole(where: str, came: str, side: int) -> WiringError:
    """The error for tokens that are not whole groups."""
    return WiringError(
        f"{where}.tokens: {came} are not whole groups of {side} x {side} patches; wire the tower's patches, "
        "and select after this node"
    )
