"""What provenance costs: `Tokens` operations beside the same work on bare feature tensors.

To reach: bookkeeping <= 5 % of the feature work at 100,000 tokens (ratio <= 1.05).
"""

# K = tiles, P = patches of a tile, N = tokens, D = width

from __future__ import annotations

import harness
import torch
from torch import Tensor

from tokenloom.runtime.values import Patches, Source, Tile

TILES, SIDE, WIDTH = 174, 24, 1024  # 100,224 patches of ViT-L/14-336


def patches() -> Patches:
    torch.manual_seed(0)
    source = Source(tuple(Tile(frame=k, box=(0, 0, 336, 336)) for k in range(TILES)), SIDE, SIDE)
    return Patches.of_patches(source, torch.randn(len(source), WIDTH))


def mean_of(features: Tensor, assign: Tensor, groups: int) -> Tensor:
    """The plain form of a merge: one weighted sum per group."""
    count = torch.bincount(assign, minlength=groups).to(features.dtype)
    part = (1 / count)[assign]
    return torch.zeros(groups, features.shape[1]).index_add_(0, assign, features * part[:, None])


def selecting() -> harness.Sides:
    """Half of the rows, in order."""
    tokens = patches()
    index = torch.randperm(len(tokens))[: len(tokens) // 2].sort().values
    return {
        "features": lambda: tokens.features[index],
        "Tokens": lambda: tokens.with_features(tokens.features).select(index),
    }


def merging() -> harness.Sides:
    """Four neighbours to one."""
    tokens = patches()
    groups = len(tokens) // 4
    assign = torch.arange(len(tokens)) // 4
    return {
        "features": lambda: mean_of(tokens.features, assign, groups),
        "Tokens": lambda: tokens.with_features(tokens.features).merge(assign, groups=groups),
    }


def joining() -> harness.Sides:
    """Two halves."""
    tokens = patches()
    half = torch.arange(len(tokens)) < len(tokens) // 2
    a, b = tokens.select(half), tokens.select(~half)
    return {
        "features": lambda: torch.cat([a.features, b.features]),
        "Tokens": lambda: a.concat(b),
    }


def chain() -> harness.Sides:
    """A VisionZip run in small: project (the feature work), select, merge the rest, join."""
    tokens = patches()
    weight = torch.randn(WIDTH, WIDTH)
    keep = torch.arange(len(tokens)) % 8 == 0
    rest = (~keep).nonzero()[:, 0]
    kept = keep.nonzero()[:, 0]
    assign = torch.arange(len(rest)) // 7
    groups = int(assign[-1]) + 1

    def plain() -> Tensor:
        x = tokens.features @ weight
        return torch.cat([x[kept], mean_of(x[rest], assign, groups)])

    def ours() -> Patches:
        x = tokens.with_features(tokens.features @ weight)
        return x.select(kept).concat(x.select(rest).merge(assign, groups=groups))

    return {"features": plain, "Tokens": ours}


CASES = [
    harness.Case(
        "select half of 100,000", selecting, "features", unit="ms", scale=1e3, target={"Tokens": 1.05}
    ),
    harness.Case(
        "merge 100,000 to 25,000", merging, "features", unit="ms", scale=1e3, target={"Tokens": 1.05}
    ),
    harness.Case("concat 2 x 50,000", joining, "features", unit="ms", scale=1e3, target={"Tokens": 1.05}),
    harness.Case(
        "project, select, merge, concat", chain, "features", unit="ms", scale=1e3, target={"Tokens": 1.05}
    ),
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
