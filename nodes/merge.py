"""Merge what attention left over into a few contextual tokens (VisionZip, sec. 3.3)."""

# R = tokens left over, K = tiles, M = most left over of a tile, T = most targets of a tile, D = key width

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

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
from ..runtime.context import current
from ..runtime.errors import BudgetError
from ..runtime.foreseen import KnownTokens
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Kind, Tokens
from ..runtime.widgets import Range

TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(
    kept: KnownTokens | None,
    rest: KnownTokens | None,
    *,
    targets: int | None,
    total: int | None,
    ratio: float | None,
    merge: str,
    order: str,
    preset: Preset | None,
    short: Short = "error",
) -> KnownTokens | None:
    check_one("merge_contextual", total=total, ratio=ratio, preset=preset)
    known = kept or rest
    if known is None:
        return None
    targets = targets if preset is None else PRESETS[preset].targets
    if targets is None and total is None and ratio is None and known.patches is not None:
        patches = known.patches[0] * known.patches[1]
        targets = in_proportion(USUAL.targets, patches)
        known = replace(known, notes=(*known.notes, told_of("targets", targets, USUAL.targets, patches)))
    some = targets != 0 or total is not None or ratio is not None
    varies = some and rest is not None and rest.varies
    if varies and short == "error":
        raise varying("merge_contextual", "targets")
    out = replace(known, per_tile=None, grid=False, complete=None, varies=known.varies or varies)
    alone = kept is None and "kept" not in current().wired
    if alone and rest is not None:
        cls_token = None if rest.cls_token is None else False
        out = replace(out, cls_token=cls_token, complete=rest.complete if some else False)
    stays = 0 if alone else None if kept is None else kept.per_tile
    count = None if total is not None else _foreseen_targets(stays, rest, targets, ratio, short)
    return replace(out, per_tile=None if stays is None or count is None else stays + count)


def _foreseen_targets(
    stays: int | None, rest: KnownTokens | None, targets: int | None, ratio: float | None, short: Short
) -> int | None:
    """Contextual tokens of every tile; None where that is not known. Errors: BudgetError for too many."""
    left = None if rest is None else rest.per_tile
    if left is None or stays is None:  # so many, or a tile of this size has too few
        return targets if ratio is None and short == "error" else None
    targets = targets if ratio is None else max(int(ratio * (stays + left)), 1)
    if targets is None:
        return None
    if short == "fewer":
        targets = min(targets, left)
    if targets > left:
        raise _too_many(targets, stays, left)
    return targets


@node(version=1, foresee=_foresee)
def merge_contextual(
    kept: TokensT | None,
    rest: Annotated[TokensT, Needs("keys")],
    *,
    targets: Annotated[int, Range(0)] | None = None,
    total: Annotated[int, Range(0)] | None = None,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    merge: Literal["add_mean", "mean"] = "add_mean",
    order: Literal["after", "in_place"] = "after",
    preset: Preset | None = None,
    short: Short = "error",
) -> TokensT:
    """Each tile's kept tokens, then its contextual ones: evenly spaced targets that took in their nearest.

    Nearest by cosine of the attention keys. Errors: BudgetError for more targets than tokens left over.
    Source: VisionZip, sec. 3.3, and its released code.

    kept: tokens that go through unchanged.
    rest: tokens to merge.
    targets: contextual tokens, per frame or tile; 0 drops the rest; null: 10 of every 576 patches, in
        proportion.
    total: contextual tokens, all tiles together, instead of `targets`: split evenly, the first tiles get the
        remainder, one each.
    ratio: contextual tokens as a part of each tile's tokens, kept and left over together, rounded down but at
        least 1, instead of `targets`.
    merge: `add_mean`: target plus the mean of the others, as released; `mean`: the mean of all.
    order: of each tile: `after`: kept, then contextual; `in_place`: by place in the picture, a contextual
        token where its target was (LightCompress on Qwen2.5-VL); side channel `place` then holds that patch.
    preset: a published setting by its token count, instead of `targets`, as in select_dominant.
    short: a tile with fewer tokens left over than `targets` is an `error`, or gets `fewer` contextual tokens.
    """
    check_one("merge_contextual", total=total, ratio=ratio, preset=preset)
    tiles = len(rest.source.tiles)
    targets = targets if preset is None else PRESETS[preset].targets
    targets = in_proportion(USUAL.targets, rest.source.per_tile) if targets is None else targets
    target_K = per_tile(targets, total, tiles, rest.device)
    index_KM, valid_KM = rest.by_tile()
    if ratio is not None:
        home = rest.home if kept is None else torch.cat([kept.home, rest.home])
        target_K = part_of(ratio, torch.bincount(home, minlength=tiles), least=1)
    if short == "fewer":
        target_K = target_K.minimum(valid_KM.sum(1))
    _check_budget(kept, valid_KM.sum(1), target_K)
    contextual, place = _merged(rest, index_KM, valid_KM, target_K, merge)
    if order == "in_place":
        contextual = contextual.with_side(place=place)
        kept = None if kept is None else kept.with_side(place=_place(kept))
    both = contextual if kept is None else kept.concat(contextual)
    if order == "in_place":
        both = both.select(both.side["place"].argsort(stable=True))
    return both.select(both.home.argsort(stable=True))


