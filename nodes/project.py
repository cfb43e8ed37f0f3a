"""Map tokens to the language model's width."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..runtime import pooling
from ..runtime.errors import WiringError
from ..runtime.foreseen import TAKEN, KnownTokens
from ..runtime.models.handle import Model, ProjectorFacts
from ..runtime.models.projector import Projector
from ..runtime.node import node
from ..runtime.patch_groups import not_whole, whole_groups
from ..runtime.pooling import Pooling
from ..runtime.values import Tokens, VisualTokens


def _foresee(
    projector: Model[Projector] | None, tokens: KnownTokens | None, *, pool: tuple[int, int] | None
) -> KnownTokens | None:
    how = None if pool is None else Pooling(grid=pool)
    if how is not None:
        how.check("project_mlp.pool")
    facts = projector.facts.projector if projector is not None else None
    if facts is not None:
        _check_single(facts)
    if tokens is None:
        return None
    known = tokens if how is None else pooling.foreseen("project_mlp.pool", tokens, how)
    if facts is None:
        return known
    if tokens.width is not None:
        _check_width(tokens.width, facts.inputs)
    return replace(known, width=facts.outputs)


@node(version=1, lane="gpu", foresee=_foresee)
def project_mlp(
    projector: Model[Projector], tokens: Tokens, *, pool: tuple[int, int] | None = None
) -> VisualTokens:
    """The same tokens as vectors of the language model's width.

    Errors: WiringError when the tokens have another width than the projector takes, and, with `pool`, those
    of pool_tokens.

    projector: linear, mlp2x_gelu and its kin, or identity.
    tokens: of the tower's width; before or after selection and merging.
    pool: rows and columns that every tile is pooled to, before the projector's last layer: what pool_tokens
        makes of the projected tokens, for less work.
    """
    if projector.facts.projector is not None:
        _check_single(projector.facts.projector)
        _check_width(tokens.width, projector.facts.projector.inputs)
    if pool is not None:
        return _pooled(projector, tokens, Pooling(grid=pool))
    with torch.no_grad():
        features = projector.load()(tokens.features)
    return tokens.to(features.device).with_features(features, into=VisualTokens)


def _pooled(projector: Model[Projector], tokens: Tokens, how: Pooling) -> VisualTokens:
    """Projected and pooled, the pooling before the last layer."""
    pooling.check_whole("project_mlp.pool", tokens, how)
    with torch.no_grad():
        features = projector.load()(
            tokens.features, lambda hidden: pooling.pooled_features(hidden, tokens.source, how)
        )
    places = pooling.pooled_places(tokens, how)
    return places.to(features.device).with_features(features, into=VisualTokens)


def _foresee_merger(projector: Model[Projector] | None, tokens: KnownTokens | None) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if facts is None or tokens is None:
        return tokens
    merge = _merge_of(facts)
    if tokens.width is not None:
        _check_width(tokens.width, facts.inputs, "project_merger")
    if tokens.grid is False:
        raise not_whole("project_merger", TAKEN, merge)
    per_tile = None if tokens.per_tile is None else tokens.per_tile // merge**2
    return replace(tokens, per_tile=per_tile, width=facts.outputs, grid=False)


@node(version=1, lane="gpu", foresee=_foresee_merger)
def project_merger(projector: Model[Projector], tokens: Tokens) -> VisualTokens:
    """One token of the language model's width for every square group of patches (Qwen2.5-VL), row by row.

    Side channels become the mean over the group. Errors: WiringError for a projector that maps tokens one by
    one, and for groups that are not whole: select and merge after this node.

    projector: merger2x2 and its kin.
    tokens: the patches of the tower.
    """
    model = projector.load()
    merge = _merge_of(model.facts)
    _check_width(tokens.width, model.facts.inputs, "project_merger")
    row_GP = whole_groups("project_merger", tokens, merge)
    with torch.no_grad():
        features = model(tokens.features[row_GP])
    group_N = torch.arange(len(row_GP), device=tokens.device).repeat_interleave(merge**2)
    merged = tokens.select(row_GP.flatten()).merge(group_N, groups=len(row_GP))
    return merged.to(features.device).with_features(features, into=VisualTokens)


def _merge_of(facts: ProjectorFacts) -> int:
    if facts.merge is None:
        does, other = ("maps tokens one by one", "project_mlp")
        if facts.kind == "tokenpacker":
            does, other = ("attends to windows of patches", "project_tokenpacker")
        if facts.kind == "pixel_shuffle":
            does, other = ("lays patches of a group side by side", "project_pixel_shuffle")
        raise WiringError(f"project_merger.projector: {facts.kind} {does}; use {other} instead")
    return facts.merge


def _check_single(facts: ProjectorFacts) -> None:
    if facts.kind == "pixel_shuffle":
        other = "project_pixel_shuffle" if facts.pvc is None else "project_pvc"
        raise WiringError(
            "project_mlp.projector: pixel_shuffle makes one token of every group of patches; use "
            f"{other} instead"
        )
    if facts.kind == "tokenpacker":
        raise WiringError(
            "project_mlp.projector: tokenpacker makes one token of every window of patches; use "
            "project_tokenpacker instead"
        )
    if facts.merge is not None:
        raise WiringError(
            f"project_mlp.projector: {facts.kind} makes one token of every {facts.merge} x {facts.merge} "
            "patches; use project_merger instead"
        )


def _check_width(width: int, inputs: int, where: str = "project_mlp") -> None:
    if width != inputs:
        raise WiringError(
            f"{where}.tokens: vectors of width {width}, the projector takes {inputs}; wire the tower and "
            "the projector of the same checkpoint"
        )
