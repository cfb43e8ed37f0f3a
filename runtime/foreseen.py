"""What a plan knows of tokens before any weight is read: enough to refuse a budget that cannot work."""

from __future__ import annotations

from dataclasses import dataclass


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
    """How many tiles there will be. Stands for `Tiles`."""

    count: int

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, kw_only=True)
class KnownTokens:
    """`per_tile`: tokens of every tile ([CLS] included), None: not known yet. `cls_token`: each tile has one.

    `tiles`: how many there are, None: not known. `cls_scores`: the tower they come from has a [CLS] token,
    None: not known. `width`: D. `patches`: rows and columns of patches that the tower saw in every tile.
    `sizes`: (width, height) of every picture that they come from, None: not known. `notes`: what a person
    should know of how they are made; the plan tells it.
    """

    tiles: int | None = None
    per_tile: int | None = None
    cls_token: bool | None = None
    cls_scores: bool | None = None
    width: int | None = None
    patches: tuple[int, int] | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int | None:
        """N, where tiles and tokens of each are known."""
        return None if self.tiles is None or self.per_tile is None else self.tiles * self.per_tile


@dataclass(frozen=True, kw_only=True)
class KnownPair:
    """What is known of a node's two outputs, `kept` and `rest`."""

    kept: KnownTokens
    rest: KnownTokens


@dataclass(frozen=True, kw_only=True)
class KnownState:
    """How many layers will have run, 0 for a placed prompt; `model`: fingerprint of the language model.

    `visual`: visual tokens at most, None: not known. `wires`: of visual tokens, None: not known. `rope_grid`:
    positions are M-RoPE's. `compressed`: of how many layers the cache is chosen per head. `hiding`: from
    which layer on rows are hidden. Stands for `LLMInput` and `LLMState`.
    """

    layer: int
    model: str = ""
    visual: int | None = None
    wires: int | None = None
    rope_grid: bool = False
    compressed: int = 0
    hiding: int | None = None
