"""Keep the tokens that attention points at (VisionZip, sec. 3.2), or those that someone picked by hand."""

# N = tokens, K = tiles, M = most tokens of a tile

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..runtime.budget import PRESETS, Preset, check_one, part_of, per_tile
from ..runtime.channels import channel
from ..runtime.errors import BudgetError, NeedError
from ..runtime.foreseen import KnownPair, KnownTokens
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Kind, Table, Tokens
from ..runtime.widgets import Range

Score = Literal["cls", "received"]
ClsToken = Literal["count", "extra", "drop"]
CHANNEL: dict[Score, str] = {"cls": "cls_attention", "received": "received_attention"}
TokensT = TypeVar("TokensT", bound=Tokens)


class Picked(NamedTuple, Generic[TokensT]):
    """Tokens that stay, and the others, of the class that came in."""

    kept: TokensT
    rest: TokensT


def _foresee(
    tokens: KnownTokens | None,
    *,
    keep: int,
    total: int | None,
    ratio: float | None,
    score: Score,
    cls_token: ClsToken,
    preset: Preset | None,
) -> KnownPair | None:
    check_one("select_dominant", total=total, ratio=ratio, preset=preset)
    if tokens is None:
        return None
    if score == "cls" and tokens.cls_scores is False:
        raise NeedError("select_dominant.score: the tower has no [CLS] token; set score: received")
    unknown = replace(tokens, per_tile=None)
    if tokens.per_tile is None or tokens.cls_token is None or total is not None:
        return KnownPair(kept=unknown, rest=unknown)
    keep = keep if preset is None else PRESETS[preset].keep
    keep = keep if ratio is None else int(ratio * tokens.per_tile)
    special = int(tokens.cls_token)
    _check_budget(tokens.per_tile, special, keep, cls_token)
    kept = keep + (special if cls_token == "extra" else 0)
    rest = tokens.per_tile - kept - (special if cls_token == "drop" else 0)
    stays = tokens.cls_token and cls_token != "drop"
    return KnownPair(
        kept=replace(tokens, per_tile=kept, cls_token=stays),
        rest=replace(tokens, per_tile=rest, cls_token=False),
    )


@node(version=1, foresee=_foresee)
def select_dominant(
    tokens: Annotated[
        TokensT,
        Needs("cls_attention", when={"score": "cls"}),
        Needs("received_attention", when={"score": "received"}),
    ],
    *,
    keep: Annotated[int, Range(0)] = 54,
    total: Annotated[int, Range(0)] | None = None,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    score: Score = "cls",
    cls_token: ClsToken = "count",
    preset: Preset | None = None,
) -> Picked[TokensT]:
    """The `keep` tokens of each tile with the highest attention score, and the rest, both in source order.

    Ties go to the lower position. Errors: BudgetError when a tile has fewer tokens. Source: VisionZip,
    sec. 3.2.

    keep: tokens that stay, per frame or tile.
    total: tokens that stay, all tiles together, instead of `keep`: split evenly, the first tiles get the
        remainder, one each.
    ratio: part of each tile's tokens that stays, rounded down, instead of `keep`.
    score: `cls`: how much [CLS] attends to the token; `received`: how much all do (towers without [CLS]).
    cls_token: `count`: [CLS] stays and is one of `keep`; `extra`: it stays besides; `drop`: it goes, and is
        not in the rest either.
    preset: a published setting by its token count, instead of `keep`: 192, 128, 64 for LLaVA-1.5; 640, 320,
        160 for LLaVA-NeXT.
    """
    check_one("select_dominant", total=total, ratio=ratio, preset=preset)
    score_N = channel(f"select_dominant.score {score!r}", tokens, Need(CHANNEL[score])).float()
    keep = keep if preset is None else PRESETS[preset].keep
    special_N = tokens.kind == int(Kind.CLS)
    index_KM, valid_KM = tokens.by_tile()
    keep_K = per_tile(keep, total, len(tokens.source.tiles), tokens.device)
    keep_K = keep_K if ratio is None else part_of(ratio, valid_KM.sum(1))
    special_KM = special_N[index_KM] & valid_KM
    _check_each(valid_KM.sum(1), special_KM.sum(1), keep_K, cls_token, total)

    first = float("-inf") if cls_token == "drop" else float("inf")
    score_KM = score_N.nan_to_num(nan=float("-inf"))[index_KM]
    score_KM = score_KM.masked_fill(special_KM, first).masked_fill(~valid_KM, float("-inf"))
    if cls_token == "extra":
        keep_K = keep_K + special_KM.sum(1)
    kept_N = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    kept_N[index_KM[(rank(score_KM) < keep_K[:, None]) & valid_KM]] = True
    rest_N = ~kept_N & ~special_N if cls_token == "drop" else ~kept_N
    return Picked(tokens.select(kept_N), tokens.select(rest_N))


