"""Density peaks clustering with k nearest neighbours (DPC-KNN), of many sets at once.

A token is dense where its neighbours are near. A centre is dense and far from whatever is denser; all others
join the nearest centre. Nothing here waits for the device, so sets of different sizes come padded, with a
mask.

B = sets, N = tokens of a set (the most), C = width, K = clusters (the most)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

EXACT = 25  # up to so many tokens, distances are summed from differences, as torch.cdist does


class Clusters(NamedTuple):
    """What DPC-KNN found.

    label: [B, N] long, each token's cluster; clusters are numbered by their centre's score, highest first;
    0 for padding. centre: [B, K] long, token of each cluster, -1 beyond a set's own number.
    density, score: [B, N] float32 or float64; 0 for padding.
    """

    label: Tensor
    centre: Tensor
    density: Tensor
    score: Tensor


def dpc_knn(
    x_BNC: Tensor,
    clusters: int | Tensor,
    neighbours: int,
    *,
    valid: Tensor | None = None,
    noise: Tensor | None = None,
) -> Clusters:
    """Cluster the tokens of every set by distance over the root of the width, in at least float32.

    clusters: for all sets, or [B] long, 1 or more; a set of fewer tokens has as many as tokens. neighbours:
    the token itself is one of them; N where that is less. valid: [B, N] bool, False for padding. noise:
    [B, N], of which a millionth is added to the density (the released code draws it anew each time; without
    it, ties go to the lower position).
    """
    return cluster_distances(distances(x_BNC), clusters, neighbours, valid=valid, noise=noise)


def distances(x_BNC: Tensor) -> Tensor:
    """[B, N, N]: Euclidean distance over the root of C, exactly 0 between equal tokens, symmetric."""
    n, c = x_BNC.shape[1:]
    if n > EXACT:
        return from_products(products(x_BNC), c)
    x_BNC = x_BNC.to(torch.promote_types(x_BNC.dtype, torch.float32))
    return torch.cdist(x_BNC, x_BNC) / math.sqrt(c)


def products(x_BNC: Tensor) -> Tensor:
    """[B, N, N]: inner products of all pairs of a set, as seen from its first token.

    Seen from the origin, a large common part would cost the distances their digits. Those of one quarter are
    the mirror image of another.
    """
    y_BNC = x_BNC.to(torch.promote_types(x_BNC.dtype, torch.float32))
    y_BNC = y_BNC - y_BNC[:, :1]
    n = y_BNC.shape[1]
    half = -(-n // 16) * 8
    out_BNN = y_BNC.new_empty(len(y_BNC), n, n)
    out_BNN[:, :half] = torch.bmm(y_BNC[:, :half], y_BNC.mT)
    out_BNN[:, half:, half:] = torch.bmm(y_BNC[:, half:], y_BNC[:, half:].mT)
    out_BNN[:, half:, :half] = out_BNN[:, :half, half:].mT
    return out_BNN


def from_products(product_BNN: Tensor, width: int) -> Tensor:
    """[B, N, N]: distances over the root of the width, from inner products."""
    square_BN = product_BNN.diagonal(dim1=1, dim2=2)
    both_BNN = square_BN[:, :, None] + square_BN[:, None, :]
    apart_BNN = torch.sub(both_BNN, product_BNN, alpha=2)
    rounding = 8 * torch.finfo(product_BNN.dtype).eps  # of the products; below it tokens count as equal
    apart_BNN.masked_fill_(apart_BNN <= both_BNN.mul_(rounding), 0)
    return apart_BNN.div_(width).sqrt_()


def cluster_distances(
    distance_BNN: Tensor,
    clusters: int | Tensor,
    neighbours: int,
    *,
    valid: Tensor | None = None,
    noise: Tensor | None = None,
    most: int | None = None,
) -> Clusters:
    """As `dpc_knn`, from distances; `most` bounds the numbers of a `clusters` tensor (default N)."""
    n = distance_BNN.shape[1]
    near_BNN, far_B11 = distance_BNN, distance_BNN.amax((1, 2), keepdim=True)
    if valid is not None:
        near_BNN = distance_BNN.masked_fill(~valid[:, None], torch.inf)
        far_B11 = near_BNN.masked_fill(~(valid[:, :, None] & valid[:, None]), 0).amax((1, 2), keepdim=True)
    density_BN = _density(near_BNN, neighbours, valid)
    if noise is not None:
        density_BN = density_BN + noise.to(density_BN) * 1e-6
    place_BN = _places(_last(density_BN, valid))
    # of equally dense tokens the first is the denser one
    denser_BNN = place_BN[:, None, :] < place_BN[:, :, None]
    delta_BN = torch.where(denser_BNN, near_BNN, torch.inf).amin(-1).minimum(far_B11[:, :, 0])
    score_BN = delta_BN * density_BN
    if valid is not None:
        density_BN, score_BN = density_BN.masked_fill(~valid, 0), score_BN.masked_fill(~valid, 0)

    order_BN = _last(score_BN, valid).argsort(dim=1, descending=True, stable=True)
    centre_BK = order_BN[:, : clusters if isinstance(clusters, int) else most or n]
    number_K = torch.arange(centre_BK.shape[1], device=centre_BK.device)
    real_BK = number_K < (clusters if isinstance(clusters, int) else clusters[:, None])
    real_BK = real_BK.expand_as(centre_BK)
    if valid is not None:
        real_BK = real_BK & (number_K < valid.sum(1, keepdim=True))
    label_BN = _joined(distance_BNN, centre_BK, real_BK)
    if valid is not None:
        label_BN = label_BN.masked_fill(~valid, 0)
    return Clusters(label_BN, centre_BK.masked_fill(~real_BK, -1), density_BN, score_BN)


def _density(near_BNN: Tensor, neighbours: int, valid: Tensor | None) -> Tensor:
    """exp(-mean square of the distances to the nearest ones)."""
    k = min(neighbours, near_BNN.shape[1])
    square_BNk = near_BNN.topk(k, largest=False, sorted=False).values.square()
    if valid is None:
        return square_BNk.mean(-1).neg().exp()
    there_B1 = valid.sum(1, keepdim=True).clamp(1, k)
    return (square_BNk.masked_fill(square_BNk.isinf(), 0).sum(-1) / there_B1).neg().exp()


def _last(value_BN: Tensor, valid: Tensor | None) -> Tensor:
    """The values with padding below all others (none is negative)."""
    return value_BN if valid is None else value_BN.masked_fill(~valid, -1)


def _places(value_BN: Tensor) -> Tensor:
    """[B, N] long: how many tokens of the set come before, by value, highest first, ties by position."""
    order_BN = value_BN.argsort(dim=1, descending=True, stable=True)
    place_BN = torch.arange(value_BN.shape[1], device=value_BN.device).expand_as(order_BN)
    return torch.empty_like(order_BN).scatter_(1, order_BN, place_BN)


def _joined(distance_BNN: Tensor, centre_BK: Tensor, real_BK: Tensor) -> Tensor:
    """[B, N] long: the nearest centre, the first of equally near ones; a centre is its own."""
    n, most = distance_BNN.shape[1], centre_BK.shape[1]
    to_BNK = distance_BNN.gather(2, centre_BK[:, None].expand(-1, n, -1))
    label_BN = to_BNK.masked_fill_(~real_BK[:, None], torch.inf).argmin(-1)
    number_BK = torch.arange(most, device=centre_BK.device).expand_as(centre_BK)
    own_BK = torch.where(real_BK, number_BK, label_BN.gather(1, centre_BK))
    return label_BN.scatter(1, centre_BK, own_BK)
