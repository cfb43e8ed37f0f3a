"""Progressive visual token compression (PVC): static videos, attention between frames, a timed compressor.

PVC's modelling code and weights could not be read; these are the definitions of specs/pvc.md, section 5,
every one of them an option.
"""

# K = tiles (copies counted), G = groups, P = patches of a group, C = width of the tower

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime import context, cost
from ..runtime.errors import WiringError
from ..runtime.foreseen import KnownTiles, KnownTokens, pictures_of
from ..runtime.models.handle import Model, ProjectorFacts, PvcFacts
from ..runtime.models.projector import Projector
from ..runtime.models.pvc import Compressor, Rule, Sequences
from ..runtime.models.tower import CHANNELS, VisionTower, check_need, layer_number, tile_grid
from ..runtime.models.tower_pvc import Progressive, PvcTower, pvc_facts
from ..runtime.node import node
from ..runtime.repeats import Cells, Flag, Repeating, Way, repeated
from ..runtime.values import Patches, Source, Tiles, Tokens, VisualTokens
from ..runtime.widgets import Range
from .encode import Features, keeps_cls, wishes
from .shuffle import Ratio, Version, foreseen_groups, group_places, groups_of

Copies = Annotated[int, Range(1)]
Time = Literal["auto", "fraction", "fraction_inclusive", "index"]
Adaln = Literal["attn", "temporal", "ffn"]
IMAGE, VIDEO = 4, 1  # copies, where no checkpoint says
ROWS = 1 << 11  # groups that are projected at once: 128 MiB of them at the released width, in float32


def _foresee_repeat(
    tiles: KnownTiles | Tiles | None,
    vision: Model[VisionTower] | None = None,
    *,
    data_flag: Flag,
    image_repeat_time: int | None,
    video_repeat_time: int | None,
    tile_repeat_way: Way | None,
    cells: Cells,
) -> KnownTiles | None:
    how = _repeating(vision, data_flag, image_repeat_time, video_repeat_time, tile_repeat_way, cells)
    if isinstance(tiles, Tiles):
        many = repeated(tiles, how)
        return KnownTiles(count=len(many), sizes=many.sizes, pictures=pictures_of(many))
    clip = data_flag == "video" if data_flag != "auto" or tiles is None else tiles.clip
    if tiles is None or (clip is None and how.image != how.video):
        return None  # it depends on what is a clip
    copies = how.video if clip else how.image
    pictures = None if tiles.pictures is None else tuple(copies * count for count in tiles.pictures)
    return replace(tiles, count=len(tiles) * copies, pictures=pictures)


@node(version=1, foresee=_foresee_repeat)
def repeat_frames(
    tiles: Tiles,
    vision: Model[VisionTower] | None = None,
    *,
    data_flag: Flag = "auto",
    image_repeat_time: Copies | None = None,
    video_repeat_time: Copies | None = None,
    tile_repeat_way: Way | None = None,
    cells: Cells = "apart",
) -> Tiles:
    """The tiles as frames of videos (PVC): a tile of a picture is a static video of its own, a clip is one.

    Copies share their pixels, and each is a tile with its own sequence and frame number, so that every token
    knows of which copy it is. Errors: MediaError for pictures that do not go with the flag, tiles that are
    repeated already, and frames of a clip that are not cut alike.
    Source: PVC's README (data_flag, image_repeat_time, video_repeat_time, tile_repeat_way).

    tiles: of pictures, clips, or both.
    vision: the tower of a PVC checkpoint, which may say how often.
    data_flag: `auto`: what came from a clip is one; `single` picture, `multi` pictures, or a `video`, of
        which every picture is a frame (1, 2, 3 in the released code).
    image_repeat_time: copies of a picture's tile; null: the checkpoint's, or 4.
    video_repeat_time: copies of a clip's frame; null: the checkpoint's, or 1.
    tile_repeat_way: `tile`: all copies of a tile, then the next; `frame`: all tiles, then all again; null:
        the checkpoint's, or tile.
    cells: frames of a clip that are cut into several tiles: `apart`: each place in the frame is a sequence;
        `together`: all tiles are frames of one.
    """
    how = _repeating(vision, data_flag, image_repeat_time, video_repeat_time, tile_repeat_way, cells)
    return repeated(tiles, how)