def rank(score_KM: Tensor) -> Tensor:
    """[K, M] long: how many of the same row come before, highest first, ties by lower position."""
    order = score_KM.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(score_KM.shape[1], device=score_KM.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)


def _check_each(
    count_K: Tensor, special_K: Tensor, keep_K: Tensor, cls_token: ClsToken, total: int | None
) -> None:
    wrong = (keep_K > count_K - (0 if cls_token == "count" else special_K)) | (
        (keep_K < special_K) & (cls_token == "count")
    )
    if not bool(wrong.any()):
        return
    tile = int(wrong.nonzero()[0, 0])
    where = "" if total is None else f" (tile {tile}'s part of total {total})"
    _check_budget(int(count_K[tile]), int(special_K[tile]), int(keep_K[tile]), cls_token, where)


def _check_budget(count: int, special: int, keep: int, cls_token: ClsToken, part: str = "") -> None:
    """A BudgetError unless `keep` of `count` tokens, of which `special` are [CLS], can stay."""
    most = count - (0 if cls_token == "count" else special)
    if keep > most:
        what = f"{count} tokens per tile" if most == count else f"{most} patches per tile"
        raise BudgetError(f"select_dominant: keep {keep}{part} of {what}; set keep to {most} or less")
    if cls_token == "count" and keep < special:
        raise BudgetError(
            f"select_dominant: keep {keep}{part} of {count} tokens per tile leaves no place for [CLS], which "
            f"counts; set keep to 1 or more, or cls_token: drop"
        )


@node(version=1)
def select_tokens(
    tokens: TokensT, chosen: Table | None = None, *, indices: tuple[int, ...] = (), cls_token: bool = False
) -> Picked[TokensT]:
    """The tokens of the patches picked by hand, in the order given, and all others in source order.

    Errors: BudgetError for a patch that no token stands for alone. Source: VisionZip's chat demo.

    chosen: a table of patch numbers, as `mask_to_indices` makes it; comes before `indices`.
    indices: patch numbers from 0, row by row, tile by tile.
    cls_token: put the [CLS] tokens first.
    """
    numbers = [int(row[0] or 0) for row in chosen.rows] if chosen is not None else []
    wanted = torch.tensor([*numbers, *indices], dtype=torch.long, device=tokens.device)
    row_P = torch.full((len(tokens.source),), -1, dtype=torch.long, device=tokens.device)
    single_N = tokens.count == 1
    row_P[tokens.member[tokens.start[:-1][single_N]]] = single_N.nonzero()[:, 0]
    outside = (wanted < 0) | (wanted >= len(row_P))
    gone = outside | (row_P[wanted.masked_fill(outside, 0)] < 0) if len(row_P) else outside
    if bool(gone.any()):
        bad = int(wanted[gone.nonzero()[0, 0]])
        raise BudgetError(
            f"select_tokens: no token stands for patch {bad} alone; patches are numbered 0..{len(row_P) - 1}"
        )
    head = (tokens.kind == int(Kind.CLS)).nonzero()[:, 0] if cls_token else wanted[:0]
    index = torch.cat([head, row_P[wanted]])
    rest = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    rest[index] = False
    return Picked(tokens.select(index), tokens.select(rest))
