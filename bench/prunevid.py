"""PruneVid's first stage on a clip of projected tokens: cluster_temporal, merge_static, cluster_spatial.

loop: the straightforward way, written here: a DPC-KNN for every group and frame in turn, tokens picked with
masks expanded to the features' width. nodes: the three nodes, called as a user calls them.

    python bench/prunevid.py --json bench/results/prunevid-cpu-DATE.json

12 x 12 places of width 4096 in float32 (PLLaVA-7B); a new scene about every four frames, 60 % of the places
static; ratios and tau as published. The released code needs 165 and 661 ms on this machine type (more than
half of it for picking tokens with expanded masks); the target is a fifth of that. The loop here is leaner
than the released code. On a machine with CUDA everything runs there: say `--clock cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness

GRID, WIDTH = 12, 4096
RELEASED = {16: 165.0, 64: 661.0}  # ms of CPU time, by frames
GAMMA, TAU, BETA, NEIGHBOURS, LEAST = 0.25, 0.8, 0.5, 7, 14


def sides(frames: int) -> harness.Sides:
    """One clip per process; both ways must give the same tokens, or comparing their cost means nothing."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clip = made_clip(frames).to(device)
    made: dict[str, Callable[[], object]] = {"loop": partial(loop, clip), "nodes": nodes(clip)}
    check_same(made["nodes"](), made["loop"]())
    return {name: partial(waited, side, device) for name, side in made.items()}


def made_clip(frames: int) -> Any:
    """[T, L, C]: scenes of 3 to 5 frames, in each 60 % of the places all but still.

    Tokens are points in 24 dimensions, turned into C: in 4096 dimensions of noise all points are equally far
    from each other, and rounding would decide who is whose neighbour.
    """
    import torch

    rng = torch.Generator().manual_seed(frames)
    places, latent = GRID * GRID, 24
    turn = torch.linalg.qr(torch.randn(WIDTH, latent, generator=rng)).Q.mT * WIDTH**0.5 / latent**0.5
    out: list[Any] = []
    while len(out) < frames:
        length = int(torch.randint(3, 6, (1,), generator=rng))
        common = torch.randn(1, latent, generator=rng)  # scenes differ in what all of their tokens share
        scene = common + torch.randn(places, latent, generator=rng)
        moves = torch.randperm(places, generator=rng)[: round(0.4 * places)]
        for _ in range(length):
            frame = scene + 0.1 * torch.randn(places, latent, generator=rng)
            frame[moves] = 0.5 * common + torch.randn(len(moves), latent, generator=rng)
            out.append(frame @ turn)
    return torch.stack(out[:frames])


def waited(side: Callable[[], object], device: str) -> object:
    """One call, until the device is done."""
    import torch

    with torch.no_grad():
        out = side()
    if device == "cuda":
        torch.cuda.synchronize()
    return out


def nodes(clip: Any) -> Callable[[], Any]:
    """The three nodes on the clip's tokens."""
    from tokenloom.nodes import cluster_spatial, cluster_temporal, merge_static
    from tokenloom.runtime.values import Source, Tile, VisualTokens

    frames = len(clip)
    layout = tuple(Tile(frame=i, box=(0, 0, GRID, GRID)) for i in range(frames))
    source = Source(layout, GRID, GRID, ((GRID, GRID),) * frames, tuple(map(float, range(frames))))
    tokens = VisualTokens.of_patches(source, clip.flatten(0, 1))

    def run() -> Any:
        segments = cluster_temporal(tokens, ratio=GAMMA, neighbours=NEIGHBOURS)
        merged = merge_static(tokens, segments, tau=TAU)
        return cluster_spatial(merged, ratio=BETA, neighbours=NEIGHBOURS, least=LEAST)

    return run


def loop(clip: Any) -> Any:
    """[N, C]: segment by segment, frame by frame."""
    import torch

    frames, places, width = clip.shape
    label = peaks(clip.mean(1)[None], max(int(frames * GAMMA), 1))[0]
    out: list[Any] = []
    for begin, end in joined(label.tolist()):
        window = clip[begin:end]
        unit = torch.nn.functional.normalize(window, dim=-1).transpose(0, 1)
        cosine = unit @ unit.mT
        n = end - begin
        static = (cosine.sum((1, 2)) - n) / (n * (n - 1)) > TAU
        mask = static[None, :, None].expand(n, places, width)
        still = window.masked_select(mask).reshape(n, -1, width).mean(0)
        out.append(reduced(still))
        moving = window.masked_select(~mask).reshape(n, -1, width)
        out.extend(reduced(frame) for frame in moving)
    return torch.cat(out)


def peaks(x: Any, clusters: int) -> Any:
    """DPC-KNN: [B, N] cluster numbers."""
    import torch

    distance = torch.cdist(x, x) / x.shape[2] ** 0.5
    near = distance.topk(min(NEIGHBOURS, x.shape[1]), largest=False).values
    density = near.square().mean(-1).neg().exp()
    denser = (density[:, None] > density[:, :, None]).to(x)
    furthest = distance.flatten(1).max(1).values[:, None, None]
    parent = (distance * denser + furthest * (1 - denser)).min(-1).values
    centre = (parent * density).topk(clusters).indices
    rows = torch.arange(len(x), device=x.device)[:, None]
    label = distance[rows, centre].argmin(1)
    label[rows, centre] = torch.arange(clusters, device=x.device)
    return label


def joined(label: list[int]) -> list[tuple[int, int]]:
    """Begin and end of every segment: the longest runs of each label stay, the others join a neighbour."""

    def runs(of: list[Any]) -> list[tuple[int, int]]:
        cuts = [i for i in range(1, len(of)) if of[i] != of[i - 1]]
        return list(zip([0, *cuts], [*cuts, len(of)], strict=True))

    longest = {x: max(e - b for b, e in runs(label) if label[b] == x) for x in label}
    new: list[Any] = list(label)
    for b, e in runs(label):
        if e - b < longest[label[b]] or e - b == 1:
            new[b:e] = [None] * (e - b)
    for b, e in [(b, e) for b, e in runs(new) if new[b] is None]:
        left = next((b - i for i, j in runs(new[:b]) if j == b), 0)
        right = next((j - i for i, j in runs(new[e:]) if i == 0), 0) if e < len(new) else 0
        new[b:e] = [(new[b - 1] if left >= right else new[e]) if left or right else 0] * (e - b)
    return runs(new)


def reduced(tokens: Any) -> Any:
    """[K, C]: cluster means of more than LEAST tokens, else the tokens."""
    import torch

    if len(tokens) <= LEAST:
        return tokens
    label = peaks(tokens[None], int(len(tokens) * BETA))[0]
    joins = torch.nn.functional.one_hot(label).to(tokens)
    return joins.mT @ tokens / joins.sum(0)[:, None]


def check_same(got: Any, want: Any) -> None:
    """Equal numbers of tokens and equal tokens, up to the rounding of sums."""
    assert got.features.shape == want.shape, f"{len(got)} tokens from the nodes, {len(want)} from the loop"
    apart = float((got.features - want).abs().max())
    assert apart < 1e-4, f"nodes and loop differ by {apart}"


CASES = [
    harness.Case(
        f"{frames} x 144 x 4096",
        partial(sides, frames),
        base="loop",
        repeats=5,
        unit="ms",
        scale=1e3,
        most={"nodes": RELEASED[frames] / 5},
    )
    for frames in RELEASED
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
