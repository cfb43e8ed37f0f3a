"""Keep the tokens that attention points at (VisionZip, sec. 3.2)."""

# N = tokens, K = tiles, M = most tokens of a tile

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..runtime.budget import (
    PRESETS,
    USUAL,
    Preset,
    Short,
    check_one,
    in_proportion,
    part_of,
    per_tile,
    told_of,
    varying,
)
from ..runtime.channels import channel
from ..runtime.errors import BudgetError, NeedError
from ..runtime.foreseen import KnownPair, KnownTokens
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Kind, Tokens
from ..runtime.widgets import Range

Score = Literal["cls", "received"]
ClsToken = Literal["count", "extra", "drop"]
CHANNEL: dict[Score, str] = {"cls": "cls_attention", "received": "received_attention"}
TokensT = TypeVar("TokensT", bound=Tokens)
Choose = Callable[[Tensor, Tensor, Tensor], Tensor]


class Picked(NamedTuple, Generic[TokensT]):
    """Tokens that stay, and the others, of the class that came in."""

    kept: TokensT
    rest: TokensT


def _foresee_dominant(
    tokens: KnownTokens | None,
    *,
    keep: int | None,
    total: int | None,
    ratio: float | None,
    score: Score,
    cls_token: ClsToken,
    preset: Preset | None,
    short: Short = "error",
) -> KnownPair | None:
    check_one("select_dominant", total=total, ratio=ratio, preset=preset)
    if tokens is None:
        return None
    check_score("select_dominant", tokens, score)
    if tokens.varies and short == "error" and (ratio is None or (tokens.cls_token and cls_token == "count")):
        name = "total" if total is not None else "keep" if ratio is None else "ratio"
        raise varying("select_dominant", name)
    keep = keep if preset is None else PRESETS[preset].keep
    if keep is None and total is None and ratio is None and tokens.patches is not None:
        patches = tokens.patches[0] * tokens.patches[1]
        keep = in_proportion(USUAL.keep, patches)
        tokens = replace(tokens, notes=(*tokens.notes, told_of("keep", keep, USUAL.keep, patches)))
    return known_pair("select_dominant", tokens, None if total is not None else keep, ratio, cls_token, short)


def check_score(where: str, tokens: KnownTokens, score: Score) -> None:
    """A NeedError for scores of a [CLS] token that the tower does not have."""
    if score == "cls" and tokens.cls_scores is False:
        raise NeedError(f"{where}.score: the tower has no [CLS] token; set score: received")


def known_pair(
    where: str,
    tokens: KnownTokens,
    keep: int | None,
    ratio: float | None,
    cls_token: ClsToken,
    short: Short = "error",
) -> KnownPair:
    """What is known of the tokens that are chosen and of the rest, of which neither is whole any more.

    keep: of each tile; None: not known, or a `ratio` says it. Errors: BudgetError for more than there are.
    """
    stays = cls_token != "drop" and tokens.cls_token
    some = replace(tokens, per_tile=None, grid=False, complete=False)
    kept, rest = replace(some, cls_token=stays), replace(some, cls_token=False)
    if ratio is not None:
        keep = None if tokens.per_tile is None else int(ratio * tokens.per_tile)
    if tokens.cls_token is None or keep is None:
        return KnownPair(kept=kept, rest=rest)
    if tokens.per_tile is None:
        if short == "error":  # so many, or a tile of this size has too few
            kept = replace(kept, per_tile=keep + (cls_token == "extra" and tokens.cls_token))
        return KnownPair(kept=kept, rest=rest)
    special = int(tokens.cls_token)
    if short == "fewer":
        keep = min(keep, tokens.per_tile - (0 if cls_token == "count" else special))
    _check_budget(where, tokens.per_tile, special, keep, cls_token)
    left = keep + (special if cls_token == "extra" else 0)
    others = tokens.per_tile - left - (special if cls_token == "drop" else 0)
    return KnownPair(kept=replace(kept, per_tile=left), rest=replace(rest, per_tile=others))


