"""The order in which a picture's tiles reach the language model, and where `image_newline` goes."""

# N = tokens, F = pictures, K = tiles, L = newlines

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime.anyres import Rounding, scaled_down, unpad_span
from ..runtime.errors import CheckpointError, WiringError
from ..runtime.foreseen import TAKEN, KnownTokens
from ..runtime.models.handle import Model
from ..runtime.models.projector import Projector, newline_of
from ..runtime.node import node
from ..runtime.pooling import resampled
from ..runtime.values import Kind, VisualTokens
from ..runtime.widgets import Range

Merge = Literal["auto", "flat", "spatial", "spatial_unpad"]
AskedRounding = Literal["auto", "int", "hf"]
Layout = Literal["upstream", "spatial"]
Every = Literal["auto", "clip", "frame", "row", "none"]

BASE, MAP, CLS, OTHER = range(4)  # sections of a picture, in reading order
STEP = 64  # map places in 64ths of a patch, so that pooled tokens of one row share an integer


def _foresee_flat(tokens: KnownTokens | None) -> KnownTokens | None:
    return tokens


@node(version=1, foresee=_foresee_flat)
def pack_flat(tokens: VisualTokens) -> VisualTokens:
    """The tokens tile by tile."""
    return tokens.select(tokens.home.argsort(stable=True))


def _foresee_spatial(
    tokens: KnownTokens | None,
    projector: Model[Projector] | None,
    *,
    merge: Merge,
    rounding: AskedRounding,
    max_tiles: int | None,
) -> KnownTokens | None:
    known = _foresee("pack_spatial_unpad", tokens, projector, merge)
    if tokens is None or projector is None or tokens.grid is not False or tokens.pictures is None:
        return known
    most = _most_tiles(projector, max_tiles)
    if most and max(tokens.pictures) - 1 > most and _choice(projector, merge, rounding)[0] == "spatial_unpad":
        raise _not_whole_map("pack_spatial_unpad", TAKEN, f"more than {most} tiles")
    return known


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
    max_tiles: Annotated[int, Range(0)] | None = None,
) -> VisualTokens:
    """Per picture: its base tile, then its grid as one map without the padding, a newline after every row.

    Tokens without a place on the map ([CLS], contextual) follow it. A picture of one tile gets one newline at
    its end. Errors: CheckpointError when there is no `image_newline`; WiringError for a map to scale down
    that lacks tokens. Source: LLaVA-NeXT; the scaling: LLaVA-OneVision (`anyres_max_9`).

    projector: holds `image_newline`.
    merge: `spatial_unpad`; `spatial`: neither unpadding nor newlines; `flat`: tile by tile; `auto`: the
        checkpoint's.
    rounding: of the unpadded size: `int` as LLaVA, `hf` as transformers, `auto` as the checkpoint's layout.
    max_tiles: a map with more patches than so many tiles is scaled down to that (bilinear); 0: never; null:
        the checkpoint's.
    """
    merge, rule = _choice(projector, merge, rounding)
    max_tiles = _most_tiles(projector, max_tiles)
    lines = merge == "spatial_unpad"
    return _pack("pack_spatial_unpad", tokens, projector, merge, rule, max_tiles, map_newlines=lines)


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
    max_tiles: int = 0,
    *,
    map_newlines: bool,
) -> VisualTokens:
    """`map_newlines`: unpad the map, scale it down to `max_tiles`, and end its rows with newlines."""
    if merge == "flat":
        return tokens.select(tokens.home.argsort(stable=True))
    places = _places(tokens)
    order = places.order()
    if map_newlines:
        order = order[places.shown(tokens, rounding)[order]]
    body, places = tokens.select(order), places.select(order)
    if max_tiles and map_newlines:
        body, places = _scaled_down(where, body, places, rounding, max_tiles)
    if merge == "spatial":
        return body
    after_L = places.row_ends() if map_newlines else order[:0]
    after_L = torch.cat([after_L, places.single_ends()])
    return _with_newlines(where, body, projector, after_L)


def _with_newlines(
    where: str, body: VisualTokens, projector: Model[Projector], after_L: Tensor
) -> VisualTokens:
    """The tokens with an `image_newline` after each of the rows `after_L` [L] long."""
    if not len(after_L):
        return body
    newline = newline_of(projector.load(), where, body.features).expand(len(after_L), -1)
    lines = VisualTokens.special(body.source, newline, Kind.NEWLINE, body.home[after_L])
    blank = {key: value.new_zeros(len(after_L), *value.shape[1:]) for key, value in body.side.items()}
    rank = torch.cat([2 * torch.arange(len(body), device=body.device), 2 * after_L + 1])
    return body.concat(lines.with_side(**blank)).select(rank.argsort())


