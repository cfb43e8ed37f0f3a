"""Keep what stands out by attention, each with what is near to it (LLaVA-PruMerge, PruMerge+)."""

# N = tokens, K = tiles, M = most tokens of a tile, R = most rows of a tile in the result, G = rows in all

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor

from ..runtime import outliers
from ..runtime.channels import channel
from ..runtime.errors import BudgetError, NeedError, WiringError
from ..runtime.foreseen import KnownTokens
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import Kind, Tokens
from ..runtime.widgets import Range

Over = Literal["all", "tile"]
TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee(
    tokens: KnownTokens | None,
    *,
    plus: bool,
    ratio: float | None,
    over: Over,
    neighbours: int,
    duplicates: bool,
    layer: int,
) -> KnownTokens | None:
    _check(plus, ratio, duplicates)
    if tokens is None:
        return None
    if tokens.cls_scores is False:
        raise NeedError(
            "prune_outliers: the tower has no [CLS] token, whose attention says what stands out; use a CLIP "
            "tower"
        )
    per_tile = None
    if ratio is not None and not plus and tokens.per_tile is not None and tokens.cls_token is not None:
        per_tile = int((tokens.per_tile - tokens.cls_token) * ratio) + 1
    varies = tokens.varies or (per_tile is None and ratio is None)
    return replace(
        tokens, per_tile=per_tile, cls_token=False, grid=False, complete=None, varies=varies or plus
    )


@node(version=1, foresee=_foresee)
def prune_outliers(
    tokens: Annotated[
        TokensT,
        Needs("cls_attention", layer="layer", form=("unsplit",)),
        Needs("keys", layer="layer", form=("unsplit",)),
    ],
    *,
    plus: bool = False,
    ratio: Annotated[float, Range(0, 1)] | None = None,
    over: Over = "all",
    neighbours: Annotated[int, Range(0)] = 32,
    duplicates: bool = False,
    layer: int = -1,
) -> TokensT:
    """Of each tile the tokens that stand out, each plus its nearest by their attention, and one of the rest.

    Highest attention first, then samples, then the sum of all that was not chosen, weighted by attention; a
    tile where nothing stands out is that sum alone. Nearest by cosine of the attention keys. What stands for
    no patch ([CLS], newlines) goes. Errors: WiringError for attention, keys or vectors that are not finite.
    Source: LLaVA-PruMerge, sec. 3, and its released code.

    plus: PruMerge+: evenly spaced samples come besides, so that flat regions are not lost.
    ratio: part of each tile's tokens that stands out, rounded down (published: 0.125); null: as many as are
        outliers, above Q3 + 1.5 (Q3 - Q1).
    over: outliers among the values of `all` tiles together, and the same part of each, as released; or each
        `tile` on its own, so that tiles keep different numbers.
    neighbours: others that each token takes in; those that there are, if fewer.
    duplicates: with `plus` and a ratio: samples that stand out already come twice, as in the released code.
    layer: whose attention and keys are taken (-1: the last, whatever layer the vectors come from).
    """
    _check(plus, ratio, duplicates)
    score_N = channel("prune_outliers", tokens, Need("cls_attention", layer, form="unsplit")).float()
    key_ND = channel("prune_outliers", tokens, Need("keys", layer, form="unsplit"))
    some_N = tokens.count > 0
    if not bool(some_N.all()):
        tokens, score_N, key_ND = tokens.select(some_N), score_N[some_N], key_ND[some_N]
    _check_finite({"attention": score_N, "keys": key_ND, "vectors": tokens.features})
    index_KM, valid_KM = tokens.by_tile()
    score_KM = score_N[index_KM].masked_fill(~valid_KM, 0)
    samples: outliers.Samples = "none" if not plus else "thirds" if ratio is None else "whole"
    chosen = outliers.choose(
        score_KM, valid_KM, _part(score_KM, valid_KM, ratio, over), samples=samples, duplicates=duplicates
    )
    gives_KRM, row_KR = outliers.weights(score_KM, key_ND[index_KM], valid_KM, chosen, neighbours)
    return _combined(tokens, index_KM, gives_KRM, row_KR)