def _place(tokens: Tokens) -> Tensor:
    """[N] long: the first patch of every token, -1 for one without patches."""
    place = torch.full_like(tokens.home, -1)
    some = tokens.count > 0
    place[some] = tokens.member[tokens.start[:-1][some]]
    return place


def _merged(
    rest: TokensT, index_KM: Tensor, valid_KM: Tensor, target_K: Tensor, merge: Literal["add_mean", "mean"]
) -> tuple[TokensT, Tensor]:
    """The contextual tokens alone, tile by tile in the order of their targets; and each target's place."""
    key_RD = channel("merge_contextual", rest, Need("keys"))
    goal_KM, is_target_KM = _assignment(key_RD, index_KM, valid_KM, target_K)
    group_KM = goal_KM + (target_K.cumsum(0) - target_K)[:, None]
    group_R = torch.full((len(rest),), -1, dtype=torch.long, device=rest.device)
    group_R[index_KM[valid_KM]] = group_KM[valid_KM]
    is_target_R = torch.zeros(len(rest), dtype=torch.bool, device=rest.device)
    is_target_R[index_KM[valid_KM]] = is_target_KM[valid_KM]
    taken_R = target_K[rest.home] > 0  # a tile without targets drops its rest
    if not bool(taken_R.all()):
        rest, group_R, is_target_R = rest.select(taken_R), group_R[taken_R], is_target_R[taken_R]

    groups = int(target_K.sum())
    place_G = group_R.new_empty(groups)
    place_G[group_R[is_target_R]] = _place(rest)[is_target_R]
    if merge == "mean":
        return rest.merge(group_R, groups=groups, kind=Kind.CONTEXTUAL), place_G
    others_G = torch.bincount(group_R, minlength=groups) - 1
    weight_R = torch.where(is_target_R, 1.0, 1.0 / others_G.clamp_min(1)[group_R])
    half = rest.merge(group_R, weight_R, groups=groups, kind=Kind.CONTEXTUAL)
    # the released code adds the mean to the target instead of averaging both: twice their average
    return half.with_features(half.features * (1 + (others_G > 0))[:, None].to(half.features.dtype)), place_G


def _assignment(
    key_RD: Tensor, index_KM: Tensor, valid_KM: Tensor, target_K: Tensor
) -> tuple[Tensor, Tensor]:
    """[K, M] long: the target (0..T-1 of its tile) each token goes to, and [K, M] bool: it is that target."""
    device, most = key_RD.device, int(target_K.max()) if len(target_K) else 0
    if not most or not index_KM.shape[1]:
        return torch.zeros_like(index_KM), torch.zeros_like(valid_KM)
    number_T = torch.arange(most, device=device)
    step_K = (valid_KM.sum(1) // target_K.clamp_min(1)).clamp_min(1)
    place_KT = step_K[:, None] * number_T  # in the list of tokens left over, not in the image
    real_KT = number_T < target_K[:, None]
    # a zero key is similar to nothing; the released code lets its NaN attract every token
    key_KMD = normalize(key_RD.float(), dim=-1)[index_KM]
    anchor_KTD = key_KMD.gather(
        1, place_KT.clamp_max(index_KM.shape[1] - 1)[..., None].expand(-1, -1, key_KMD.shape[2])
    )
    near_KMT = (key_KMD @ anchor_KTD.mT).masked_fill(~real_KT[:, None], -torch.inf)
    best_KM = near_KMT.amax(-1)
    goal_KM = torch.where(near_KMT == best_KM[..., None], number_T, most - 1).amin(-1)  # ties: lowest target
    own_KM = torch.full_like(goal_KM, -1)
    tile_KT = torch.arange(len(target_K), device=device)[:, None].expand_as(place_KT)
    own_KM[tile_KT[real_KT], place_KT[real_KT]] = number_T.expand_as(place_KT)[real_KT]
    return torch.where(own_KM >= 0, own_KM, goal_KM), own_KM >= 0


def _check_budget(kept: Tokens | None, left_K: Tensor, target_K: Tensor) -> None:
    short = (target_K > left_K).nonzero()[:, 0]
    if len(short):
        tile = int(short[0])
        keep = int((kept.home == tile).sum()) if kept is not None else 0
        raise _too_many(int(target_K[tile]), keep, int(left_K[tile]))


def _too_many(targets: int, keep: int, left: int) -> BudgetError:
    return BudgetError(
        f"merge_contextual: keep {keep} + targets {targets} of {keep + left} tokens per tile, {left} of them "
        f"left over; lower keep or targets so that both together are {keep + left} or less"
    )
