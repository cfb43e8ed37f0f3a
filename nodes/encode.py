"""Run the vision tower: patches with the side channels that somebody downstream asked for."""

# K = tiles, P = patches of a tile, D = tower width

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime.context import progress, wanted
from ..runtime.errors import NeedError, WiringError
from ..runtime.foreseen import KnownTiles, KnownTokens, pictures_of
from ..runtime.models.handle import Model, ModelFacts, TowerFacts
from ..runtime.models.packer import KIND as PACKER
from ..runtime.models.tower import (
    CHANNELS,
    FAMILY,
    TowerOutput,
    VisionTower,
    check_need,
    layer_number,
    tile_grid,
)
from ..runtime.needs import OWN, Need
from ..runtime.node import node
from ..runtime.values import Patches, Source, Tile, Tiles
from ..runtime.widgets import Range

Features = Literal["auto", "patch", "cls_patch"]
MaxTiles = Annotated[int, Range(1)]


def _foresee(
    vision: Model[VisionTower] | None,
    tiles: KnownTiles | Tiles | None,
    *,
    layer: int | None,
    features: Features,
    max_tiles: int,
    interpolate: bool,
) -> KnownTokens | None:
    facts = vision.facts.tower if vision is not None else None
    if vision is None or facts is None:
        return None
    _refuse_pvc(facts)
    feature = layer_number("encode_vision.layer", facts, facts.select_layer if layer is None else layer)
    for need in wishes(vision.facts):
        check_need(facts, need, feature)
    cls_token = keeps_cls(facts, features)
    patches = None if interpolate or not facts.size else (facts.grid, facts.grid)
    single = facts.temporal == 1  # or a tile may be one of a pair of frames
    if not facts.size and isinstance(tiles, KnownTiles) and tiles.tile is not None and tiles.clip is False:
        patches, single = (tiles.tile[1] // facts.patch, tiles.tile[0] // facts.patch), True
    return KnownTokens(
        tiles=len(tiles) if tiles is not None and single else None,
        per_tile=None if patches is None else patches[0] * patches[1] + cls_token,
        cls_token=cls_token,
        cls_scores=facts.has_cls,
        width=facts.hidden,
        patches=patches,
        sizes=None if tiles is None else tiles.sizes,
        pictures=pictures_of(tiles),
        grid=True,
        complete=True,
    )


def _encode_many(
    vision: Sequence[Model[VisionTower]],
    tiles: Sequence[Tiles],
    *,
    layer: int | None,
    features: Features,
    max_tiles: int,
    interpolate: bool,
) -> list[Patches]:
    """One pass for all items with the same tower and tile size; they may have different numbers of tiles."""
    groups: dict[tuple[str, str, str, tuple[int, ...]], list[int]] = {}
    for i, (handle, item) in enumerate(zip(vision, tiles, strict=True)):
        key = (handle.fingerprint, handle.device, handle.dtype, tuple(item.pixels.shape[2:]))
        groups.setdefault(key, []).append(i)
    out: dict[int, Patches] = {}
    for members in groups.values():
        tower = vision[members[0]].load()
        _refuse_pvc(tower.facts)
        cls_token = keeps_cls(tower.facts, features)
        at = tower.facts.select_layer if layer is None else layer
        moments = [_moments(tiles[i], tower.facts.temporal) for i in members]
        needs = wishes(vision[members[0]].facts)
        pixels = [pixels for pixels, _ in moments]
        joined = _chunked(tower, pixels, needs, max_tiles, at, cls_token, interpolate)
        start = 0
        for i, (_, layout) in zip(members, moments, strict=True):
            stop = start + len(layout)
            out[i] = _patches(tower, tiles[i], layout, joined, slice(start, stop), cls_token, interpolate)
            start = stop
    return [out[i] for i in range(len(tiles))]


@node(version=1, lane="gpu", provides=CHANNELS, batch=_encode_many, foresee=_foresee)
def encode_vision(
    vision: Model[VisionTower],
    tiles: Tiles,
    *,
    layer: int | None = None,
    features: Features = "auto",
    max_tiles: MaxTiles = 32,
    interpolate: bool = False,
) -> Patches:
    """One token per patch of every tile, tile by tile, with the side channels that are wanted downstream.

    The tower stops at the last layer that anyone needs. An eager call offers `keys` and, if the tower has a
    [CLS] token, `cls_attention`; `with demand(...)` asks for others.

    vision: the tower.
    tiles: normalised tiles of the tower's size; Qwen2.5-VL's reads two frames of a clip as one.
    layer: whose output is taken, numbered as hidden_states (-2: last but one); null: the checkpoint's.
    features: `patch`: patches alone; `cls_patch`: each tile starts with its [CLS]; `auto`: the checkpoint's.
    max_tiles: tiles that run at once; bounds memory, does not change the result.
    interpolate: fit the position embeddings to tiles of another size.
    """
    [out] = _encode_many(
        [vision],
        [tiles],
        layer=layer,
        features=features,
        max_tiles=max_tiles,
        interpolate=interpolate,
    )
    return out


def _refuse_pvc(facts: TowerFacts) -> None:
    if facts.pvc is not None:
        raise WiringError(
            "encode_vision.vision: this tower attends between frames (PVC); use repeat_frames and encode_pvc "
            "instead"
        )


def keeps_cls(facts: TowerFacts, features: Features) -> bool:
    """Whether each tile's tokens begin with its [CLS]. Errors: WiringError for a tower without one."""
    if features == "cls_patch" and not facts.has_cls:
        raise WiringError(
            f"encode_vision.features: 'cls_patch', but {FAMILY[facts.family]} has no [CLS] token; "
            "set features: patch"
        )
    return (facts.select_feature if features == "auto" else features) == "cls_patch"


def wishes(facts: ModelFacts) -> list[Need]:
    """What is wanted of this node; without a planner, what is cheap.

    Errors: NeedError when the layers of the checkpoint's own projector are wanted and nobody knows them.
    """
    asked = wanted()
    if asked is None:
        return [Need("keys"), *([Need("cls_attention")] if facts.tower and facts.tower.has_cls else [])]
    mine = {need for need in asked if need.channel in CHANNELS}
    own = {need for need in mine if need.form == OWN}
    layers = facts.projector.layers if facts.projector is not None else None
    if own and facts.projector is not None and facts.projector.kind != PACKER:
        raise NeedError(
            f"encode_vision: a node after it wants the layers that a TokenPacker reads, but {facts.name} has "
            "another projector; use the node for that one, or set levels there"
        )
    if own and layers is None:
        raise NeedError(
            f"encode_vision: a node after it wants the layers that the projector of {facts.name} reads, and "
            "nobody knows them; set that node's levels"
        )
    each = {Need(need.channel, layer, need.rows) for need in own for layer in layers or ()}
    return sorted((mine - own) | each, key=lambda need: need.key)


def _chunked(
    tower: VisionTower,
    pixels: Sequence[Tensor],
    needs: Sequence[Need],
    max_tiles: int,
    layer: int,
    cls_token: bool,
    interpolate: bool,
) -> TowerOutput:
    """All tiles of all items, `max_tiles` at a time."""
    total = sum(len(p) for p in pixels)
    all_pixels = pixels[0] if len(pixels) == 1 else torch.cat(list(pixels))
    parts: list[TowerOutput] = []
    for start in range(0, total, max_tiles):
        part = all_pixels[start : start + max_tiles]
        parts.append(
            tower.encode(part, layer=layer, wanted=needs, cls_token=cls_token, interpolate=interpolate)
        )
        progress(start + len(part), total, "tiles")
    if len(parts) == 1:
        return parts[0]
    side = {key: torch.cat([p.side[key] for p in parts]) for key in parts[0].side}
    return TowerOutput(torch.cat([p.hidden for p in parts]), side)


def _moments(tiles: Tiles, length: int) -> tuple[Tensor, tuple[Tile, ...]]:
    """Pixels [K, 3, h, w], or [K, 3, T, h, w] for a tower that reads T = `length` tiles at once.

    Such tiles follow each other in one sequence; a shorter run, or a picture, repeats its last. And the first
    tile of each of the K.
    """
    if length == 1:
        return tiles.stacked(), tiles.layout
    runs: list[list[int]] = []
    for i, tile in enumerate(tiles.layout):
        last = tiles.layout[i - 1] if i else tile
        follows = tile.sequence == last.sequence and tile.time == last.time + 1
        if follows and tile.time % length:
            runs[-1].append(i)
        else:
            runs.append([i])
    index_KT = torch.tensor([run + run[-1:] * (length - len(run)) for run in runs])
    return tiles.stacked()[index_KT].transpose(1, 2), tuple(tiles.layout[run[0]] for run in runs)


def _patches(
    tower: VisionTower,
    tiles: Tiles,
    layout: tuple[Tile, ...],
    out: TowerOutput,
    own: slice,
    cls_token: bool,
    interpolate: bool,
) -> Patches:
    rows, cols = tile_grid(tower.facts, tiles.pixels, interpolate)
    source = Source(layout, rows, cols, tiles.sizes, tiles.seconds)
    side = {key: value[own].flatten(0, 1) for key, value in out.side.items()}
    return Patches.of_patches(source, out.hidden[own].flatten(0, 1), side, cls_token)
