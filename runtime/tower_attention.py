"""What patches attend to in the tower, as one number per patch: a patch's row, what it receives, [CLS].

N = tokens, K = tiles, A = keys of a tile ([CLS] first, where there is one), P = patches of all tiles
"""

from __future__ import annotations

import torch
from torch import Tensor

from .channels import channel
from .errors import NeedError, WiringError
from .needs import Need
from .roles import owners_of
from .values import Kind, Tokens


def row_view(where: str, patches: Tokens, patch: int, layer: int | None) -> Tensor:
    """[P] float32: how much a patch attends to each of its tile, mean over heads; nan for other tiles.

    Errors: NeedError when no token stands for the patch alone.
    """
    source = patches.source
    weight_NA = _patch_columns(where, patches, layer)
    tile = patch // source.per_tile
    out_P = torch.full((len(source),), torch.nan)
    first = tile * source.per_tile
    out_P[first : first + source.per_tile] = weight_NA[row_of(where, patches, patch)].float().cpu()
    return out_P


def received_view(where: str, patches: Tokens, layer: int | None) -> Tensor:
    """[P] float32: the mean of what a tile's patches attend to each; nan for a tile without patches."""
    source = patches.source
    weight_NA = _patch_columns(where, patches, layer)
    rows = patches.kind != int(Kind.CLS)
    home, weight = patches.home[rows], weight_NA[rows].float()
    sum_KA = torch.zeros(len(source.tiles), source.per_tile, device=weight.device).index_add_(0, home, weight)
    count_K = torch.bincount(home, minlength=len(source.tiles))
    return (sum_KA / count_K[:, None]).flatten().cpu()


def cls_view(where: str, tokens: Tokens, layer: int | None) -> Tensor:
    """[P] float32: how much [CLS] attends to each patch or the token it went into; nan for dropped ones."""
    score_N = channel(where, tokens, Need("cls_attention", layer)).float().cpu()
    owner_P = owners_of(tokens).cpu()
    return torch.cat([score_N, torch.tensor([torch.nan])])[owner_P]


def row_of(where: str, patches: Tokens, patch: int) -> int:
    """The token that stands for a patch alone. Errors: NeedError when there is none."""
    alone = patches.count == 1
    found = alone.new_zeros(len(patches))
    found[patches.owner[patches.member == patch]] = True
    rows = (found & alone).nonzero()[:, 0]
    if not len(rows):
        tile, index = divmod(patch, patches.source.per_tile)
        raise NeedError(
            f"{where}: no token stands for patch {index} of tile {tile} alone; wire it to encode_vision"
        )
    return int(rows[0])


def patch_of(where: str, patches: Tokens, tile: int, index: int) -> int:
    """The number of a tile's patch among all. Errors: WiringError for one that is not there."""
    source = patches.source
    for name, came, end in (("tile", tile, len(source.tiles)), ("index", index, source.per_tile)):
        if came >= end:
            raise WiringError(f"{where}.{name}: {came} is outside 0..{end - 1}")
    return tile * source.per_tile + index


def _patch_columns(where: str, patches: Tokens, layer: int | None) -> Tensor:
    """[N, patches of a tile]: the attention without the column of [CLS]."""
    weight_NA = channel(where, patches, Need("attention", layer))
    return weight_NA[:, weight_NA.shape[1] - patches.source.per_tile :]