@node(version=1, foresee=_foresee_dominant)
def select_dominant(
    tokens: Annotated[
        TokensT,
        Needs("cls_attention", when={"score": "cls"}),
        Needs("received_attention", when={"score": "received"}),
    ],
    *,
    keep: Annotated[int, Range(0)] | None = None,
    total: Annotated[int, Range(0)] | None = None,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    score: Score = "cls",
    cls_token: ClsToken = "count",
    preset: Preset | None = None,
    short: Short = "error",
) -> Picked[TokensT]:
    """The `keep` tokens of each tile with the highest attention score, and the rest, both in source order.

    Ties go to the lower position. Errors: BudgetError when a tile has fewer tokens. Source: VisionZip,
    sec. 3.2.

    keep: tokens that stay, per frame or tile; null: 54 of every 576 patches, in proportion.
    total: tokens that stay, all tiles together, instead of `keep`: split evenly, the first tiles get the
        remainder, one each.
    ratio: part of each tile's tokens that stays, rounded down, instead of `keep`.
    score: `cls`: how much [CLS] attends to the token; `received`: how much all do (towers without [CLS]).
    cls_token: `count`: [CLS] stays and is one of `keep`; `extra`: it stays besides; `drop`: it goes, and is
        not in the rest either.
    preset: a published setting by its token count, instead of `keep`: 192, 128, 64 for LLaVA-1.5; 640, 320,
        160 for LLaVA-NeXT.
    short: a tile with fewer tokens than its budget is an `error`, or keeps `fewer`: all it has.
    """
    check_one("select_dominant", total=total, ratio=ratio, preset=preset)
    keep = keep if preset is None else PRESETS[preset].keep
    keep = in_proportion(USUAL.keep, tokens.source.per_tile) if keep is None else keep
    return _highest("select_dominant", tokens, keep, total, ratio, score, cls_token, short)


def _highest(
    where: str,
    tokens: TokensT,
    keep: int,
    total: int | None,
    ratio: float | None,
    score: Score,
    cls_token: ClsToken,
    short: Short = "error",
) -> Picked[TokensT]:
    """As select_dominant has it; `where` begins the messages."""
    score_N = channel(f"{where}.score {score!r}", tokens, Need(CHANNEL[score])).float()
    return picked(where, tokens, best_of(score_N), keep, total, ratio, cls_token, short)


def best_of(score_N: Tensor) -> Choose:
    """Chooses the patches with the highest scores; nan is lowest, ties go to the lower position."""
    low = torch.finfo(score_N.dtype).min
    score_N = score_N.nan_to_num(nan=low, neginf=low)

    def choose(index_KM: Tensor, patch_KM: Tensor, keep_K: Tensor) -> Tensor:
        place_KM = rank(score_N[index_KM].masked_fill(~patch_KM, -torch.inf))
        return (place_KM < keep_K[:, None]) & patch_KM

    return choose


def picked(
    where: str,
    tokens: TokensT,
    choose: Choose,
    keep: int,
    total: int | None,
    ratio: float | None,
    cls_token: ClsToken,
    short: Short,
) -> Picked[TokensT]:
    """The patches of each tile that `choose` takes, [CLS] as `cls_token` says, and the rest, in source order.

    choose: which of [K, M] rows of tokens, which of them are patches, and how many of each tile, [K], to
    [K, M] bool. where: begins the messages. The budget is select_dominant's. Errors: BudgetError.
    """
    special_N = tokens.kind == int(Kind.CLS)
    index_KM, valid_KM = tokens.by_tile()
    keep_K = per_tile(keep, total, len(tokens.source.tiles), tokens.device)
    keep_K = keep_K if ratio is None else part_of(ratio, valid_KM.sum(1))
    special_KM = special_N[index_KM] & valid_KM
    special_K, counts = special_KM.sum(1), cls_token == "count"
    if short == "fewer":
        most_K = valid_KM.sum(1)
        keep_K = keep_K.maximum(special_K) if counts else keep_K
        keep_K = keep_K.minimum(most_K if counts else most_K - special_K)
    _check_each(where, valid_KM.sum(1), special_K, keep_K, cls_token, total)

    patches_K = keep_K - special_K if counts else keep_K
    kept_N = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    kept_N[index_KM[choose(index_KM, valid_KM & ~special_KM, patches_K)]] = True
    if cls_token == "drop":
        return Picked(tokens.select(kept_N), tokens.select(~kept_N & ~special_N))
    return Picked(tokens.select(kept_N | special_N), tokens.select(~kept_N & ~special_N))


