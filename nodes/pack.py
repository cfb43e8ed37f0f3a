"""The order in which a picture's tiles reach the language model, and where `image_newline` goes."""

# N = tokens, F = pictures, K = tiles, L = newlines

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..runtime.anyres import Rounding, unpad_span
from ..runtime.errors import CheckpointError
from ..runtime.foreseen import KnownTokens
from ..runtime.models.handle import Model
from ..runtime.models.projector import Projector, newline_of
from ..runtime.node import node
from ..runtime.values import Kind, VisualTokens

Merge = Literal["auto", "flat", "spatial", "spatial_unpad"]
AskedRounding = Literal["auto", "int", "hf"]
Layout = Literal["upstream", "spatial"]

BASE, MAP, CLS, OTHER = range(4)  # sections of a picture, in reading order
STEP = 64  # map places in 64ths of a patch, so that pooled tokens of one row share an integer


@node(version=1)
def pack_flat(tokens: VisualTokens) -> VisualTokens:
    """The tokens tile by tile."""
    return tokens.select(tokens.home.argsort(stable=True))


def _foresee_spatial(
    tokens: KnownTokens | None, projector: Model[Projector] | None, *, merge: Merge, rounding: AskedRounding
) -> KnownTokens | None:
    return _foresee("pack_spatial_unpad", tokens, projector, merge)


def _foresee_zip(
    tokens: KnownTokens | None,
    projector: Model[Projector] | None,
    *,
    layout: Layout,
    merge: Merge,
    rounding: AskedRounding,
) -> KnownTokens | None:
    return _foresee("pack_visionzip_next", tokens, projector, merge)


@node(version=1, foresee=_foresee_spatial)
def pack_spatial_unpad(
    tokens: VisualTokens,
    projector: Model[Projector],
    *,
    merge: Merge = "auto",
    rounding: AskedRounding = "auto",
) -> VisualTokens:
    """Per picture: its base tile, then its grid as one map without the padding, a newline after every row.

    Tokens without a place on the map ([CLS], contextual) follow it. A picture of one tile gets one newline at
    its end. Errors: CheckpointError when there is no `image_newline`. Source: LLaVA-NeXT.

    projector: holds `image_newline`.
    merge: `spatial_unpad`; `spatial`: neither unpadding nor newlines; `flat`: tile by tile; `auto`: the
        checkpoint's.
    rounding: of the unpadded size: `int` as LLaVA, `hf` as transformers, `auto` as the checkpoint's layout.
    """
    merge, rule = _choice(projector, merge, rounding)
    return _pack("pack_spatial_unpad", tokens, projector, merge, rule, map_newlines=merge == "spatial_unpad")


@node(version=1, foresee=_foresee_zip)
def pack_visionzip_next(
    tokens: VisualTokens,
    projector: Model[Projector],
    *,
    layout: Layout = "upstream",
    merge: Merge = "auto",
    rounding: AskedRounding = "auto",
) -> VisualTokens:
    """Per picture: its base tile, the grid's patches in raster order, its [CLS] and its contextual tokens.

    Errors: CheckpointError when a newline is due and there is no `image_newline`. Source: VisionZip's code.

    projector: holds `image_newline`.
    layout: `upstream`: padding stays, a newline only after a picture of one tile; `spatial`: padding goes,
        and a newline follows every row of the map that is not empty.
    merge: as in pack_spatial_unpad.
    rounding: as in pack_spatial_unpad.
    """
    merge, rule = _choice(projector, merge, rounding)
    newlines = merge == "spatial_unpad" and layout == "spatial"
    return _pack("pack_visionzip_next", tokens, projector, merge, rule, map_newlines=newlines)


def _pack(
    where: str,
    tokens: VisualTokens,
    projector: Model[Projector],
    merge: Merge,
    rounding: Rounding,
    *,
    map_newlines: bool,
) -> VisualTokens:
    """`map_newlines`: unpad the map, and end its rows with newlines."""
    if merge == "flat":
        return tokens.select(tokens.home.argsort(stable=True))
    places = _places(tokens)
    order = places.order()
    if map_newlines:
        order = order[places.shown(tokens, rounding)[order]]
    body, places = tokens.select(order), places.select(order)
    if merge == "spatial":
        return body
    after_L = places.row_ends() if map_newlines else order[:0]
    after_L = torch.cat([after_L, places.single_ends()])
    if not len(after_L):
        return body
    newline = newline_of(projector.load(), where, tokens.features).expand(len(after_L), -1)
    lines = VisualTokens.special(tokens.source, newline, Kind.NEWLINE, body.home[after_L])
    blank = {key: value.new_zeros(len(after_L), *value.shape[1:]) for key, value in body.side.items()}
    rank = torch.cat([2 * torch.arange(len(body), device=body.device), 2 * after_L + 1])
    return body.concat(lines.with_side(**blank)).select(rank.argsort())


