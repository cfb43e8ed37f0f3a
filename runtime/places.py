"""Where tokens sit in their picture, and how alike the tokens of one place are over several pictures.

N = tokens, K = tiles, C = width, G = groups
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import WiringError
from .values import Tokens
from .values.membership import by_group, group_sums


def place_of(tokens: Tokens) -> tuple[Tensor, int]:
    """[N] long: each token's place in its picture, -1 for one without patches; and how many there are.

    That of the patch it stands for most (of equal shares the first), or of the one that side channel `place`
    names. Patches are counted through all tiles of a picture.
    """
    source = tokens.source
    patch_N = tokens.side["place"].long() if "place" in tokens.side else heaviest(tokens)
    frame_K = source.frame_of_tile
    earlier_K = (frame_K[:, None] == frame_K).tril(-1).sum(1)  # tiles of the same picture
    there_N = patch_N.clamp_min(0)
    tile_N = earlier_K.to(tokens.device)[there_N // source.per_tile]
    place_N = tile_N * source.per_tile + there_N % source.per_tile
    return place_N.masked_fill(patch_N < 0, -1), (int(earlier_K.max()) + 1) * source.per_tile


def heaviest(tokens: Tokens) -> Tensor:
    """[N] long: the patch with the largest share, -1 for a token without patches."""
    most_N = torch.zeros(len(tokens), device=tokens.device)
    most_N = most_N.scatter_reduce(0, tokens.owner, tokens.share, "amax")
    m = len(tokens.member)
    row_M = torch.arange(m, device=tokens.device).masked_fill(tokens.share < most_N[tokens.owner], m)
    row_N = torch.full_like(tokens.home, m).scatter_reduce(0, tokens.owner, row_M, "amin")
    return torch.cat([tokens.member, tokens.member.new_full((1,), -1)])[row_N]


def mean_cosine(features: Tensor, norm_N: Tensor, group_N: Tensor, groups: int) -> Tensor:
    """[G] float: the mean cosine over all pairs of two tokens of a group; -inf for a group of one.

    group_N: [N] long; tokens of groups beyond the last are left out. A zero vector is unlike everything
    (cosine 0). No pair is looked at: it follows from the length of the sum of the unit vectors.
    """
    some_N = norm_N > 0
    unit_N = torch.where(some_N, 1 / norm_N, 0)
    sums = group_sums(features, *by_group(group_N, groups), unit_N)
    lengths = [torch.linalg.vector_norm(sum_GC, dim=1) for _, sum_GC in sums]
    square_G = torch.cat([norm_N[:0], *lengths]).square()
    counts_2G = norm_N.new_zeros(2, groups + 1)
    own_G, size_G = counts_2G.index_add_(
        1, group_N.clamp_max(groups), torch.stack([some_N.to(norm_N), torch.ones_like(norm_N)])
    )[:, :groups]
    return torch.where(size_G > 1, (square_G - own_G) / (size_G * (size_G - 1)), -torch.inf)


def norms(tokens: Tokens) -> Tensor:
    """[N] float32 or float64: the length of every vector."""
    x = tokens.features
    norm_N: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.promote_types(x.dtype, torch.float32))
    return norm_N


def check_finite(where: str, tokens: Tokens, made: Tensor) -> None:
    """A WiringError when nan or inf of the tokens has got into what was made of all of them."""
    if bool(made.isfinite().all()):
        return
    token = int((~norms(tokens).isfinite()).nonzero()[0, 0])
    raise WiringError(
        f"{where}.tokens: token {token} (frame {int(tokens.frame[token])}) holds nan or inf; look at what "
        "made it (float16 overflows where float32 and bfloat16 do not)"
    )
