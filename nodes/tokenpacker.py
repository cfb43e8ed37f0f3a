"""Project windows of patches to one token each (TokenPacker)."""

# K = tiles, R, C = rows and columns of patches, N = tokens, P = patches of a window, G = windows, D = width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime import context, cost
from ..runtime.channels import channel
from ..runtime.errors import WiringError
from ..runtime.foreseen import TAKEN, KnownTokens
from ..runtime.models.handle import Model, ProjectorFacts
from ..runtime.models.projector import Projector
from ..runtime.models.tokenpacker import TokenPacker, check_heads, window_places
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.patch_groups import refuse_numbered
from ..runtime.values import Kind, Patches, Tokens, VisualTokens
from ..runtime.widgets import Range

Ragged = Literal["refuse", "pad"]
ROWS = 1 << 13  # patches that run at once: 128 MiB of levels at the released width, in float32


def _foresee(
    projector: Model[Projector] | None,
    tokens: KnownTokens | None,
    *,
    scale_factor: int | None,
    levels: tuple[int, ...] | None,
    heads: int | None,
    ragged: Ragged,
) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if facts is None:
        return None
    scale, layers = _settle(facts, scale_factor, levels, heads)
    if tokens is None:
        return None
    refuse_numbered("project_tokenpacker", tokens)
    if tokens.cls_token:
        raise _with_cls()
    if tokens.width is not None:
        _check_width(tokens.width, facts.inputs)
    per_tile = None
    if tokens.patches is not None:
        _check_scale(scale, tokens.patches, ragged)
        rows, cols = tokens.patches
        if tokens.per_tile == rows * cols:
            per_tile = -(-rows // scale) * -(-cols // scale)
        elif tokens.per_tile is not None and ragged == "refuse" and tokens.per_tile % scale**2:
            raise _not_whole(f"{tokens.per_tile} tokens of each tile", tokens.patches, scale)
    if tokens.grid is False:
        raise _not_whole(TAKEN, tokens.patches, scale)
    notes = (*tokens.notes, *_told(scale_factor, facts))
    notes += () if levels else (f"levels {', '.join(map(str, layers))}: the layers that the projector reads",)
    return replace(tokens, per_tile=per_tile, width=facts.outputs, grid=False, notes=notes)


@node(version=1, lane="gpu", foresee=_foresee)
def project_tokenpacker(
    projector: Model[Projector],
    tokens: Annotated[Patches, Needs("hidden", layers="levels")],
    *,
    scale_factor: Annotated[int, Range(1)] | None = None,
    levels: tuple[int, ...] | None = None,
    heads: Annotated[int, Range(1)] | None = None,
    ragged: Ragged = "refuse",
) -> VisualTokens:
    """One token of the language model's width for every window of patches, which its middle attends to.

    Windows come in reading order; whole ones may be missing. Each token stands for its window; other side
    channels become their mean. Errors: WiringError for a projector of another kind, a scale factor that does
    not divide, and tokens that are not whole windows.
    Source: TokenPacker, sec. 3, and its released code (specs: no residual, bilinear without antialias).

    projector: a TokenPacker.
    tokens: the patches of the tower, without [CLS]; the queries come from their own layer.
    scale_factor: patches along the side of a window; null: the checkpoint's. 2 makes 144 tokens of 24 x 24
        patches, 3 makes 64, 4 makes 36. The weights fit any, but are trained for one.
    levels: layers of the tower that keys and values come from, in the order that the weights were trained
        for, numbered as hidden_states; negative ones count from the end. null: the checkpoint's, or the
        released 12, 16, 22, 23 of 24.
    heads: of the attention; null: the checkpoint's, usually one for 128 of width.
    ragged: when the side of a grid is no multiple of the scale factor: `refuse`, or `pad`: the last windows
        are partial, and their middle is that of a window that repeats the edge.
    """
    model = projector.load()
    facts, packer = model.facts, model.module
    scale, layers = _settle(facts, scale_factor, levels, heads)
    assert isinstance(packer, TokenPacker), "its kind says so"
    if bool((tokens.kind == int(Kind.CLS)).any()):
        raise _with_cls()
    refuse_numbered("project_tokenpacker", tokens)
    _check_width(tokens.width, facts.inputs)
    _check_scale(scale, (tokens.source.rows, tokens.source.cols), ragged)
    hidden = [channel("project_tokenpacker", tokens, Need("hidden", layer)) for layer in layers]
    row_GP, real_GP = _windows(tokens, scale)
    places = _places(tokens, row_GP, real_GP)
    features = _packed(packer, tokens.features, hidden, row_GP, real_GP, heads)
    spent = cost.tokenpacker(facts, len(tokens), len(row_GP), heads or facts.heads)
    context.count(spent)
    return places.to(features.device).with_features(features, into=VisualTokens)


def _packed(
    packer: TokenPacker,
    x_ND: Tensor,
    hidden: Sequence[Tensor],
    row_GP: Tensor,
    real_GP: Tensor | None,
    heads: int | None,
) -> Tensor:
    """[G, H] of all windows, about ROWS patches at a time."""
    weight = packer.q_proj_1.weight
    step, parts = max(ROWS // row_GP.shape[1], 1), list[Tensor]()
    whole = len(row_GP) <= step
    with torch.no_grad():
        for first in range(0, max(len(row_GP), 1), step):
            rows, real = row_GP[first : first + step], real_GP
            if real_GP is not None:
                real = real_GP[first : first + step].to(weight.device)
            x, levels = x_ND, hidden
            if not whole:
                x, levels = x_ND[rows.flatten()], [level[rows.flatten()] for level in hidden]
                rows = torch.arange(rows.numel(), device=rows.device).view_as(rows)
            level_NE = torch.cat([level.to(weight.device, weight.dtype) for level in levels], -1)
            moved = x.to(weight.device, weight.dtype), level_NE, rows.to(weight.device)
            parts.append(packer.pack(*moved, real, heads=heads))
            context.progress(first + len(rows), len(row_GP), "windows")
    return parts[0] if whole else torch.cat(parts)


def _windows(tokens: Tokens, scale: int) -> tuple[Tensor, Tensor | None]:
    """[G, P] long: the rows of each window's patches; [G, P] bool: False where an edge's row is repeated."""
    source, device = tokens.source, tokens.device
    place_GP, real_GP = window_places(source.rows, source.cols, scale, device)
    patch_GP = torch.arange(len(source), device=device).view(-1, source.per_tile)[:, place_GP].flatten(0, 1)
    row_P = torch.full((len(source),), -1, dtype=torch.long, device=device)
    if len(tokens.member) == len(tokens) and bool((tokens.count == 1).all()):
        row_P[tokens.member] = torch.arange(len(tokens), device=device)
    row_GP = row_P[patch_GP]
    there = (row_GP >= 0).all(1)
    row_GP = row_GP[there]
    real = None if real_GP is None else real_GP.repeat(len(source.tiles), 1)[there]
    if (row_GP.numel() if real is None else int(real.sum())) == len(tokens):
        return row_GP, real
    tiles = f"{len(tokens)} tokens of {len(source.tiles)} tiles"
    raise _not_whole(tiles, (source.rows, source.cols), scale)


def _places(tokens: Tokens, row_GP: Tensor, real_GP: Tensor | None) -> Tokens:
    """The windows as tokens with vectors of width 0: members, shares, homes and side channels alone."""
    group_GP = torch.arange(len(row_GP), device=row_GP.device)[:, None].expand_as(row_GP)
    group_N = torch.empty(len(tokens), dtype=torch.long, device=row_GP.device)
    if real_GP is None:
        group_N[row_GP] = group_GP
    else:
        group_N[row_GP[real_GP]] = group_GP[real_GP]
    bare = tokens.with_features(tokens.features[:, :0])
    return bare.merge(group_N, groups=len(row_GP), kind=Kind.POOLED)


def _settle(
    facts: ProjectorFacts, scale: int | None, levels: tuple[int, ...] | None, heads: int | None
) -> tuple[int, tuple[int, ...]]:
    """Scale factor and levels; an error for settings that do not go with the projector."""
    if facts.kind != "tokenpacker":
        other = "project_mlp" if facts.merge is None else "project_merger"
        raise WiringError(
            f"project_tokenpacker.projector: {facts.kind} is no TokenPacker; use {other} instead"
        )
    levels = facts.layers if levels is None else levels
    if levels is None:
        raise WiringError(
            f"project_tokenpacker.levels: the checkpoint does not say which {facts.levels} layers of the "
            "tower its projector reads, and the released 12, 16, 22, 23 do not fit; set levels to those that "
            "it was trained with"
        )
    if len(levels) != facts.levels:
        raise WiringError(
            f"project_tokenpacker.levels: {len(levels)} layers {levels}; the projector's weights read "
            f"{facts.levels}"
        )
    if heads is not None:
        check_heads("project_tokenpacker.heads", facts.inputs, heads)
    found = facts.scale_factor if scale is None else scale
    if found is None:
        raise WiringError(
            "project_tokenpacker.scale_factor: the checkpoint does not say it, and the weights fit any; set "
            "scale_factor to what it was trained with (2: 144 tokens, 3: 64, 4: 36)"
        )
    return found, levels


def _told(scale: int | None, facts: ProjectorFacts) -> tuple[str, ...]:
    """What a plan says of a scale factor that is not the checkpoint's."""
    if scale in (None, facts.scale_factor):
        return ()
    own = "" if facts.scale_factor is None else f", where the checkpoint has {facts.scale_factor}"
    return (f"scale_factor {scale}, as set here{own}",)


def _check_scale(scale: int, patches: tuple[int, int], ragged: Ragged) -> None:
    rows, cols = patches
    if ragged == "refuse" and (rows % scale or cols % scale):
        good = ", ".join(str(n) for n in range(1, min(patches) + 1) if rows % n == cols % n == 0)
        raise WiringError(
            f"project_tokenpacker.scale_factor: {scale} does not divide {rows} x {cols} patches; set one of "
            f"{good}, or ragged: pad"
        )


def _check_width(width: int, inputs: int) -> None:
    if width != inputs:
        raise WiringError(
            f"project_tokenpacker.tokens: vectors of width {width}, the projector takes {inputs}; wire the "
            "tower and the projector of the same checkpoint"
        )


def _not_whole(tokens: str, patches: tuple[int, int] | None, scale: int) -> WiringError:
    of = "" if patches is None else f" of {patches[0]} x {patches[1]} patches"
    return WiringError(
        f"project_tokenpacker.tokens: {tokens}{of} are not whole windows of {scale} x {scale}; wire the "
        "tower's patches, and select after this node"
    )


def _with_cls() -> WiringError:
    return WiringError(
        "project_tokenpacker.tokens: [CLS] tokens among the patches, but they have no place in a window; set "
        "features: patch on encode_vision"
    )
