"""Tokens with provenance: every token knows which source patches it stands for, and with what share.

Four makers are enough for every stage between tower and LLM, so provenance cannot be lost:
    select(index)        keep rows              merge(assign, ...)   rows to fewer rows
    concat(a, b)         join over one source   with_features(f)     same rows, new vectors

N = tokens, M = memberships, D = width, K = tiles, P = patches of a tile
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Self, TypeVar, overload

import torch
from torch import Tensor

from .brief import brief
from .membership import grouped, mean, starts, united
from .source import Kind, Source

T = TypeVar("T", bound="Tokens")


@dataclass(frozen=True, eq=False)
class Tokens:
    """`features[i]` stands for the patches `member[start[i]:start[i + 1]]`; their `share`s sum to 1.

    features: [N, D] float. start: [N + 1] long. member: [M] long, patch ids of `source`. share: [M]
    float32. kind: [N] uint8, a `Kind`. home: [N] long, the tile where the token sits in reading order (a
    special token or [CLS] has no members but still a home; a token merged across tiles has the home of its
    first). side: demanded channels by `Need.key`, each [N, ...]. All on one device. Never written into.
    proven: the numbers follow from those of checked tokens and are not looked through again (makers only).
    """

    features: Tensor
    source: Source
    start: Tensor
    member: Tensor
    share: Tensor
    kind: Tensor
    home: Tensor
    side: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    proven: InitVar[bool] = False

    def __post_init__(self, proven: bool) -> None:
        n, m = len(self.features), len(self.member)
        wrong = [
            f"{name} {tuple(t.shape)} {t.dtype}, wanted {shape} {dtype}"
            for name, t, shape, dtype in (
                ("start", self.start, (n + 1,), torch.long),
                ("member", self.member, (m,), torch.long),
                ("share", self.share, (m,), torch.float32),
                ("kind", self.kind, (n,), torch.uint8),
                ("home", self.home, (n,), torch.long),
            )
            if t.shape != shape or t.dtype != dtype
        ]
        if self.features.ndim != 2 or not self.features.is_floating_point():
            wrong.append(f"features {tuple(self.features.shape)} {self.features.dtype}, wanted [N, D] float")
        wrong += [
            f"side[{k!r}] {tuple(v.shape)}, wanted ({n}, ...)" for k, v in self.side.items() if len(v) != n
        ]
        parts = (self.features, self.start, self.member, self.share, self.kind, self.home)
        devices = {t.device for t in (*parts, *self.side.values())}
        if len(devices) > 1:
            wrong.append(f"tensors on {', '.join(sorted(map(str, devices)))}, wanted one device")
        wrong = wrong or ([] if proven else self._wrong_contents())
        if wrong:
            raise ValueError(f"{type(self).__name__}: {'; '.join(wrong)}")
        object.__setattr__(self, "side", MappingProxyType(dict(self.side)))

    def _wrong_contents(self) -> list[str]:
        """What is wrong with the numbers; one wait for the device."""
        m, patches, tiles = len(self.member), len(self.source), len(self.source.tiles)
        count = self.start.diff()
        checks = {
            f"start does not rise from 0 to {m}": (
                (self.start[0] == 0) & (self.start[-1] == m) & (count >= 0).all()
            ),
            f"member is not within 0..{patches - 1}": _within(self.member, patches),
            f"home is not within 0..{tiles - 1}": _within(self.home, tiles),
            "share is negative or nan": (self.share >= 0).all(),
        }
        good = torch.stack([*checks.values()]).tolist()
        if wrong := [text for text, fine in zip(checks, good, strict=True) if not fine]:
            return wrong
        owner = torch.repeat_interleave(count, output_size=m)
        total = self.share.new_zeros(len(self)).index_add_(0, owner, self.share)
        off = (total - 1).abs_().masked_fill_(count == 0, 0) > 1e-3
        return [f"shares of token {int(off.nonzero()[0, 0])} do not sum to 1"] if bool(off.any()) else []

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
            starts(count.flatten()),
            torch.arange(len(source), device=device),
            torch.ones(len(source), device=device),
            kind.flatten(),
            torch.arange(tiles, device=device).repeat_interleave(rows + extra),
            side or {},
            proven=True,
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{brief(self.features)}]"

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
        """The rows `index` ([n] long, or [N] bool), in that order; a row may be taken more than once."""
        index = index.to(self.device)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ValueError(f"select: mask of {tuple(index.shape)} for {len(self)} tokens")
            index = index.nonzero()[:, 0]
        if index.ndim != 1 or index.dtype not in (torch.long, torch.int32):
            raise ValueError(
                f"select: index is {tuple(index.shape)} {index.dtype}, wanted [n] long or [N] bool"
            )
        if len(index):
            low, high = torch.stack(torch.aminmax(index)).tolist()
            if low < 0 or high >= len(self):
                raise ValueError(f"select: rows {low}..{high} of {len(self)} tokens")
        count = self.count[index]
        start = starts(count)
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
            proven=True,
        )

    def merge(
        self,
        assign: Tensor,
        weight: Tensor | None = None,
        *,
        groups: int | None = None,
        kind: Kind | Tensor | None = None,
    ) -> Self:
        """Weighted means of the tokens with the same `assign` id; row g of the result is group g.

        assign: [N] long in 0..groups-1, every group with at least one token. weight: [N] float >= 0,
        summing above 0 in every group; default 1. kind: of all results, or [groups] uint8 of each; default
        that of each group's first token.
        """
        assign = assign.to(self.device)
        if assign.shape != (len(self),) or assign.dtype != torch.long:
            raise ValueError(
                f"merge: assign is {tuple(assign.shape)} {assign.dtype}, wanted ({len(self)},) torch.int64"
            )
        groups = (int(assign.max()) + 1 if len(assign) else 0) if groups is None else groups
        first, part = self._merge_parts(assign, weight, groups)
        member, share, start = united(
            assign[self.owner], self.member, self.share * part[self.owner], groups, len(self.source)
        )
        if kind is None:
            kind = self.kind[first]
        return replace(
            self,
            features=mean(self.features, assign, part, groups),
            start=start,
            member=member,
            share=share,
            kind=kind if isinstance(kind, Tensor) else torch.full_like(self.kind[first], int(kind)),
            home=self.home[first],
            side={k: mean(v, assign, part, groups) for k, v in self.side.items()},
            proven=True,
        )

    def _merge_parts(self, assign: Tensor, weight: Tensor | None, groups: int) -> tuple[Tensor, Tensor]:
        """[groups] long: each group's first token; [N] float32: what part of its group each token is."""
        n = len(self)
        if n and (int(assign.max()) >= groups or int(assign.min()) < 0):
            given = f"{int(assign.min())}..{int(assign.max())}"
            raise ValueError(f"merge: groups {given} were assigned, wanted 0..{groups - 1}")
        weight = torch.ones(n, device=self.device) if weight is None else weight.to(self.share)
        if weight.shape != (n,) or not bool((weight >= 0).all()):
            shape = tuple(weight.shape)
            what = "a negative or nan weight" if shape == (n,) else f"weights of {shape} for {n} tokens"
            raise ValueError(f"merge: {what}")
        first = torch.full((groups,), n, device=self.device, dtype=torch.long)
        first = first.scatter_reduce(0, assign, torch.arange(n, device=self.device), "amin")
        total = torch.zeros(groups, device=self.device).index_add_(0, assign, weight)
        bad = (total <= 0) | (first == n)
        if bool(bad.any()):
            group = int(bad.nonzero()[0, 0])
            raise ValueError(f"merge: group {group} of {groups} has no token, or only weight 0")
        return first, weight / total[assign]

    def concat(self: T, *others: T) -> T:
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
        while not all(isinstance(part, base) for part in parts):  # VisualTokens with Tokens are Tokens
            base = base.__bases__[0]
        shared = [k for k in self.side if all(k in part.side for part in parts)]
        offset, begins = 0, [self.start[:1]]
        for part in parts:
            begins.append(part.start[1:] + offset)
            offset += len(part.member)
        return base(
            torch.cat([p.features for p in parts]),
            self.source,
            torch.cat(begins),
            torch.cat([p.member for p in parts]),
            torch.cat([p.share for p in parts]),
            torch.cat([p.kind for p in parts]),
            torch.cat([p.home for p in parts]),
            {k: torch.cat([p.side[k] for p in parts]) for k in shared},
            proven=True,
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
            features,
            self.source,
            self.start,
            self.member,
            self.share,
            self.kind,
            self.home,
            self.side,
            proven=True,
        )

    def with_side(self, **channels: Tensor) -> Self:
        """The same tokens with further side channels."""
        return replace(self, side={**self.side, **channels}, proven=True)

    def to(self, device: torch.device | str) -> Self:
        """The same tokens on another device."""
        if torch.device(device) == self.device:
            return self
        moved = {
            name: getattr(self, name).to(device)
            for name in ("features", "start", "member", "share", "kind", "home")
        }
        return replace(self, **moved, side={k: v.to(device) for k, v in self.side.items()}, proven=True)


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Tokens):
    """What a vision tower returns: one row per patch (and [CLS]), with the demanded side channels."""


@dataclass(frozen=True, eq=False, repr=False)
class VisualTokens(Tokens):
    """Tokens of the language model's width: what projectors return."""


def _within(numbers: Tensor, end: int) -> Tensor:
    return ((numbers >= 0) & (numbers < end)).all()
