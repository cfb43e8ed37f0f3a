"""Pool the patches of a tile to a smaller grid: vectors by torch's own operation, provenance by its taps."""

# K = tiles, R, C = rows and columns of patches, k, r, c = those after pooling, D = width

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, interpolate

from .errors import BudgetError, WiringError
from .foreseen import TAKEN, KnownTokens
from .values import Kind, Source, Tokens

Method = Literal["average", "bilinear"]
T = TypeVar("T", bound=Tokens)


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """The grid that each tile is pooled to, how many frames (None: as many as there are), and the method.

    `average`: AdaptiveAvgPool3d; `bilinear`: interpolate, align_corners=False.
    """

    grid: tuple[int, int]
    frames: int | None = None
    method: Method = "average"

    def check(self, where: str) -> None:
        """An error for settings that no tokens could meet."""
        if min(self.grid) < 1:
            raise BudgetError(f"{where}: {_by(self.grid)} places per tile; wanted 1 x 1 or more")
        if self.frames is not None and self.method == "bilinear":
            raise WiringError(
                f"{where}: frames {self.frames}, but bilinear does not pool in time; set method: average, or "
                "leave frames out"
            )

    def check_size(self, where: str, tiles: int | None, patches: tuple[int, int]) -> None:
        """A BudgetError for a grid that is larger than the `patches` of a tile, or more frames than tiles."""
        if any(mine > theirs for mine, theirs in zip(self.grid, patches, strict=True)):
            raise BudgetError(
                f"{where}: a grid of {_by(self.grid)} from {_by(patches)} patches per tile; set "
                f"{_by(patches)} or less"
            )
        if self.frames is not None and tiles is not None and not 1 <= self.frames <= tiles:
            raise BudgetError(f"{where}: {self.frames} frames from {tiles}; set frames to 1..{tiles}")


def foreseen(where: str, tokens: KnownTokens, how: Pooling) -> KnownTokens:
    """What a plan knows of the pooled tokens; the errors that `pooled` would raise, as far as it can tell."""
    how.check(where)
    if tokens.cls_token:
        raise _with_cls(where)
    if tokens.patches is not None:
        how.check_size(where, tokens.tiles, tokens.patches)
        if tokens.per_tile is not None and tokens.per_tile != tokens.patches[0] * tokens.patches[1]:
            raise _not_whole(where, f"{tokens.per_tile} tokens per tile", tokens.patches)
    if tokens.grid is False:
        raise _not_whole(where, TAKEN, tokens.patches)
    rows, cols = how.grid
    return replace(
        tokens,
        tiles=tokens.tiles if how.frames is None else how.frames,
        pictures=tokens.pictures if how.frames is None else None,
        per_tile=rows * cols,
        cls_token=False,
        grid=False,
    )


def check_whole(where: str, tokens: Tokens, how: Pooling) -> None:
    """An error unless the tokens are every tile's patches, each once and in order, and the grid fits them."""
    how.check(where)
    source = tokens.source
    patches = (source.rows, source.cols)
    if bool((tokens.kind == int(Kind.CLS)).any()):
        raise _with_cls(where)
    whole = len(tokens) == len(source) == len(tokens.member) and bool(
        ((tokens.count == 1) & (tokens.member == torch.arange(len(source), device=tokens.device))).all()
    )
    if not whole:
        raise _not_whole(where, f"{len(tokens)} tokens of {len(source.tiles)} tiles", patches)
    how.check_size(where, len(source.tiles), patches)
    if how.frames is not None and source.frames != len(source.tiles):
        raise WiringError(
            f"{where}: {len(source.tiles)} tiles of {source.frames} pictures, but pooling in time wants one "
            "tile per picture; leave frames out"
        )


def pooled(tokens: T, how: Pooling) -> T:
    """The tokens of whole grids (`check_whole`), pooled: each stands for the patches of its window."""
    features = pooled_features(tokens.features, tokens.source, how)
    return pooled_places(tokens, how).with_features(features)