def rank(score_KM: Tensor) -> Tensor:
    """[K, M] long: how many of the same row come before, highest first, ties by lower position."""
    order = score_KM.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(score_KM.shape[1], device=score_KM.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)


def _check_each(
    where: str, count_K: Tensor, special_K: Tensor, keep_K: Tensor, cls_token: ClsToken, total: int | None
) -> None:
    wrong = (keep_K > count_K - (0 if cls_token == "count" else special_K)) | (
        (keep_K < special_K) & (cls_token == "count")
    )
    if not bool(wrong.any()):
        return
    tile = int(wrong.nonzero()[0, 0])
    part = "" if total is None else f" (tile {tile}'s part of total {total})"
    _check_budget(where, int(count_K[tile]), int(special_K[tile]), int(keep_K[tile]), cls_token, part)


def _check_budget(
    where: str, count: int, special: int, keep: int, cls_token: ClsToken, part: str = ""
) -> None:
    """A BudgetError unless `keep` of `count` tokens, of which `special` are [CLS], can stay."""
    most = count - (0 if cls_token == "count" else special)
    if keep > most:
        what = f"{count} tokens per tile" if most == count else f"{most} patches per tile"
        raise BudgetError(f"{where}: keep {keep}{part} of {what}; set keep to {most} or less")
    if cls_token == "count" and keep < special:
        raise BudgetError(
            f"{where}: keep {keep}{part} of {count} tokens per tile leaves no place for [CLS], which "
            f"counts; set keep to 1 or more, or cls_token: drop"
        )


def _foresee_top(
    tokens: KnownTokens | None, *, keep: int, score: Score, include_cls: bool
) -> KnownPair | None:
    if tokens is None:
        return None
    check_cls("select_top", include_cls, tokens.cls_token, tokens.cls_scores)
    check_score("select_top", tokens, score)
    if tokens.varies:
        raise varying("select_top", "keep", "use select_dominant with short: fewer")
    return known_pair("select_top", tokens, keep, None, "extra" if include_cls else "drop")


@node(version=1, foresee=_foresee_top)
def select_top(
    tokens: Annotated[
        TokensT,
        Needs("cls_attention", when={"score": "cls"}),
        Needs("received_attention", when={"score": "received"}),
    ],
    *,
    keep: Annotated[int, Range(0)] = 64,
    score: Score = "cls",
    include_cls: bool = False,
) -> Picked[TokensT]:
    """The `keep` patches of each tile with the highest attention score, in source order, and all others.

    A button of VisionZip's chat demo (64, 128 or 192): as select_dominant, but [CLS] is never one of `keep`,
    and goes unless it is asked for. Errors: BudgetError when a tile has fewer patches.

    keep: patches that stay, per frame or tile.
    score: `cls`: how much [CLS] attends to the patch; `received`: how much all do (towers without [CLS]).
    include_cls: send [CLS] too; otherwise it goes, and is not in the rest either.
    """
    check_cls("select_top", include_cls, bool((tokens.kind == int(Kind.CLS)).any()), None)
    return _highest("select_top", tokens, keep, None, None, score, "extra" if include_cls else "drop")


def check_cls(where: str, include_cls: bool, cls_token: bool | None, cls_scores: bool | None) -> None:
    """A NeedError when [CLS] shall be sent and the tokens have none.

    cls_token: they have one, None: not known. cls_scores: their tower has one, None: not known.
    """
    if not include_cls or cls_token is not False:
        return
    if cls_scores is False:
        raise NeedError(f"{where}.include_cls: the tower has no [CLS] token; set include_cls: false")
    raise NeedError(
        f"{where}.include_cls: the tokens hold no [CLS]; set features: cls_patch at encode_vision, or "
        "include_cls: false"
    )