def _scaled_down(
    where: str, body: VisualTokens, places: _Places, rounding: Rounding, most: int
) -> tuple[VisualTokens, _Places]:
    """Maps of more than `most` tiles' worth of patches, bilinear to less. In reading order."""
    source, parts, done = body.source, list[tuple[VisualTokens, _Places]](), 0
    for frame, (top, bottom, left, right) in enumerate(_bounds(body, rounding)):
        size = bottom - top + 1, right - left + 1
        target = scaled_down(*size, source.per_tile, most)
        if target == size:
            continue
        on_map = ((places.frame == frame) & (places.section == MAP)).nonzero()[:, 0]
        _check_whole_map(where, body.count[on_map], size)
        first, stop = int(on_map[0]), int(on_map[-1]) + 1
        before = torch.arange(done, first, device=body.device)
        small = resampled(body.select(on_map), size, target)
        parts += [
            (body.select(before), places.select(before)),
            (small, places.select(on_map[: len(small)]).moved(small.home, target)),
        ]
        done = stop
    rest = torch.arange(done, len(body), device=body.device)
    parts.append((body.select(rest), places.select(rest)))
    bodies, all_places = zip(*parts, strict=True)
    return bodies[0].concat(*bodies[1:]), _Places.joined(all_places)


def _check_whole_map(where: str, patches: Tensor, size: tuple[int, int]) -> None:
    """`patches`: how many each token of the map stands for."""
    if len(patches) == size[0] * size[1] and bool((patches == 1).all()):
        return
    raise _not_whole_map(where, f"{len(patches)} tokens", f"{size[0]} x {size[1]} patches")


def _not_whole_map(where: str, came: str, of: str) -> WiringError:
    return WiringError(
        f"{where}.tokens: {came} on a map of {of}, but scaling it down takes all of its patches; compress "
        "after this node, or set max_tiles: 0"
    )


def _most_tiles(projector: Model[Projector], asked: int | None) -> int:
    """A map of more is scaled down; 0: never."""
    if asked is not None:
        return asked
    return 0 if projector.facts.image is None else projector.facts.image.max_tiles


def _foresee_newline(
    tokens: KnownTokens | None, projector: Model[Projector] | None, *, every: Every
) -> KnownTokens | None:
    if projector is not None and _every(projector, every) != "none":
        _check_newline("append_newline", projector, "set every: none")
    return tokens and replace(tokens, grid=False)  # counted are those of the tiles; newlines belong to none


@node(version=1, foresee=_foresee_newline)
def append_newline(
    tokens: VisualTokens, projector: Model[Projector], *, every: Every = "auto"
) -> VisualTokens:
    """A clip's tokens with `image_newline` where the checkpoint was trained to see it (OneVision: the end).

    It stands for no patch, and pruning inside the language model leaves it alone, like text. Errors:
    CheckpointError when the checkpoint has no `image_newline`. Source: the LLaVA-NeXT repository.

    tokens: those of one clip, in reading order; after compression a row is one that is left.
    projector: holds `image_newline`.
    every: `clip`: one at the end; `frame`: one after each frame; `row`: one after each row of each frame
        (LLaVA-Video's `grid`); `none`; `auto`: the checkpoint's `mm_newline_position`, else `clip`.
    """
    every = _every(projector, every)
    if every == "none":
        return tokens
    _check_newline("append_newline", projector, "set every: none")
    last = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    last[:-1] = False if every == "clip" else tokens.frame[1:] != tokens.frame[:-1]
    if every == "row":
        col = tokens.centre()[:, 3]
        last[:-1] |= col[1:] <= col[:-1]  # reading order goes back to the left
    return _with_newlines("append_newline", tokens, projector, last.nonzero()[:, 0])


def _every(projector: Model[Projector], every: Every) -> Every:
    if every != "auto":
        return every
    return "clip" if projector.facts.image is None else projector.facts.image.newline


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

    @classmethod
    def joined(cls, parts: Sequence[_Places]) -> _Places:
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))

    def moved(self, home: Tensor, size: tuple[int, int]) -> _Places:
        """The same pictures and sections, on the places of a map of (rows, columns), with other homes."""
        row, col = torch.cartesian_prod(
            torch.arange(size[0], device=home.device), torch.arange(size[1], device=home.device)
        ).unbind(1)
        return replace(self, row=STEP * row, col=STEP * col, home=home)

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
    if projector is not None and _choice(projector, merge, "auto")[0] == "spatial_unpad":
        _check_newline(where, projector, "set merge: spatial or flat")
    return None if tokens is None else replace(tokens, per_tile=None, grid=False, complete=False)


def _check_newline(where: str, projector: Model[Projector] | None, way_out: str) -> None:
    facts = projector.facts.projector if projector is not None else None
    if projector is not None and facts is not None and not facts.newline:
        raise CheckpointError(f"{where}: {projector.facts.name} has no image_newline vector; {way_out}")