def _part(score_KM: Tensor, valid_KM: Tensor, ratio: float | None, over: Over) -> Tensor:
    """[K] float64, on the CPU: what part of each tile's tokens stands out."""
    if ratio is not None:
        return torch.full((len(score_KM),), ratio, dtype=torch.float64)
    if over == "tile":
        return outliers.outlier_part(score_KM, valid_KM)
    return outliers.outlier_part(score_KM.reshape(1, -1), valid_KM.reshape(1, -1)).expand(len(score_KM))


def _combined(tokens: TokensT, index_KM: Tensor, gives_KRM: Tensor, row_KR: Tensor) -> TokensT:
    """The true rows of all tiles: vectors are weighted sums, channels and shares weighted means."""
    total_KR = gives_KRM.sum(2)
    part_KRM = gives_KRM / total_KR.masked_fill(total_KR == 0, 1)[..., None]
    places = _places(tokens, index_KM, part_KRM, row_KR)
    side = {key: _sums(part_KRM, value, index_KM)[row_KR] for key, value in tokens.side.items()}
    return places.with_side(**side).with_features(_sums(gives_KRM, tokens.features, index_KM)[row_KR])


def _places(tokens: TokensT, index_KM: Tensor, part_KRM: Tensor, row_KR: Tensor) -> TokensT:
    """The rows with vectors of width 0 and no channels; one that nothing went into stands for no patch."""
    bare = replace(tokens.with_features(tokens.features[:, :0]), side={}, proven=True)
    tile_E, row_E, place_E = (part_KRM * row_KR[..., None]).nonzero(as_tuple=True)
    some_KR = row_KR & (part_KRM > 0).any(2)
    group_KR = some_KR.flatten().cumsum(0).reshape(some_KR.shape) - 1
    merged = bare.select(index_KM[tile_E, place_E]).merge(
        group_KR[tile_E, row_E],
        part_KRM[tile_E, row_E, place_E],
        groups=int(some_KR.sum()),
        kind=Kind.CONTEXTUAL,
    )
    tile_Z = (row_KR & ~some_KR).nonzero()[:, 0]
    if not len(tile_Z):
        return merged
    nothing = bare.features.new_zeros(len(tile_Z), 0)
    # such a row is the last of its tile
    both = merged.concat(type(tokens).special(tokens.source, nothing, Kind.CONTEXTUAL, tile_Z))
    return both.select(both.home.argsort(stable=True))


def _sums(weight_KRM: Tensor, x: Tensor, index_KM: Tensor) -> Tensor:
    """[K, R, ...]: weighted sums of the rows of x, in at least float32."""
    wide_NX = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(len(x), x.shape[1:].numel())
    out = weight_KRM.to(wide_NX.dtype) @ wide_NX[index_KM]
    return out.reshape(*out.shape[:2], *x.shape[1:]).to(x.dtype)


def _check(plus: bool, ratio: float | None, duplicates: bool) -> None:
    if ratio == 0:
        raise BudgetError(
            "prune_outliers.ratio: 0 picks nothing; set it above 0, or to null for as many as are outliers"
        )
    if duplicates and not (plus and ratio is not None):
        raise WiringError(
            "prune_outliers.duplicates: true, but only evenly spaced samples beside a fixed ratio can come "
            "twice; set plus: true and a ratio, or duplicates: false"
        )


def _check_finite(parts: dict[str, Tensor]) -> None:
    fine = torch.stack([x.isfinite().all() for x in parts.values()]).tolist()
    for what, good in zip(parts, fine, strict=True):
        if not good:
            raise WiringError(
                f"prune_outliers.tokens: their {what} are not all finite (nan or inf); look for nan in the "
                "checkpoint and in the pictures, or set dtype: float32"
            )
