"""Tokens with provenance: every token knows which source patches it stands for, and with what share.

Four makers are enough for every stage between tower and LLM, so provenance cannot be lost:
    select(index)        keep rows              merge(assign, ...)   rows to fewer rows
    concat(a, b)         join over one source   with_features(f)     same rows, new vectors

N = tokens, M = memberships, D = width, K = tiles, P = patches of a tile
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import Self, TypeVar, overload

import torch
from torch import Tensor

from .media import Tile

T = TypeVar("T", bound="Tokens")


class Kind(IntEnum):
    """What a token is. Selection keeps the kind, merging states it."""

    PATCH = 0
    CLS = 1
    CONTEXTUAL = 2
    STATIC = 3
    DYNAMIC = 4
    POOLED = 5
    NEWLINE = 6
    SEPARATOR = 7


@dataclass(frozen=True)
class Source:
    """The patches a tower saw: `rows` x `cols` in each tile, numbered tile by tile, row by row.

    `tiles` says where every tile comes from, `sizes` the pictures' (width, height), `seconds` their times.
    """

    tiles: tuple[Tile, ...]
    rows: int
    cols: int
    sizes: tuple[tuple[int, int], ...] = ()
    seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.tiles) * self.rows * self.cols

    @property
    def per_tile(self) -> int:
        """Patches of one tile."""
        return self.rows * self.cols

    @property
    def frames(self) -> int:
        """How many pictures the tiles come from."""
        return 1 + max((tile.frame for tile in self.tiles), default=-1)

    @cached_property
    def frame_of_tile(self) -> Tensor:
        """[K] long: the picture of every tile."""
        return torch.tensor([tile.frame for tile in self.tiles], dtype=torch.long)

    def coordinates(self, device: torch.device | None = None) -> Tensor:
        """[K * P, 4] long: frame, tile, row and column of every patch."""
        tile = torch.arange(len(self.tiles), device=device)
        row = torch.arange(self.rows, device=device)
        col = torch.arange(self.cols, device=device)
        place = torch.cartesian_prod(tile, row, col).reshape(-1, 3)
        return torch.cat([self.frame_of_tile.to(place.device)[place[:, 0], None], place], 1)


@dataclass(frozen=True, eq=False)
class Tokens:
    """`features[i]` stands for the patches `member[start[i]:start[i + 1]]`; their `share`s sum to 1.

    features: [N, D] float. start: [N + 1] long. member: [M] long, patch ids of `source`. share: [M]
    float32. kind: [N] uint8, a `Kind`. home: [N] long, the tile where the token sits in reading order (a
    special token or [CLS] has no members but still a home; a token merged across tiles has the home of its
    first). side: demanded channels by `Need.key`, each [N, ...]. All on one device. Never written into.
    """

    features: Tensor
    source: Source
    start: Tensor
    member: Tensor
    share: Tensor
    kind: Tensor
    home: Tensor
    side: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        n, m = len(self.features), len(self.member)
        wrong = [
            f"{name} {tuple(t.shape)}, wanted {shape}"
            for name, t, shape in (
                ("start", self.start, (n + 1,)),
                ("share", self.share, (m,)),
                ("kind", self.kind, (n,)),
                ("home", self.home, (n,)),
            )
            if t.shape != shape
        ]
        if self.features.ndim != 2:
            wrong.append(f"features {tuple(self.features.shape)}, wanted [N, D]")
        wrong += [
            f"side[{k!r}] {tuple(v.shape)}, wanted ({n}, ...)" for k, v in self.side.items() if len(v) != n
        ]
        devices = {
            t.device for t in (self.features, self.start, self.member, self.share, self.kind, self.home)
        }
        if len(devices) > 1:
            wrong.append(f"tensors on {', '.join(sorted(map(str, devices)))}, wanted one device")
        if wrong:
            raise ValueError(f"{type(self).__name__}: {'; '.join(wrong)}")
        object.__setattr__(self, "side", MappingProxyType(dict(self.side)))

    @classmethod
    def of_patches(
        cls,
        source: Source,
        features: Tensor,
        side: Mapping[str, Tensor] | None = None,
        cls_token: bool = False,
    ) -> Self:
        """One token per patch, tile by tile; with `cls_token`, each tile's first row is its [CLS].

        features: [K * P, D], or [K * (1 + P), D] with `cls_token`.
        """
        tiles, rows, extra = len(source.tiles), source.per_tile, int(cls_token)
        n, device = tiles * (rows + extra), features.device
        if len(features) != n:
            grid = f"{tiles} tiles of {source.rows} x {source.cols} patches"
            raise ValueError(f"{len(features)} features for {n} tokens: {grid}")
        count = torch.ones(tiles, rows + extra, dtype=torch.long, device=device)
        count[:, :extra] = 0
        kind = torch.full((tiles, rows + extra), int(Kind.PATCH), dtype=torch.uint8, device=device)
        kind[:, :extra] = int(Kind.CLS)
        return cls(
            features,
            source,
            _starts(count.flatten()),
            torch.arange(len(source), device=device),
            torch.ones(len(source), device=device),
            kind.flatten(),
            torch.arange(tiles, device=device).repeat_interleave(rows + extra),
            side or {},
        )

    @classmethod
    def special(cls, source: Source, features: Tensor, kind: Kind, home: Tensor) -> Self:
        """Tokens that stand for no patch: newlines, separators. features: [N, D], home: [N] tile numbers."""
        n, device = len(features), features.device
        return cls(
            features,
            source,
            torch.zeros(n + 1, dtype=torch.long, device=device),
            torch.zeros(0, dtype=torch.long, device=device),
            torch.zeros(0, device=device),
            torch.full((n,), int(kind), dtype=torch.uint8, device=device),
            home.to(device, torch.long),
        )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """D."""
        return self.features.shape[1]

    @property
    def device(self) -> torch.device:
        """Where features and bookkeeping lie."""
        return self.features.device

    @cached_property
    def count(self) -> Tensor:
        """[N] long: how many patches each token stands for (ToMe's proportional-attention size)."""
        return self.start.diff()

    @cached_property
    def owner(self) -> Tensor:
        """[M] long: the token each membership belongs to."""
        return torch.repeat_interleave(self.count, output_size=len(self.member))

    @property
    def frame(self) -> Tensor:
        """[N] long: the picture each token's home tile comes from."""
        return self.source.frame_of_tile.to(self.device)[self.home]

    def centre(self) -> Tensor:
        """[N, 4] float32: share-weighted mean frame, tile, row, column; nan for a token without patches."""
        place = self.source.coordinates(self.device)[self.member] * self.share[:, None]
        out = torch.zeros(len(self), 4, device=self.device).index_add_(0, self.owner, place)
        return out.masked_fill_((self.count == 0)[:, None], torch.nan)

    def coverage(self) -> Tensor:
        """[K, rows, cols] float32: how much of each patch is still spoken for (0: dropped)."""
        out = torch.zeros(len(self.source), device=self.device).index_add_(0, self.member, self.share)
        return out.reshape(len(self.source.tiles), self.source.rows, self.source.cols)

    def by_tile(self) -> tuple[Tensor, Tensor]:
        """Row numbers by home tile, in order: [K, most] long, and the mask of the true ones, [K, most] bool.

        Padding repeats row 0.
        """
        return grouped(self.home, len(self.source.tiles))

    def select(self, index: Tensor) -> Self:
        """The rows `index` ([n] long, or [N] bool), in that order."""
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ValueError(f"select: mask of {tuple(index.shape)} for {len(self)} tokens")
            index = index.nonzero()[:, 0]
        if len(index) and (int(index.max()) >= len(self) or int(index.min()) < 0):
            raise ValueError(f"select: rows {int(index.min())}..{int(index.max())} of {len(self)} tokens")
        count = self.count[index]
        start = _starts(count)
        m = int(start[-1])
        # the membership rows that survive, in the order of `index`
        shift = torch.repeat_interleave(self.start[index] - start[:-1], count, output_size=m)
        row = torch.arange(m, device=self.device) + shift
        side = {k: v[index] for k, v in self.side.items()}
        return replace(
            self,
            features=self.features[index],
            start=start,
            member=self.member[row],
            share=self.share[row],
            kind=self.kind[index],
            home=self.home[index],
            side=side,
        )

    def merge(
        self,
        assign: Tensor,
        weight: Tensor | None = None,
        *,
        groups: int | None = None,
        kind: Kind | None = None,
    ) -> Self:
        """Weighted means of the tokens with the same `assign` id; row g of the result is group g.

        assign: [N] long in 0..groups-1, every group with at least one token. weight: [N] float >= 0,
        summing above 0 in every group; default 1. kind: of all results; default that of each group's first
        token.
        """
        groups = (int(assign.max()) + 1 if len(assign) else 0) if groups is None else groups
        if assign.shape != (len(self),):
            raise ValueError(f"merge: assign of {tuple(assign.shape)} for {len(self)} tokens")
        first = torch.full((groups,), len(self), device=self.device, dtype=torch.long)
        first = first.scatter_reduce(0, assign, torch.arange(len(self), device=self.device), "amin")
        weight = torch.ones(len(self), device=self.device) if weight is None else weight.to(torch.float32)
        total = torch.zeros(groups, device=self.device).index_add_(0, assign, weight)
        if bool((total <= 0).any()) or bool((first == len(self)).any()):
            bad = int(((total <= 0) | (first == len(self))).nonzero()[0, 0])
            raise ValueError(f"merge: group {bad} of {groups} has no token, or only weight 0")
        part = weight / total[assign]
        heir = assign[self.owner]
        order = heir.argsort(stable=True)
        share = (self.share * part[self.owner])[order]
        start = _starts(torch.bincount(heir, minlength=groups))
        member, share = _normalised(self.member[order], share, start)
        return replace(
            self,
            features=_mean(self.features, assign, part, groups),
            start=start,
            member=member,
            share=share,
            kind=self.kind[first] if kind is None else torch.full_like(self.kind[first], int(kind)),
            home=self.home[first],
            side={k: _mean(v, assign, part, groups) for k, v in self.side.items()},
        )

    def concat(self, *others: Self) -> Self:
        """These rows, then the others', over the same source; side channels that all of them carry."""
        for other in others:
            if other.source != self.source:
                raise ValueError(
                    "concat: the tokens come from different sources; join them in place_tokens instead"
                )
            if other.width != self.width:
                raise ValueError(f"concat: widths {self.width} and {other.width} differ; project both first")
        parts = (self, *others)
        base = type(self)
        for part in parts:  # VisualTokens with Tokens are Tokens
            base = base if issubclass(type(part), base) else type(part)
        shared = [k for k in self.side if all(k in part.side for part in parts)]
        offset, starts = 0, [self.start[:1]]
        for part in parts:
            starts.append(part.start[1:] + offset)
            offset += len(part.member)
        return base(
            torch.cat([p.features for p in parts]),
            self.source,
            torch.cat(starts),
            torch.cat([p.member for p in parts]),
            torch.cat([p.share for p in parts]),
            torch.cat([p.kind for p in parts]),
            torch.cat([p.home for p in parts]),
            {k: torch.cat([p.side[k] for p in parts]) for k in shared},
        )

    @overload
    def with_features(self, features: Tensor) -> Self: ...
    @overload
    def with_features(self, features: Tensor, into: type[T]) -> T: ...
    def with_features(self, features: Tensor, into: type[Tokens] | None = None) -> Tokens:
        """The same tokens with new vectors [N, D']; `into` changes their type (a projector's output)."""
        if len(features) != len(self):
            raise ValueError(f"with_features: {len(features)} rows for {len(self)} tokens")
        return (into or type(self))(
            features, self.source, self.start, self.member, self.share, self.kind, self.home, self.side
        )

    def with_side(self, **channels: Tensor) -> Self:
        """The same tokens with further side channels."""
        return replace(self, side={**self.side, **channels})

    def to(self, device: torch.device | str) -> Self:
        """The same tokens on another device."""
        if torch.device(device) == self.device:
            return self
        moved = {
            name: getattr(self, name).to(device)
            for name in ("features", "start", "member", "share", "kind", "home")
        }
        return replace(self, **moved, side={k: v.to(device) for k, v in self.side.items()})


@dataclass(frozen=True, eq=False)
class Patches(Tokens):
    """What a vision tower returns: one row per patch (and [CLS]), with the demanded side channels."""


@dataclass(frozen=True, eq=False)
class VisualTokens(Tokens):
    """Tokens of the language model's width: what projectors return."""


def grouped(group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """[groups, most] long row numbers of each group in order, and [groups, most] bool: which are true.

    group: [N] long in 0..groups-1. Padding repeats row 0.
    """
    count = torch.bincount(group, minlength=groups)
    most = int(count.max()) if groups else 0
    valid = torch.arange(most, device=group.device) < count[:, None]
    index = torch.zeros(groups, most, dtype=torch.long, device=group.device)
    index[valid] = group.argsort(stable=True)
    return index, valid


def _starts(count: Tensor) -> Tensor:
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def _mean(x: Tensor, assign: Tensor, part: Tensor, groups: int) -> Tensor:
    """Sum of `part * x` per group, in at least float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    weighted = wide * part.reshape(-1, *[1] * (x.ndim - 1)).to(wide.dtype)
    return (
        torch.zeros(groups, *x.shape[1:], dtype=wide.dtype, device=x.device)
        .index_add_(0, assign, weighted)
        .to(x.dtype)
    )


def _normalised(member: Tensor, share: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Shares that sum to 1 within each group again (specials without patches took some of the weight)."""
    count = start.diff()
    owner = torch.repeat_interleave(count, output_size=len(member))
    total = torch.zeros(len(count), device=share.device).index_add_(0, owner, share)
    return member, share / total[owner].clamp_min(torch.finfo(torch.float32).tiny)
