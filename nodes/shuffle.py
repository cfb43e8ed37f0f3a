"""Pixel shuffle: a square group of patches side by side in one vector, and InternVL's MLP."""

# K = tiles, G = groups, P = patches of a group, C = width of the tower

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime.errors import WiringError
from ..runtime.foreseen import TAKEN, KnownTokens
from ..runtime.models.handle import Model, ProjectorFacts
from ..runtime.models.projector import Projector
from ..runtime.node import node
from ..runtime.patch_groups import not_whole, refuse_numbered, whole_groups
from ..runtime.values import Kind, Tokens, VisualTokens
from ..runtime.widgets import Range

WHERE = "project_pixel_shuffle"
Ratio = Annotated[float, Range(0, 1)]
Version = Literal["v1", "v2"]


def _foresee(
    projector: Model[Projector] | None,
    tokens: KnownTokens | None,
    *,
    ratio: float | None,
    version: Version | None,
) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if facts is None:
        return None
    _refuse_pvc(facts)
    return foreseen_groups(WHERE, facts, tokens, ratio)


@node(version=1, lane="gpu", foresee=_foresee)
def project_pixel_shuffle(
    projector: Model[Projector],
    tokens: Tokens,
    *,
    ratio: Ratio | None = None,
    version: Version | None = None,
) -> VisualTokens:
    """One token of the language model's width for every square group of patches, without [CLS] (InternVL).

    Each token stands for its patches; side channels become their mean. Errors: WiringError for a projector of
    another kind, widths that do not fit, and groups that are not whole: select and merge after this node.
    Source: InternVL's released `pixel_shuffle` and `mlp1`.

    projector: of an InternVL checkpoint.
    tokens: the patches of the tower.
    ratio: of the grid's sides after and before: 0.5 makes one token of 2 x 2; null: the checkpoint's.
    version: order of a tile's tokens: v1 column by column, v2 row by row; null: the checkpoint's.
    """
    model = projector.load()
    _refuse_pvc(model.facts)
    patches, row_GP = groups_of(WHERE, tokens, model.facts, ratio, version)
    with torch.no_grad():
        features = model(patches.features[row_GP].flatten(1))  # [G, P * C], patches row by row
    places = group_places(patches, row_GP)
    return places.to(features.device).with_features(features, into=VisualTokens)


def groups_of(
    where: str, tokens: Tokens, facts: ProjectorFacts, ratio: float | None, version: Version | None
) -> tuple[Tokens, Tensor]:
    """The tokens without [CLS], and [G, P] long: which of them each group has, row by row.

    Errors: WiringError for a projector of another kind, another width, and groups that are not whole.
    """
    side = _side(where, facts, ratio)
    refuse_numbered(where, tokens)
    _check_width(where, tokens.width, facts, side)
    cls_N = tokens.kind == int(Kind.CLS)
    patches = tokens.select(~cls_N) if bool(cls_N.any()) else tokens
    order = version or facts.ps_version
    return patches, whole_groups(where, patches, side, by_column=order == "v1")


def group_places(patches: Tokens, row_GP: Tensor) -> Tokens:
    """The groups as tokens with vectors of width 0: members, shares, homes and side channels alone."""
    group_N = torch.empty(len(patches), dtype=torch.long, device=patches.device)
    group_N[row_GP] = torch.arange(len(row_GP), device=patches.device)[:, None].expand_as(row_GP)
    bare = patches.with_features(patches.features[:, :0])
    return bare.merge(group_N, groups=len(row_GP), kind=Kind.POOLED)


def foreseen_groups(
    where: str, facts: ProjectorFacts, tokens: KnownTokens | None, ratio: float | None
) -> KnownTokens | None:
    """What a plan knows of the groups; the errors that a call would raise, as far as it can tell."""
    side = _side(where, facts, ratio)
    if tokens is None:
        return None
    refuse_numbered(where, tokens)
    if tokens.width is not None:
        _check_width(where, tokens.width, facts, side)
    per_tile = None
    if tokens.per_tile is not None and tokens.cls_token is not None:
        patches = tokens.per_tile - tokens.cls_token
        per_tile, left = divmod(patches, side**2)
        if left:
            raise not_whole(where, f"{patches} tokens per tile", side)
    if tokens.grid is False:
        raise not_whole(where, TAKEN, side)
    return replace(tokens, per_tile=per_tile, cls_token=False, width=facts.outputs, grid=False)


def _refuse_pvc(facts: ProjectorFacts) -> None:
    if facts.pvc is not None and facts.pvc.compressor_adaln:
        raise WiringError(f"{WHERE}.projector: this one is modulated by time (PVC); use project_pvc instead")


def _side(where: str, facts: ProjectorFacts, ratio: float | None) -> int:
    """Patches along the side of a group."""
    if facts.kind != "pixel_shuffle":
        other = {"tokenpacker": "project_tokenpacker"}.get(facts.kind, "project_mlp")
        other = other if facts.merge is None else "project_merger"
        raise WiringError(f"{where}.projector: {facts.kind} shuffles no patches; use {other} instead")
    if ratio is None:
        return facts.side
    if ratio <= 0 or abs(1 / ratio - round(1 / ratio)) > 1e-6:
        raise WiringError(f"{where}.ratio: {ratio:g}, wanted 1 / whole number: 1, 0.5, 0.25 or the like")
    return round(1 / ratio)


def _check_width(where: str, width: int, facts: ProjectorFacts, side: int) -> None:
    group = facts.inputs * facts.side**2
    if width * side**2 != group:
        raise WiringError(
            f"{where}.tokens: {side} x {side} patches of width {width} make vectors of "
            f"{width * side**2}, the projector takes {group}, {facts.side} x {facts.side} of {facts.inputs}; "
            "wire the tower and the projector of the same checkpoint, and leave ratio to it"
        )
