"""Keep as many tokens as hold most of the attention: a budget that follows the picture."""

# N = tokens, K = tiles, M = most tokens of a tile

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor

from ..runtime.channels import channel
from ..runtime.errors import BudgetError
from ..runtime.foreseen import KnownPair, KnownTokens
from ..runtime.mass import heaviest
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Kind, Tokens
from ..runtime.widgets import Range
from .select import CHANNEL, Picked, Score, check_score, known_pair, rank

Over = Literal["tile", "all"]
TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(
    tokens: KnownTokens | None,
    *,
    mass: float,
    least: int,
    most: int | None,
    over: Over,
    score: Score,
    cls_token: Literal["stay", "drop"],
) -> KnownPair | None:
    _check(least, most)
    if tokens is None:
        return None
    check_score("select_by_mass", tokens, score)
    pair = known_pair("select_by_mass", tokens, None, None, "extra" if cls_token == "stay" else "drop")
    return KnownPair(kept=replace(pair.kept, varies=True), rest=replace(pair.rest, varies=True))


@node(version=1, foresee=_foresee)
def select_by_mass(
    tokens: Annotated[
        TokensT,
        Needs("cls_attention", when={"score": "cls"}),
        Needs("received_attention", when={"score": "received"}),
    ],
    *,
    mass: Annotated[float, Range(0, 1)] = 0.95,
    least: Annotated[int, Range(0)] = 1,
    most: Annotated[int, Range(0)] | None = None,
    over: Over = "tile",
    score: Score = "cls",
    cls_token: Literal["stay", "drop"] = "stay",
) -> Picked[TokensT]:
    """The fewest tokens that hold `mass` of their attention, and the rest, both in source order.

    An adaptive budget: a picture with one thing in it keeps few tokens, a crowded one many. Ties go to the
    lower position. Errors: BudgetError for `least` above `most`. Source: ours, on VisionZip's scores.

    mass: part of the attention of the patches, [CLS] itself left out, that the tokens hold together.
    least: tokens that stay of every tile at least, as far as there are so many; [CLS] does not count.
    most: tokens that stay of every tile at most; [CLS] does not count.
    over: `tile`: each tile by itself; `all`: of all tiles together, so that one may keep more than another.
    score: `cls`: how much [CLS] attends to the token; `received`: how much all do (towers without [CLS]).
    cls_token: [CLS], where the tokens have it, shall `stay`, or `drop`: it is not in the rest either.
    """
    _check(least, most)
    score_N = channel(f"select_by_mass.score {score!r}", tokens, Need(CHANNEL[score])).float()
    special_N = tokens.kind == int(Kind.CLS)
    kept_N = _kept(tokens, score_N, ~special_N & (tokens.count > 0), mass, least, most, over)
    if cls_token == "stay":
        return Picked(tokens.select(kept_N | special_N), tokens.select(~kept_N & ~special_N))
    return Picked(tokens.select(kept_N), tokens.select(~kept_N & ~special_N))


def _kept(
    tokens: Tokens, score_N: Tensor, counts_N: Tensor, mass: float, least: int, most: int | None, over: Over
) -> Tensor:
    """[N] bool: of those that count, the tokens that stay."""
    index_KM, valid_KM = tokens.by_tile()
    valid_KM = valid_KM & counts_N[index_KM]
    score_KM = score_N[index_KM]
    rows = (1, -1) if over == "all" else score_KM.shape
    kept_KM = heaviest(score_KM.reshape(rows), valid_KM.reshape(rows), mass).reshape(score_KM.shape)
    place_KM = rank(score_KM.nan_to_num(nan=-torch.inf).masked_fill(~valid_KM, -torch.inf))
    kept_KM = kept_KM | (place_KM < least)
    if most is not None:
        kept_KM = kept_KM & (place_KM < most)
    kept_N = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    kept_N[index_KM[kept_KM & valid_KM]] = True
    return kept_N


def _check(least: int, most: int | None) -> None:
    if most is not None and least > most:
        raise BudgetError(f"select_by_mass: least {least} is above most {most}; lower one or raise the other")
