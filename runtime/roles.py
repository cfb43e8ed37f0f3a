"""What became of tokens and patches, for pictures: kept, merged into which token, dropped; and its colours.

N = tokens, P = patches of all tiles
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import torch
from torch import Tensor

from .places import heaviest
from .values import Kind, Tokens

Colour = tuple[int, int, int]


class Role(IntEnum):
    """What a token is in a picture: its kind, and whether it stands for one patch or for several."""

    KEPT = 0
    MERGED = 1
    CONTEXTUAL = 2
    STATIC = 3
    DYNAMIC = 4
    POOLED = 5
    CLS = 6
    NEWLINE = 7
    SEPARATOR = 8
    TEXT = 9


_OF_KIND = {
    Kind.PATCH: Role.KEPT,
    Kind.CLS: Role.CLS,
    Kind.CONTEXTUAL: Role.CONTEXTUAL,
    Kind.STATIC: Role.STATIC,
    Kind.DYNAMIC: Role.DYNAMIC,
    Kind.POOLED: Role.POOLED,
    Kind.NEWLINE: Role.NEWLINE,
    Kind.SEPARATOR: Role.SEPARATOR,
}
# dark, middle and light; the middle is the role's colour, tokens side by side differ within the three
SHADES: dict[Role, tuple[Colour, Colour, Colour]] = {
    Role.KEPT: ((240, 140, 0), (240, 140, 0), (240, 140, 0)),
    Role.MERGED: ((160, 30, 10), (213, 70, 20), (250, 135, 90)),
    Role.CONTEXTUAL: ((28, 50, 150), (0, 114, 198), (70, 205, 235)),
    Role.STATIC: ((0, 90, 60), (0, 150, 100), (125, 210, 130)),
    Role.DYNAMIC: ((120, 30, 125), (200, 70, 150), (250, 160, 200)),
    Role.POOLED: ((80, 82, 140), (128, 130, 190), (185, 187, 228)),
    Role.CLS: ((225, 205, 40), (225, 205, 40), (225, 205, 40)),
    Role.NEWLINE: ((70, 78, 96), (70, 78, 96), (70, 78, 96)),
    Role.SEPARATOR: ((150, 120, 95), (150, 120, 95), (150, 120, 95)),
    Role.TEXT: ((205, 205, 205), (205, 205, 205), (205, 205, 205)),
}
OFF_PICTURE = (Role.CLS, Role.NEWLINE, Role.SEPARATOR, Role.TEXT)
GOLDEN = 0.6180339887498949  # steps of it never come near an earlier place soon


def colour_of(role: Role) -> Colour:
    """The role's own colour."""
    return SHADES[role][1]


def name_of(role: Role, among: Iterable[Role] = ()) -> str:
    """The word for a role in a legend; kept tokens beside contextual ones are called dominant."""
    if role == Role.KEPT and Role.CONTEXTUAL in set(among):
        return "dominant"
    return "[CLS]" if role == Role.CLS else role.name.lower()


def roles_of(tokens: Tokens) -> Tensor:
    """[N] long: the `Role` of every token.

    Where all patch tokens stand for equally many patches, several, a projector pooled them (Qwen2.5-VL).
    """
    table = torch.tensor([int(_OF_KIND[kind]) for kind in Kind], device=tokens.device)
    role_N = table[tokens.kind.long()]
    kept_N = role_N == int(Role.KEPT)
    count = tokens.count[kept_N]
    pooled = len(count) > 0 and int(count.min()) == int(count.max()) > 1
    role = Role.POOLED if pooled else Role.MERGED
    return role_N.masked_fill(kept_N & (tokens.count > 1), int(role))


def owners_of(tokens: Tokens) -> Tensor:
    """[P] long: the token that each patch went into, -1 for a dropped one.

    Of several the one with the largest share of the patch, of equal shares the first.
    """
    most_P = torch.zeros(len(tokens.source), device=tokens.device)
    most_P = most_P.scatter_reduce(0, tokens.member, tokens.share, "amax")
    first = tokens.share == most_P[tokens.member]
    n = len(tokens)
    owner_P = torch.full((len(tokens.source),), n, device=tokens.device)
    owner_P = owner_P.scatter_reduce(0, tokens.member[first], tokens.owner[first], "amin")
    return owner_P.masked_fill(owner_P == n, -1)


def anchors_of(tokens: Tokens) -> Tensor:
    """[P] bool: patches that others were merged into: they weigh more than the mean of their token's."""
    role_N = roles_of(tokens)
    merged_N = (role_N == int(Role.CONTEXTUAL)) | (role_N == int(Role.MERGED))
    most_N = torch.zeros(len(tokens), device=tokens.device)
    most_N = most_N.scatter_reduce(0, tokens.owner, tokens.share, "amax")
    led_N = merged_N & (tokens.count > 1) & (most_N * tokens.count > 1.001)
    anchor_P = torch.zeros(len(tokens.source), dtype=torch.bool, device=tokens.device)
    anchor_P[heaviest(tokens)[led_N]] = True
    return anchor_P


def token_colours(role_N: Tensor) -> Tensor:
    """[N, 3] float32 of 0..255: the role's colour, in shades that tell tokens side by side apart."""
    shade_RS3 = torch.tensor([SHADES[role] for role in Role], dtype=torch.float32)
    place_N = torch.arange(len(role_N), dtype=torch.float64) * GOLDEN % 1 * 2
    low_N = place_N.long()
    role_N = role_N.cpu()
    return torch.lerp(
        shade_RS3[role_N, low_N], shade_RS3[role_N, low_N + 1], (place_N - low_N).float()[:, None]
    )
