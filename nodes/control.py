"""Fewer tokens without looking at them: at random, and evenly spaced. What any selection has to beat."""

# N = tokens, K = tiles, M = most tokens of a tile

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import torch
from torch import Tensor

from ..runtime.budget import Short, check_one, varying
from ..runtime.foreseen import KnownPair, KnownTokens
from ..runtime.node import node
from ..runtime.places import heaviest
from ..runtime.spread import along_curve, middles
from ..runtime.values import Tokens
from ..runtime.widgets import Range, Seed
from .select import ClsToken, Picked, best_of, known_pair, picked, rank

Over = Literal["plane", "raster"]
TokensT = TypeVar("TokensT", bound=Tokens)


def _foreseeing(where: str) -> Callable[..., Any]:
    """What a plan knows of the tokens that stay and of the rest; a budget that cannot work is refused."""

    def foresee(
        tokens: KnownTokens | None,
        *,
        keep: int,
        total: int | None,
        ratio: float | None,
        cls_token: ClsToken,
        short: Short,
        **_: object,
    ) -> KnownPair | None:
        check_one(where, total=total, ratio=ratio)
        if tokens is None:
            return None
        if (
            tokens.varies
            and short == "error"
            and (ratio is None or (tokens.cls_token and cls_token == "count"))
        ):
            raise varying(where, "total" if total is not None else "keep" if ratio is None else "ratio")
        return known_pair(where, tokens, None if total is not None else keep, ratio, cls_token, short)

    return foresee


@node(version=1, foresee=_foreseeing("select_random"))
def select_random(
    tokens: TokensT,
    *,
    keep: Annotated[int, Range(0)] = 64,
    total: Annotated[int, Range(0)] | None = None,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    seed: Seed = 0,
    cls_token: ClsToken = "drop",
    short: Short = "error",
) -> Picked[TokensT]:
    """`keep` tokens of each tile drawn at random, and the rest, both in source order.

    Of each tile others: what select_dominant has to beat. Errors: BudgetError when a tile has fewer tokens.

    keep: tokens that stay, per frame or tile.
    total: tokens that stay, all tiles together, instead of `keep`: split evenly, the first tiles get the
        remainder, one each.
    ratio: part of each tile's tokens that stays, rounded down, instead of `keep`.
    seed: of the draw; equal seeds draw the same on every device.
    cls_token: `count`: [CLS] stays and is one of `keep`; `extra`: it stays besides; `drop`: it goes, and is
        not in the rest either.
    short: a tile with fewer tokens than its budget is an `error`, or keeps `fewer`: all it has.
    """
    check_one("select_random", total=total, ratio=ratio)
    # drawn on the CPU, whose generator is the same everywhere; ranks as float64 are exact
    drawn_N = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed)).double()
    return picked(
        "select_random", tokens, best_of(drawn_N.to(tokens.device)), keep, total, ratio, cls_token, short
    )


@node(version=1, foresee=_foreseeing("select_uniform"))
def select_uniform(
    tokens: TokensT,
    *,
    keep: Annotated[int, Range(0)] = 64,
    total: Annotated[int, Range(0)] | None = None,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    over: Over = "plane",
    cls_token: ClsToken = "drop",
    short: Short = "error",
) -> Picked[TokensT]:
    """`keep` evenly spaced tokens of each tile, and the rest, both in source order.

    The middles of equal stretches of the tile's tokens. Errors: BudgetError when a tile has fewer tokens.

    keep: tokens that stay, per frame or tile.
    total: tokens that stay, all tiles together, instead of `keep`: split evenly, the first tiles get the
        remainder, one each.
    ratio: part of each tile's tokens that stays, rounded down, instead of `keep`.
    over: stretches of what: `plane`: a curve that fills the tile, so that rows and columns are met alike;
        `raster`: the order of the tokens, which at some budgets takes whole columns and leaves others out.
    cls_token: `count`: [CLS] stays and is one of `keep`; `extra`: it stays besides; `drop`: it goes, and is
        not in the rest either.
    short: a tile with fewer tokens than its budget is an `error`, or keeps `fewer`: all it has.
    """
    check_one("select_uniform", total=total, ratio=ratio)
    far_N = torch.arange(len(tokens), device=tokens.device) if over == "raster" else _far(tokens)

    def choose(index_KM: Tensor, patch_KM: Tensor, keep_K: Tensor) -> Tensor:
        last = torch.iinfo(torch.long).max
        place_KM = rank(-far_N[index_KM].masked_fill(~patch_KM, last))
        return middles(place_KM, keep_K[:, None], patch_KM.sum(1)[:, None]) & patch_KM

    return picked("select_uniform", tokens, choose, keep, total, ratio, cls_token, short)


def _far(tokens: Tokens) -> Tensor:
    """[N] long: how far along the curve of its tile the patch lies that a token stands for most."""
    source, patch_N = tokens.source, heaviest(tokens)
    place_N = patch_N.clamp_min(0) % source.per_tile
    far_N = along_curve(place_N // source.cols, place_N % source.cols, max(source.rows, source.cols))
    return far_N.masked_fill(patch_N < 0, -1)
