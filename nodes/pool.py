"""Fewer tokens by pooling neighbours of the grid (PLLaVA, LLaVA-OneVision)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, TypeVar

from ..runtime import pooling
from ..runtime.context import current
from ..runtime.errors import WiringError
from ..runtime.foreseen import KnownTokens
from ..runtime.models.handle import Model
from ..runtime.models.projector import Projector
from ..runtime.node import node
from ..runtime.pooling import Method, Pooling
from ..runtime.values import Tokens
from ..runtime.widgets import Range

TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(
    tokens: KnownTokens | None,
    projector: Model[Projector] | None = None,
    *,
    grid: tuple[int, int] | None,
    frames: int | None,
    method: Method,
) -> KnownTokens | None:
    own: tuple[int, int] | None = None
    if grid is None:
        if projector is None and "projector" in current().wired:
            return None
        own = _own(projector)
    notes = () if grid is not None else (_told(own),)
    if own is None and frames is None and grid is None:
        return None if tokens is None else replace(tokens, notes=(*tokens.notes, *notes))
    size = grid or own or (None if tokens is None else tokens.patches)
    if size is None:
        return None
    how = Pooling(grid=size, frames=frames, method=method)
    how.check("pool_tokens")
    if tokens is None:
        return None
    return pooling.foreseen("pool_tokens", replace(tokens, notes=(*tokens.notes, *notes)), how)


@node(version=1, foresee=_foresee)
def pool_tokens(
    tokens: TokensT,
    projector: Model[Projector] | None = None,
    *,
    grid: tuple[int, int] | None = None,
    frames: Annotated[int, Range(1)] | None = None,
    method: Method = "average",
) -> TokensT:
    """Every tile's patches pooled to `grid`, tile by tile, row by row; each token stands for its window.

    Windows may overlap where the grid does not divide. Side channels are pooled likewise. Errors:
    WiringError for tokens that are not whole grids of patches; BudgetError for a grid larger than they are.
    Source: PLLaVA, sec. 3.3, and its released code; LLaVA-OneVision's released code (bilinear, 27 to 14).

    tokens: all patches of every tile, before or after the projector.
    projector: of the checkpoint whose own grid is meant; asked only when grid is null.
    grid: rows and columns of tokens that stay per frame or tile; null: the checkpoint's pooling_shape
        (PLLaVA: 12 x 12), and no pooling for a checkpoint without one.
    frames: moments that stay, all tiles being one clip; null: no pooling in time.
    method: `average`: the mean of each window (AdaptiveAvgPool3d); `bilinear`: interpolated at its middle.
    """
    own = _own(projector) if grid is None else None
    if own is None and grid is None and frames is None:
        return tokens
    size = grid or own or (tokens.source.rows, tokens.source.cols)
    how = Pooling(grid=size, frames=frames, method=method)
    pooling.check_whole("pool_tokens", tokens, how)
    return pooling.pooled(tokens, how)


def _own(projector: Model[Projector] | None) -> tuple[int, int] | None:
    """The checkpoint's grid, None: it has none. Errors: WiringError when there is nobody to ask."""
    if projector is None or projector.facts.image is None:
        raise WiringError(
            "pool_tokens.grid: null is the checkpoint's own grid, but no projector of a checkpoint is wired; "
            "wire projector (load_model's), or set grid, e.g. [12, 12]"
        )
    return projector.facts.image.pooling


def _told(own: tuple[int, int] | None) -> str:
    """What a plan says of a grid that was left to the checkpoint."""
    if own is None:
        return "no pooling: the checkpoint has no pooling_shape"
    return f"grid {own[0]} x {own[1]}: the checkpoint's pooling_shape"