def pooled_features(features: Tensor, source: Source, how: Pooling) -> Tensor:
    """[k * r * c, D] from [K * R * C, D]."""
    x_KDRC = _maps(features, source.rows, source.cols)
    if how.method == "bilinear":
        return _rows(interpolate(x_KDRC, how.grid, mode="bilinear", align_corners=False))
    if how.frames is None:
        return _rows(adaptive_avg_pool2d(x_KDRC, how.grid))
    out_Dkrc = adaptive_avg_pool3d(x_KDRC.transpose(0, 1), (how.frames, *how.grid))
    return _rows(out_Dkrc.transpose(0, 1))


def pooled_places(tokens: T, how: Pooling) -> T:
    """The pooled tokens with vectors of width 0: members, shares, homes and side channels alone."""
    source = tokens.source
    tiles = len(source.tiles)
    time = _Axis(tiles, tiles if how.frames is None else how.frames, "average")
    rows, cols = _Axis(source.rows, how.grid[0], how.method), _Axis(source.cols, how.grid[1], how.method)
    return _windows(tokens, (time, rows, cols))


def resampled(tokens: T, size: tuple[int, int], out: tuple[int, int]) -> T:
    """The tokens of one whole map of (rows, columns), row by row, interpolated to a smaller one."""
    small = interpolate(_maps(tokens.features, *size), out, mode="bilinear", align_corners=False)
    places = _windows(tokens, [_Axis(*sides, "bilinear") for sides in zip(size, out, strict=True)])
    return places.with_features(_rows(small))


def _maps(features: Tensor, rows: int, cols: int) -> Tensor:
    """[K, D, R, C] without a copy: channels last, which torch's operations are fastest on."""
    return features.reshape(-1, rows, cols, features.shape[1]).permute(0, 3, 1, 2)


def _rows(map_KDRC: Tensor) -> Tensor:
    return map_KDRC.permute(0, 2, 3, 1).flatten(0, 2)


@dataclass(frozen=True)
class _Axis:
    """`size` places along one axis become `out`."""

    size: int
    out: int
    method: Method

    def taps(self) -> tuple[Tensor, Tensor]:
        """[out, n] long: the places that go into each of `out`; [out, n] float32: weights, 0: padding.

        They are read off what torch's operation does to the unit vectors. On the CPU.
        """
        unit = torch.eye(self.size)
        if self.method == "average":
            weight = adaptive_avg_pool1d(unit, self.out).T
        else:
            weight = interpolate(unit[None], self.out, mode="linear", align_corners=False)[0].T
        most = int((weight > 0).sum(1).max())
        index = (weight > 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        return index, weight.gather(1, index)


def _windows(tokens: T, axes: Sequence[_Axis]) -> T:
    """Each result the weighted mean of its window, which is the product of its windows along the axes."""
    row, weight = torch.zeros((), dtype=torch.long), torch.ones(())
    for number, axis in enumerate(axes):
        index, part = axis.taps()
        shape = [1] * 2 * len(axes)  # the axes of the result, then those of the window
        shape[number], shape[number + len(axes)] = index.shape
        row = row * axis.size + index.reshape(shape)
        weight = weight * part.reshape(shape)
    groups = math.prod(axis.out for axis in axes)
    group = torch.arange(groups).reshape(*row.shape[: len(axes)], *[1] * len(axes)).expand_as(row)
    real = weight > 0
    row, group, weight = (x[real].to(tokens.device) for x in (row, group, weight))
    bare = tokens.with_features(tokens.features[:, :0])
    return bare.select(row).merge(group, weight, groups=groups, kind=Kind.POOLED)


def _by(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"


def _with_cls(where: str) -> WiringError:
    return WiringError(
        f"{where}: [CLS] tokens among the patches, but they have no place in a grid; set features: patch on "
        "encode_vision"
    )


def _not_whole(where: str, came: str, patches: tuple[int, int] | None) -> WiringError:
    grids = "grids of patches" if patches is None else f"grids of {_by(patches)} patches"
    return WiringError(
        f"{where}: {came} are not whole {grids}, each once and in order; wire the tower's or projector's "
        "tokens, and select after"
    )
