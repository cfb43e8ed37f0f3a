"""What PVC's static videos and clips cost: InternViT-300M's shape, temporal attention in the last 12 layers.

Random weights, float32, the public nodes as a user calls them: repeat_frames and encode_pvc. PVC's own
modelling code could not be read; its modules are those of docs/methods/pvc.md.

image: 7 tiles (six and a thumbnail), each a static video of 4 copies. naive: every copy through every layer.
    shared: the layers below the first temporal one, and its attention inside the tile, once for every tile.
    Both give the same (checked, within 1e-5 of the largest value). To reach: 1.45 times as fast.
clip: 16 frames. plain: InternViT alone, encode_vision. pvc: encode_pvc, 4 frames at a time.
memory: of clips of 8, 16 and 32 frames, 4 at a time (and the longest with all frames at once). Above the
    weights and the result, which are as large as they must be: a block of the result's size is held before
    and let go as the encoder begins. One side stands for each length.

On a CPU tiles are 112 pixels (8 x 8 patches; the released 448 have 32 x 32), and memory is taken with 4
layers, 2 of them temporal, of 224 pixels: layers run one after another and add nothing to it. With
`--clock cuda` tiles are 448 pixels, in float16.

    python bench/pvc.py --json bench/results/pvc-cpu-DATE.json
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import harness

WIDTH, HEADS, DEPTH, TEMPORAL = 1024, 16, 24, 12
TILES, COPIES, FRAMES, CHUNK = 7, 4, 16, 4
# freed blocks go back at once, so that resident memory is what is in use
for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(name, "1048576")
if "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other spin, which counts as CPU time


@cache
def device() -> str:
    """Where everything runs."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def tower(side: int, depth: int, temporal: int) -> Any:
    """A handle on an InternViT of this tile size and depth, with attention between frames in the last."""
    import torch

    from tokenloom.runtime.models.handle import Model, ModelFacts, PvcFacts, TowerFacts
    from tokenloom.runtime.models.pool import loader
    from tokenloom.runtime.models.pvc import TemporalModules
    from tokenloom.runtime.models.tower import VisionTower
    from tokenloom.runtime.models.tower_pvc import PvcTower
    from tokenloom.runtime.models.weights import native_tower

    torch.manual_seed(0)
    config: dict[str, Any] = {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": depth,
        "num_attention_heads": HEADS, "num_channels": 3, "image_size": side, "patch_size": 14,
        "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True, "qk_normalization": False,
        "norm_type": "layer_norm",
    }  # fmt: skip
    pvc = PvcFacts(layers=tuple(range(depth - temporal, depth)))
    facts = TowerFacts(
        family="internvit", hidden=WIDTH, intermediate=4 * WIDTH, depth=depth, heads=HEADS, patch=14,
        size=side, has_cls=True, select_layer=-1, pvc=pvc,
    )  # fmt: skip
    dtype = torch.float16 if device() == "cuda" else torch.float32
    module = native_tower("internvit", config, dtype)().eval().requires_grad_(False)
    modules = TemporalModules(WIDTH, HEADS, 1e-6, pvc).to(dtype).eval().requires_grad_(False)
    for weight in modules.parameters():
        weight.normal_(std=0.02)
    built = PvcTower(module.to(device()), facts, modules.to(device()))
    loader("bench")(lambda handle: built)
    return Model(
        kind=VisionTower, loader="bench", folder="", fingerprint=f"bench {side} {depth}", dtype="auto",
        device=device(), facts=ModelFacts(name="bench", tower=facts),
    )  # fmt: skip


def tiles(count: int, side: int, *, clip: bool) -> Any:
    """Noise: frames of one clip, or tiles of a picture."""
    import torch

    from tokenloom.runtime.values import Tile, Tiles

    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    layout = tuple(
        Tile(frame=i if clip else 0, col=0 if clip else i, box=(0, 0, side, side)) for i in range(count)
    )
    pictures = count if clip else 1
    return Tiles(
        pixels, layout, ((side, side),) * pictures, (0.0,) * pictures, clips=(0,) * count if clip else ()
    )


def waited(run: Callable[[], Any]) -> Any:
    """One call, until the device is done."""
    import torch

    out = run()
    if device() == "cuda":
        torch.cuda.synchronize()
    return out


def encoder(vision: Any, seen: Any, **settings: Any) -> Callable[[], Any]:
    """A call of encode_pvc."""
    from tokenloom.nodes import encode_pvc
    from tokenloom.runtime.context import demand

    def run() -> Any:
        with demand():  # no side channels
            return encode_pvc(vision, seen, **settings)

    return partial(waited, run)


def image() -> harness.Sides:
    """Static videos of the tiles of a picture."""
    from tokenloom.nodes import repeat_frames

    side = 448 if device() == "cuda" else 112
    vision = tower(side, DEPTH, TEMPORAL)
    seen = repeat_frames(tiles(TILES, side, clip=False), image_repeat_time=COPIES)
    sides = {name: encoder(vision, seen, share=name == "shared") for name in ("naive", "shared")}
    ours, theirs = (sides[name]().features.float() for name in ("shared", "naive"))
    apart = float((ours - theirs).abs().max() / theirs.abs().max())
    assert apart < (1e-5 if device() == "cpu" else 1e-2), f"shared and naive differ by {apart}"
    return sides


def clip() -> harness.Sides:
    """A clip of 16 frames, with and without attention between them."""
    from tokenloom.nodes import repeat_frames
    from tokenloom.runtime.context import demand
    from tokenloom.runtime.models.tower import VisionTower

    side = 448 if device() == "cuda" else 112
    vision = tower(side, DEPTH, TEMPORAL)
    frames = tiles(FRAMES, side, clip=True)
    built = vision.load()
    assert isinstance(built, VisionTower)

    def plain() -> Any:
        import torch

        with demand(), torch.no_grad():
            parts = frames.pixels.split(CHUNK)
            return torch.cat([built.encode(p, layer=DEPTH, wanted=(), cls_token=True).hidden for p in parts])

    return {
        "plain": partial(waited, plain),
        "pvc": encoder(vision, repeat_frames(frames), max_tiles=CHUNK),
        "pvc, all frames at once": encoder(vision, repeat_frames(frames), max_tiles=FRAMES),
    }


def memory() -> harness.Sides:
    """Clips of several lengths, each above the memory of its own result."""
    import torch

    from tokenloom.nodes import repeat_frames

    side = 448 if device() == "cuda" else 224
    vision = tower(side, 4, 2)
    vision.load()
    places, dtype = (side // 14) ** 2 + 1, torch.float16 if device() == "cuda" else torch.float32

    def above(count: int, chunk: int) -> Callable[[], Any]:
        run = encoder(vision, repeat_frames(tiles(count, side, clip=True)), max_tiles=chunk)
        held = [torch.ones(count, places, WIDTH, dtype=dtype, device=device())]

        def let_go_and_run() -> Any:
            held.clear()
            return run()

        return let_go_and_run

    lengths = {f"{count} frames": above(count, CHUNK) for count in (8, 16, 32)}
    return lengths | {"32 frames at once": above(32, 32)}


CASES = [
    harness.Case("image", image, base="naive", repeats=2, warm=0, target={"shared": 1 / 1.45}),
    harness.Case("clip", clip, base="plain", repeats=2, target={"pvc": 1.25}),
    harness.Case(
        "memory",
        memory,
        base="8 frames",
        measure="peak",
        unit="MB",
        target={"16 frames": 1.1, "32 frames": 1.1},
    ),
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
