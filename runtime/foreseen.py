"""What a plan knows of tokens before any weight is read: enough to refuse a budget that cannot work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KnownTokens:
    """`per_tile`: tokens of every tile ([CLS] included), None: not known yet. `cls_token`: each tile has one.

    `cls_scores`: the tower they come from has a [CLS] token, None: not known. `width`: D.
    """

    per_tile: int | None = None
    cls_token: bool | None = None
    cls_scores: bool | None = None
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class KnownPair:
    """What is known of a node's two outputs, `kept` and `rest`."""

    kept: KnownTokens
    rest: KnownTokens
