"""Fewer tokens by pooling neighbours of the grid (PLLaVA, LLaVA-OneVision)."""

from __future__ import annotations

from typing import Annotated, TypeVar

from ..runtime import pooling
from ..runtime.foreseen import KnownTokens
from ..runtime.node import node
from ..runtime.pooling import Method, Pooling
from ..runtime.values import Tokens
from ..runtime.widgets import Range

TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(
    tokens: KnownTokens | None, *, grid: tuple[int, int], frames: int | None, method: Method
) -> KnownTokens | None:
    how = Pooling(grid=grid, frames=frames, method=method)
    how.check("pool_tokens")
    return None if tokens is None else pooling.foreseen("pool_tokens", tokens, how)


@node(version=1, foresee=_foresee)
def pool_tokens(
    tokens: TokensT,
    *,
    grid: tuple[int, int] = (12, 12),
    frames: Annotated[int, Range(1)] | None = None,
    method: Method = "average",
) -> TokensT:
    """Every tile's patches pooled to `grid`, tile by tile, row by row; each token stands for its window.

    Windows may overlap where the grid does not divide. Side channels are pooled likewise. Errors:
    WiringError for tokens that are not whole grids of patches; BudgetError for a grid larger than they are.
    Source: PLLaVA, sec. 3.3, and its released code; LLaVA-OneVision's released code (bilinear, 27 to 14).

    tokens: all patches of every tile, before or after the projector.
    grid: rows and columns of tokens that stay per frame or tile.
    frames: moments that stay, all tiles being one clip; null: no pooling in time.
    method: `average`: the mean of each window (AdaptiveAvgPool3d); `bilinear`: interpolated at its middle.
    """
    how = Pooling(grid=grid, frames=frames, method=method)
    pooling.check_whole("pool_tokens", tokens, how)
    return pooling.pooled(tokens, how)