@dataclass(frozen=True)
class _Places:
    """Of every token, [N]: picture, section, and row and column on its picture's map in 64ths of a patch.

    `single`: its picture has one tile only.
    """

    frame: Tensor
    section: Tensor
    row: Tensor
    col: Tensor
    home: Tensor
    single: Tensor

    def select(self, index: Tensor) -> _Places:
        return _Places(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def order(self) -> Tensor:
        """[N] long: reading order."""
        order = self.home.argsort(stable=True)
        for key in (self.col, self.row, self.section, self.frame):
            order = order[key[order].argsort(stable=True)]
        return order

    def shown(self, tokens: VisualTokens, rounding: Rounding) -> Tensor:
        """[N] bool: not on the padding of its picture's map."""
        bounds_F4 = torch.tensor(_bounds(tokens, rounding), device=tokens.device)
        top, bottom, left, right = (STEP * bounds_F4[self.frame]).unbind(1)
        inside = (self.row >= top) & (self.row <= bottom) & (self.col >= left) & (self.col <= right)
        return inside | (self.section != MAP)

    def row_ends(self) -> Tensor:
        """[L] long: the last tokens of the map's rows. The tokens must be in reading order."""
        line = torch.stack([self.frame, self.row, self.section])
        last = torch.ones_like(self.row, dtype=torch.bool)
        last[:-1] = (line[:, 1:] != line[:, :-1]).any(0)
        return (last & (self.section == MAP)).nonzero()[:, 0]

    def single_ends(self) -> Tensor:
        """[L] long: the last tokens of the pictures that have one tile. In reading order."""
        last = torch.ones_like(self.single)
        last[:-1] = self.frame[1:] != self.frame[:-1]
        return (last & self.single).nonzero()[:, 0]


def _places(tokens: VisualTokens) -> _Places:
    source, device = tokens.source, tokens.device
    layout = [(tile.frame, tile.row, tile.col, tile.whole) for tile in source.tiles]
    frame_K, row_K, col_K, whole_K = torch.tensor(layout, device=device).unbind(1)
    single_K = torch.bincount(frame_K, minlength=source.frames)[frame_K] == 1
    tile_M, patch_M = tokens.member // source.per_tile, tokens.member % source.per_tile
    row_M = row_K[tile_M] * source.rows + patch_M // source.cols
    col_M = col_K[tile_M] * source.cols + patch_M % source.cols
    place_M2 = torch.stack([row_M, col_M], 1) * tokens.share[:, None]
    place_N2 = torch.zeros(len(tokens), 2, device=device).index_add_(0, tokens.owner, place_M2)
    place_N2 = (place_N2 * STEP).round().long()

    base_N = (whole_K.bool() | single_K)[tokens.home]
    placed_N = (tokens.count > 0) & (tokens.kind != int(Kind.CLS)) & (tokens.kind != int(Kind.CONTEXTUAL))
    section_N = torch.full_like(tokens.home, OTHER)
    section_N[tokens.kind == int(Kind.CLS)] = CLS
    section_N[placed_N] = MAP
    section_N[base_N] = BASE
    row_N, col_N = place_N2.masked_fill((section_N != MAP)[:, None], 0).unbind(1)
    return _Places(frame_K[tokens.home], section_N, row_N, col_N, tokens.home, single_K[tokens.home])


def _bounds(tokens: VisualTokens, rounding: Rounding) -> list[tuple[int, int, int, int]]:
    """First and last row, first and last column that show each picture."""
    source = tokens.source
    rows, cols = [source.rows] * source.frames, [source.cols] * source.frames
    for tile in source.tiles:
        rows[tile.frame] = max(rows[tile.frame], (tile.row + 1) * source.rows)
        cols[tile.frame] = max(cols[tile.frame], (tile.col + 1) * source.cols)
    spans = [unpad_span(*fact, rounding) for fact in zip(source.sizes, rows, cols, strict=True)]
    return [(down.start, down.stop - 1, across.start, across.stop - 1) for down, across in spans]


def _choice(projector: Model[Projector], merge: Merge, rounding: AskedRounding) -> tuple[Merge, Rounding]:
    """What `auto` stands for with this checkpoint; LLaVA-NeXT's own when it does not say."""
    facts = projector.facts.image
    if merge == "auto":
        merge = "spatial_unpad" if facts is None else facts.merge_type
    if rounding == "auto":
        rounding = "int" if facts is None else facts.unpad_rounding
    return merge, rounding


def _foresee(
    where: str, tokens: KnownTokens | None, projector: Model[Projector] | None, merge: Merge
) -> KnownTokens | None:
    facts = projector.facts.projector if projector is not None else None
    if projector is not None and facts is not None and not facts.newline:
        chosen, _ = _choice(projector, merge, "auto")
        if chosen == "spatial_unpad":
            raise CheckpointError(
                f"{where}: {projector.facts.name} has no image_newline vector; set merge: spatial or flat"
            )
    return None if tokens is None else replace(tokens, per_tile=None)