def _repeating(
    vision: Model[VisionTower] | None,
    flag: Flag,
    image: int | None,
    video: int | None,
    way: Way | None,
    cells: Cells,
) -> Repeating:
    own: PvcFacts | None = None
    if vision is not None and vision.facts.tower is not None:
        own = pvc_facts("repeat_frames", vision.facts.tower)
    return Repeating(
        flag=flag,
        image=image or (IMAGE if own is None else own.image_repeat),
        video=video or (VIDEO if own is None else own.video_repeat),
        way=way or ("tile" if own is None else own.repeat_way),
        cells=cells,
    )


def _foresee_encode(
    vision: Model[VisionTower] | None,
    tiles: KnownTiles | Tiles | None,
    *,
    temporal_layers: int | None,
    adaln_on: tuple[Adaln, ...] | None,
    time: Time,
    time_scale: float | None,
    layer: int | None,
    features: Features,
    max_tiles: int,
    interpolate: bool,
    share: bool,
) -> KnownTokens | None:
    facts = vision.facts.tower if vision is not None else None
    if vision is None or facts is None:
        return None
    Progressive.of("encode_pvc", facts, temporal_layers, adaln_on, time, time_scale)
    feature = layer_number("encode_pvc.layer", facts, facts.select_layer if layer is None else layer)
    for need in wishes(vision.facts):
        check_need(facts, need, feature)
    cls_token = keeps_cls(facts, features)
    return KnownTokens(
        tiles=None if tiles is None else len(tiles),
        per_tile=None if interpolate else facts.grid**2 + cls_token,
        cls_token=cls_token,
        cls_scores=True,
        width=facts.hidden,
        patches=None if interpolate else (facts.grid, facts.grid),
        sizes=None if tiles is None else tiles.sizes,
        pictures=pictures_of(tiles),
        grid=True,
        complete=True,
    )


@node(version=1, lane="gpu", provides=CHANNELS, foresee=_foresee_encode)
def encode_pvc(
    vision: Model[VisionTower],
    tiles: Tiles,
    *,
    temporal_layers: Annotated[int, Range(0)] | None = None,
    adaln_on: tuple[Adaln, ...] | None = None,
    time: Time = "auto",
    time_scale: float | None = None,
    layer: int | None = None,
    features: Features = "auto",
    max_tiles: Annotated[int, Range(1)] = 32,
    interpolate: bool = False,
    share: bool = True,
) -> Patches:
    """One token per patch of every frame, with attention between the frames of a sequence in the last layers.

    Each place attends to the same place of its own and earlier frames. Side channels are those of
    encode_vision, of the attention inside a tile. Errors: WiringError for a tower without temporal modules
    and for options that it has no weights for, MediaError for tiles that are no whole sequences.
    Source: PVC, sec. 3, as proposed in specs/pvc.md: the released code could not be read.

    vision: the tower of a PVC checkpoint.
    tiles: as repeat_frames returns them.
    temporal_layers: how many of the last temporal layers run; null: all that the checkpoint has.
    adaln_on: where time modulates a norm: `attn`, `temporal`, `ffn`; null: wherever it has weights.
    time: of frame i of T: `fraction` i / T, `fraction_inclusive` i / (T - 1), `index` i; auto: the
        checkpoint's.
    time_scale: what times are multiplied by; null: the checkpoint's.
    layer: whose output is taken, numbered as hidden_states (-2: last but one); null: the checkpoint's.
    features: `patch`: patches alone; `cls_patch`: each tile starts with its [CLS]; `auto`: the checkpoint's.
    max_tiles: tiles that run at once; bounds memory, does not change the result.
    interpolate: fit the position embeddings to tiles of another size.
    share: run what is the same for all copies of a tile once; the same result either way.
    """
    tower = _tower(vision)
    facts = tower.facts
    how = Progressive.of("encode_pvc", facts, temporal_layers, adaln_on, time, time_scale)
    sequences = Sequences.of("encode_pvc.tiles", tiles.layout, how.time, how.time_scale)
    cls_token = keeps_cls(facts, features)
    out = tower.encode_frames(
        tiles.pixels,
        sequences,
        how,
        layer=facts.select_layer if layer is None else layer,
        shown=tiles.shown,
        wanted=wishes(vision.facts),
        cls_token=cls_token,
        interpolate=interpolate,
        chunk=max_tiles,
        share=share,
    )
    source = Source(tiles.layout, *tile_grid(facts, tiles.pixels, interpolate), tiles.sizes, tiles.seconds)
    side = {key: value.flatten(0, 1) for key, value in out.side.items()}
    return Patches.of_patches(source, out.hidden.flatten(0, 1), side, cls_token)


