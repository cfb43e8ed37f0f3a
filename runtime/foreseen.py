"""What a plan knows of tokens before any weight is read: enough to refuse a budget that cannot work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .values import Frames, Tiles


@dataclass(frozen=True, kw_only=True)
class KnownFrames:
    """How many pictures there will be, and whether they are moments of one clip. Stands for `Frames`.

    sizes: (width, height) of each, None: not known yet.
    """

    count: int
    clip: bool
    sizes: tuple[tuple[int, int], ...] | None = None

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, kw_only=True)
class KnownTiles:
    """How many tiles there will be. Stands for `Tiles`.

    sizes: (width, height) of every picture that they are cut from, None: not known yet. pictures: how many
    tiles each picture has, None: not known. clip: pictures are moments of a clip, None: not known. tile:
    (width, height) of each in pixels, where that follows the pictures.
    """

    count: int
    sizes: tuple[tuple[int, int], ...] | None = None
    pictures: tuple[int, ...] | None = None
    clip: bool | None = None
    tile: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.count


def known_tiles(frames: Sequence[KnownFrames | Frames], pictures: Sequence[int]) -> KnownTiles:
    """The tiles of these pictures, so many of each."""
    sizes = [f.sizes for f in frames if f.sizes is not None]
    clips = {f.clip for f in frames}
    return KnownTiles(
        count=sum(pictures),
        sizes=tuple(size for some in sizes for size in some) if len(sizes) == len(frames) else None,
        pictures=tuple(pictures),
        clip=clips.pop() if len(clips) == 1 else None,
    )


def pictures_of(tiles: KnownTiles | Tiles | None) -> tuple[int, ...] | None:
    """How many tiles each picture has."""
    if tiles is None or isinstance(tiles, KnownTiles):
        return None if tiles is None else tiles.pictures
    counts = Counter(tile.frame for tile in tiles.layout)
    return tuple(counts[frame] for frame in range(len(tiles.sizes)))


@dataclass(frozen=True, kw_only=True)
class KnownTokens:
    """`per_tile`: tokens of every tile ([CLS] included), None: not known yet. `cls_token`: each tile has one.

    `tiles`: how many there are, None: not known. `cls_scores`: the tower they come from has a [CLS] token,
    None: not known. `width`: D. `patches`: rows and columns of patches that the tower saw in every tile.
    `sizes`: (width, height) of every picture that they come from, None: not known. `pictures`: tiles of every
    picture, None: not known. `grid`: they are all patches, each once and in order ([CLS] aside); `complete`:
    every patch is part of some token; None: not known. `varies`: how many a tile has depends on what the
    pictures show. `numbered`: they have their places in the prompt. `notes`: what a person should know of how
    they are made; the plan tells it.
    """

    tiles: int | None = None
    per_tile: int | None = None
    cls_token: bool | None = None
    cls_scores: bool | None = None
    width: int | None = None
    patches: tuple[int, int] | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    pictures: tuple[int, ...] | None = None
    grid: bool | None = None
    complete: bool | None = None
    varies: bool = False
    numbered: bool = False
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int | None:
        """N, where tiles and tokens of each are known."""
        return None if self.tiles is None or self.per_tile is None else self.tiles * self.per_tile

    @property
    def each(self) -> tuple[int, ...] | None:
        """Tokens of every picture, where tiles of each and tokens of each tile are known."""
        if self.pictures is None or self.per_tile is None or self.tiles != sum(self.pictures):
            return None
        return tuple(self.per_tile * tiles for tiles in self.pictures)


TAKEN = "tokens that were chosen, merged or put in another order before"  # in errors, for `grid` False


@dataclass(frozen=True, kw_only=True)
class KnownPair:
    """What is known of a node's two outputs, `kept` and `rest`."""

    kept: KnownTokens
    rest: KnownTokens

    @property
    def notes(self) -> tuple[str, ...]:
        """Of what stays."""
        return self.kept.notes


@dataclass(frozen=True, kw_only=True)
class KnownState:
    """How many layers will have run, 0 for a placed prompt; `model`: fingerprint of the language model.

    `visual`: visual tokens at most, None: not known. `groups`: exactly how many of each picture, newlines and
    separators aside, None: not known. `varies`: it depends on what the pictures show. `wires`: of visual
    tokens, None: not known. `rope_grid`: positions are M-RoPE's. `compressed`: of how many layers the cache
    is chosen per head. `hiding`: from which layer on rows are hidden. `notes`: as in KnownTokens. Stands for
    `LLMInput` and `LLMState`.
    """

    layer: int
    model: str = ""
    visual: int | None = None
    groups: tuple[int, ...] | None = None
    varies: bool = False
    wires: int | None = None
    rope_grid: bool = False
    compressed: int = 0
    hiding: int | None = None
    notes: tuple[str, ...] = ()
