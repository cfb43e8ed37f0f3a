"""Fewer tokens of a clip before the language model: PruneVid's first stage, in three nodes of their own.

N = tokens, T = frames, F = those that have tokens, S = segments, P = places of a frame, C = width
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor

from ..runtime.dpc import dpc_knn
from ..runtime.errors import WiringError
from ..runtime.foreseen import KnownTokens
from ..runtime.grouping import Groups, cluster_groups, clusters_of, runs_of
from ..runtime.node import node
from ..runtime.places import check_finite, mean_cosine, norms, place_of
from ..runtime.segmentation import refine_clusters, run_numbers
from ..runtime.values import Kind, Segments, Tokens
from ..runtime.values.membership import by_group, group_sums, mean
from ..runtime.widgets import Range, Seed

Noise = Literal["none", "upstream"]
Order = Literal["score", "raster"]
Positions = Literal["consecutive", "mean"]
TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee_temporal(
    tokens: KnownTokens | None, *, ratio: float, neighbours: int, noise: Noise, seed: int, single: str
) -> None:
    if tokens is not None and tokens.pictures is not None:
        _check_single(len(tokens.pictures), single)


@node(version=1, foresee=_foresee_temporal)
def cluster_temporal(
    tokens: Tokens,
    *,
    ratio: Annotated[float, Range(0, 1)] = 0.25,
    neighbours: Annotated[int, Range(1)] = 7,
    noise: Noise = "none",
    seed: Seed = 0,
    single: Literal["error", "one_segment"] = "error",
) -> Segments:
    """The clip in segments: DPC-KNN on the means of the frames' tokens, then short runs join a neighbour.

    A short clip has fewer neighbours and 1 cluster at least. Tokens without patches do not count, nor do
    frames without tokens (dropped, or pooled in time): they go with the frame before. Errors: WiringError for
    a single frame, and nan. Source: PruneVid, released code.

    tokens: all tokens of the clip, of any stage; each belongs to the frame of its home.
    ratio: clusters as a part of the frames, rounded down (PruneVid's temporal_segment_ratio, gamma).
    neighbours: of which the density is made, the frame itself among them.
    noise: `upstream`: a millionth of a random number on every density, as released; `none`: of equally dense
        frames the first counts as the denser one.
    seed: of the noise.
    single: a single frame is an `error`, because it is mostly a picture in a video's place; or `one_segment`.
    """
    _check_single(tokens.source.frames, single)
    feature_FC, there_T = _frame_means(tokens)
    frames = len(feature_FC)
    check_finite("cluster_temporal", tokens, feature_FC)
    noise_1F = None if noise == "none" else _drawn(frames, seed, tokens.device)[None]
    clusters = max(int(frames * ratio), 1)
    label_1F = dpc_knn(feature_FC[None], clusters, neighbours, noise=noise_1F).label
    segment_F = run_numbers(refine_clusters(label_1F))[0]
    return Segments(segment_F[(there_T.cumsum(0) - 1).clamp_min(0)])


def _check_single(frames: int, single: str) -> None:
    if frames == 1 and single == "error":
        raise WiringError(
            "cluster_temporal.tokens: one frame, wanted a clip; for a picture leave out cluster_temporal and "
            "merge_static (cluster_spatial works alone), for a clip of one frame set single: one_segment"
        )


def _frame_means(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """[F, C] at least float32, of the F frames that have tokens; and which these are, [T] bool."""
    frames = tokens.source.frames
    frame_N = tokens.frame.masked_fill(tokens.count == 0, frames)
    one_N = torch.ones(len(tokens), device=tokens.device)
    count_T = torch.zeros(frames + 1, device=tokens.device).index_add_(0, frame_N, one_N)[:frames]
    there_T = count_T > 0
    if not bool(there_T.any()):
        raise WiringError(
            "cluster_temporal.tokens: none stands for a patch, and no frame can be compared; wire the tokens "
            "of the frames"
        )
    sums = [s for _, s in group_sums(tokens.features, *by_group(frame_N, frames), one_N)]
    return (torch.cat(sums) / count_T[:, None])[there_T], there_T


def _drawn(count: int, seed: int, device: torch.device) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)).to(device)


def _fewer(known: KnownTokens | None) -> KnownTokens | None:
    """Who is like whom decides how many are left, and which tile they are counted to."""
    return None if known is None else replace(known, per_tile=None, grid=False, varies=True)


def _foresee_static(
    tokens: KnownTokens | None, segments: object, *, tau: float, positions: Positions
) -> KnownTokens | None:
    return _fewer(tokens)


@node(version=1, foresee=_foresee_static)
def merge_static(
    tokens: TokensT,
    segments: Segments,
    *,
    tau: Annotated[float, Range(-1, 1)] = 0.8,
    positions: Positions = "consecutive",
) -> TokensT:
    """The mean of the tokens of a place that stays alike over a segment, once; the others as they are.

    A place is where the patch is that a token stands for most. It is static when every frame of the segment
    that has tokens has one there and the mean cosine of all their pairs is above `tau`; where only one frame
    has any, nothing is. Order: of each segment the static tokens, then frame by frame the others, which
    become DYNAMIC; tokens without patches stay what they are. Errors: WiringError for segments of another
    clip, and nan. Source: PruneVid, released code; a zero vector has cosine 0 here.

    tokens: of any stage; each belongs to the frame of its home.
    segments: of the same clip.
    tau: mean cosine above which a place is static.
    positions: of the language model: `consecutive`, or `mean`: the mean of those that the merged tokens had.
    """
    if segments.frames != tokens.source.frames:
        raise WiringError(
            f"merge_static.segments: of {segments.frames} frames, the tokens are of {tokens.source.frames}; "
            "wire the segments that cluster_temporal made of the same clip"
        )
    tokens = _by_frame(tokens)
    norm_N = norms(tokens)
    check_finite("merge_static", tokens, norm_N)
    frame_N, segment_T = tokens.frame, segments.of_frame.to(tokens.device)
    group_N, groups = _whole_places(tokens, segment_T)
    tokens = _prepared(tokens, positions)
    static_G = mean_cosine(tokens.features, norm_N, group_N, groups) > tau
    static_N = torch.cat([static_G, static_G.new_zeros(1)])[group_N]

    number_N = torch.arange(len(tokens), device=tokens.device)
    first_G = torch.full((groups + 1,), len(tokens), device=tokens.device)
    first_G = first_G.scatter_reduce(0, group_N, number_N, "amin")
    head_N = torch.where(static_N, first_G[group_N], number_N)
    head_M = (head_N == number_N).nonzero()[:, 0]
    head_M = head_M[(segment_T[frame_N[head_M]] * 2 + ~static_N[head_M]).argsort(stable=True)]
    out_N = torch.empty_like(number_N)
    out_N[head_M] = torch.arange(len(head_M), device=tokens.device)
    kind_N = torch.where(tokens.count > 0, int(Kind.DYNAMIC), tokens.kind.long())
    kind_N = kind_N.masked_fill(static_N, int(Kind.STATIC)).to(torch.uint8)
    return tokens.merge(out_N[head_N], groups=len(head_M), kind=kind_N[head_M])


def _prepared(tokens: TokensT, positions: Positions) -> TokensT:
    """With side channel `position` if positions are to be the mean; without `place`, which has no mean."""
    side = {k: v for k, v in tokens.side.items() if k != "place"}
    if positions == "mean" and "position" not in side:
        side["position"] = torch.arange(len(tokens), dtype=torch.float32, device=tokens.device)
    return tokens if side.keys() == tokens.side.keys() else replace(tokens, side=side, proven=True)


def _by_frame(tokens: TokensT) -> TokensT:
    frame_N = tokens.frame
    if bool((frame_N.diff() >= 0).all()):
        return tokens
    return tokens.select(frame_N.argsort(stable=True))


def _whole_places(tokens: Tokens, segment_T: Tensor) -> tuple[Tensor, int]:
    """[N] long, and G: places of a segment where each of its frames has one token; G for all other tokens.

    Frames without any token do not count.
    """
    frame_N, (place_N, places) = tokens.frame, place_of(tokens)
    frames, there_N = len(segment_T), place_N >= 0
    cell_N = torch.where(there_N, frame_N * places + place_N, frames * places)
    one_N = torch.ones_like(cell_N)
    count_N = torch.zeros(frames * places + 1, dtype=torch.long, device=tokens.device)
    count_N = count_N.index_add_(0, cell_N, one_N)[cell_N]
    alone_N = there_N & (count_N == 1)

    slot_N = segment_T[frame_N] * places + place_N.clamp_min(0)
    filled_X = torch.zeros(frames * places, dtype=torch.long, device=tokens.device)
    filled_X = filled_X.index_add_(0, slot_N, alone_N.long())
    some_T = torch.zeros_like(segment_T).index_fill_(0, frame_N[there_N], 1)
    length_T = torch.zeros_like(segment_T).index_add_(0, segment_T, some_T)
    whole_X = filled_X == length_T.repeat_interleave(places)
    whole_X = whole_X & (filled_X > 0)
    number_X = whole_X.cumsum(0) - 1
    groups = int(number_X[-1]) + 1
    return torch.where(alone_N & whole_X[slot_N], number_X[slot_N], groups), groups


def _foresee_spatial(
    tokens: KnownTokens | None,
    *,
    ratio: float,
    neighbours: int,
    least: int,
    order: Order,
    positions: Positions,
    noise: Noise,
    seed: int,
) -> KnownTokens | None:
    if tokens is not None and tokens.tiles == 1 and tokens.per_tile is not None and not tokens.cls_token:
        left = clusters_of(tokens.per_tile, ratio, least) or tokens.per_tile
        return replace(tokens, per_tile=left, grid=False)
    return _fewer(tokens)


@node(version=1, foresee=_foresee_spatial)
def cluster_spatial(
    tokens: TokensT,
    *,
    ratio: Annotated[float, Range(0, 1)] = 0.5,
    neighbours: Annotated[int, Range(1)] = 7,
    least: Annotated[int, Range(0)] = 14,
    order: Order = "score",
    positions: Positions = "consecutive",
    noise: Noise = "none",
    seed: Seed = 0,
) -> TokensT:
    """Means of the clusters that DPC-KNN finds in each group of tokens: a frame's static ones, or its others.

    All tokens of a frame (that of their home) count, of all its tiles; those without patches stay as they
    are, before or behind their frame's. Groups come in the order of their first tokens. Errors: WiringError
    for nan. Source: PruneVid, released code.

    tokens: of any stage; clusters of STATIC tokens are STATIC, all others DYNAMIC.
    ratio: clusters as a part of the group's tokens, rounded down, but 1 at least (PruneVid's cluster_ratio,
        beta).
    neighbours: of which the density is made, the token itself among them.
    least: groups of up to so many tokens stay as they are.
    order: of a group's clusters: `score`: of their centres, highest first, as released; `raster`: by the mean
        place of their tokens in the order that came in.
    positions: of the language model: `consecutive`, or `mean`: the mean of those that the merged tokens had.
    noise: `upstream`: a millionth of a random number on every density, as released; `none`: of equally dense
        tokens the first counts as the denser one.
    seed: of the noise.
    """
    tokens = _prepared(tokens, positions)
    n, frames = len(tokens), tokens.source.frames
    number_N = torch.arange(n, device=tokens.device)
    static_N = tokens.kind == int(Kind.STATIC)
    key_N = torch.where(tokens.count > 0, tokens.frame * 2 + static_N, 2 * frames + number_N)
    groups = Groups.of(key_N, 2 * frames + n)
    runs = runs_of(groups.sizes, ratio, least, tokens.features)
    noise_N = None if noise == "none" else _drawn(n, seed, tokens.device)
    out_N = cluster_groups(tokens.features, groups, runs, neighbours, noise_N)
    total = sum(run.groups * (run.clusters or run.size) for run in runs)
    if order == "raster":
        out_N = _by_mean(out_N, total)[out_N]

    kind_N = tokens.kind[groups.order]
    for run in runs:
        if run.clusters:
            kind = kind_N[run.start : run.stop]
            kind.masked_fill_(kind != int(Kind.STATIC), int(Kind.DYNAMIC))
    kind_M = torch.empty(total, dtype=torch.uint8, device=tokens.device).scatter_(0, out_N, kind_N)
    group_N = torch.empty_like(out_N).scatter_(0, groups.order, out_N)
    out = tokens.merge(group_N, groups=total, kind=kind_M)
    check_finite("cluster_spatial", tokens, norms(out))
    return out


def _by_mean(out_N: Tensor, total: int) -> Tensor:
    """[M] long: each cluster's number when they are sorted by the mean place of their tokens."""
    place_N = torch.arange(len(out_N), device=out_N.device)
    one_N = torch.ones(len(out_N), device=out_N.device)
    sum_M, count_M = mean(torch.stack([place_N.float(), one_N], 1), out_N, one_N, total).unbind(1)
    order_M = (sum_M / count_M).argsort(stable=True)
    return torch.empty_like(order_M).scatter_(0, order_M, torch.arange(total, device=out_N.device))