def _tower(vision: Model[VisionTower]) -> PvcTower:
    if vision.facts.tower is not None:
        pvc_facts("encode_pvc", vision.facts.tower)
    tower = vision.load()
    assert isinstance(tower, PvcTower), "its facts say so"
    return tower


def _foresee_project(
    projector: Model[Projector] | None,
    tokens: KnownTokens | None,
    *,
    adaln: bool | None,
    time: Time,
    time_scale: float | None,
    ratio: float | None,
    version: Version | None,
) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if facts is None:
        return None
    _own(facts, adaln)
    return foreseen_groups("project_pvc", facts, tokens, ratio)


@node(version=1, lane="gpu", foresee=_foresee_project)
def project_pvc(
    projector: Model[Projector],
    tokens: Tokens,
    *,
    adaln: bool | None = None,
    time: Time = "auto",
    time_scale: float | None = None,
    ratio: Ratio | None = None,
    version: Version | None = None,
) -> VisualTokens:
    """One token of the language model's width for every square group of patches, modulated by time (PVC).

    Pixel shuffle without [CLS], LayerNorm with AdaLN, and InternVL2's MLP: 64 tokens of 32 x 32 patches. Each
    token stands for the patches of its own copy; side channels become their mean. Errors: those of
    project_pixel_shuffle, and MediaError for frames that are not counted on from 0.
    Source: PVC, sec. 3, as proposed in specs/pvc.md: the released code could not be read.

    projector: of a PVC checkpoint.
    tokens: the patches of encode_pvc.
    adaln: modulate by time; null: if the checkpoint has weights for it.
    time: of frame i of T: `fraction` i / T, `fraction_inclusive` i / (T - 1), `index` i; auto: the
        checkpoint's. Take the one of encode_pvc.
    time_scale: what times are multiplied by; null: the checkpoint's.
    ratio: of the grid's sides after and before: 0.25 makes one token of 4 x 4; null: the checkpoint's.
    version: order of a tile's tokens: v1 column by column, v2 row by row; null: the checkpoint's.
    """
    facts = _known(projector.facts.projector)
    own, modulates = _own(facts, adaln)
    rule: Rule = own.time if time == "auto" else time
    scale = own.time_scale if time_scale is None else time_scale
    patches, row_GP = groups_of("project_pvc", tokens, facts, ratio, version)
    places = group_places(patches, row_GP)
    time_G = None
    if modulates:
        times = Sequences.of("project_pvc.tokens", tokens.source.tiles, rule, scale, part=True).time
        time_G = times.to(places.device)[places.home]
    features = _compressed(projector, patches.features, row_GP, time_G)
    return places.to(features.device).with_features(features, into=VisualTokens)


def _compressed(
    projector: Model[Projector], feature_NC: Tensor, row_GP: Tensor, time_G: Tensor | None
) -> Tensor:
    """[G, D] of all groups, ROWS of them at a time."""
    model = projector.load()
    compressor = model.module
    assert isinstance(compressor, Compressor), "its facts say so"
    weight, parts = next(compressor.parameters()), list[Tensor]()
    with torch.no_grad():
        for start in range(0, max(len(row_GP), 1), ROWS):
            some = slice(start, start + ROWS)
            grouped = feature_NC[row_GP[some]].flatten(1).to(weight.device, weight.dtype)
            parts.append(compressor(grouped, None if time_G is None else time_G[some]))
    context.count(cost.projector(model.facts, len(row_GP), len(row_GP)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _own(facts: ProjectorFacts, adaln: bool | None) -> tuple[PvcFacts, bool]:
    """What the checkpoint says of time, and whether it is to modulate."""
    if facts.pvc is None:
        raise WiringError(
            f"project_pvc.projector: this one ({facts.kind}) is of no PVC checkpoint; use "
            f"{'project_pixel_shuffle' if facts.kind == 'pixel_shuffle' else 'the node of its kind'} instead"
        )
    if adaln and not facts.pvc.compressor_adaln:
        raise WiringError("project_pvc.adaln: true, but the checkpoint has no weights for it; leave it out")
    return facts.pvc, facts.pvc.compressor_adaln if adaln is None else adaln


def _known(facts: ProjectorFacts | None) -> ProjectorFacts:
    assert facts is not None, "a handle without the facts of its own part"
    return facts
