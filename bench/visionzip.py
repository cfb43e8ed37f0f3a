"""What VisionZip costs on top of a plain tower: CLIP ViT-L/14-336 shape, random weights, budget 54 + 10.

plain: the tower with SDPA, up to the last layer that is needed. whole: the same with the last layer, that
LLaVA and the released VisionZip compute and throw away. nodes: encode_vision, select_dominant and
merge_contextual. eager: the straightforward way, `output_attentions=True` and all maps of all layers kept.

    python bench/visionzip.py --json bench/results/visionzip-cpu-DATE.json

Memory is the rise of the resident set above the loaded weights. glibc keeps freed blocks as it likes, which
moves it by 100 MB and more from process to process; MALLOC_MMAP_THRESHOLD_=1048576 and
MALLOC_TRIM_THRESHOLD_=1048576 in the environment give them back at once, for every side alike.

On a machine with CUDA everything runs there in float16: say `--clock cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness

KEEP, TARGETS = 54, 10


def sides(batch: int, names: tuple[str, ...] = ("plain", "nodes", "eager", "whole")) -> harness.Sides:
    """Models and inputs, made once per process; `eager` shares the weights of the others."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    module = clip("sdpa").to(device, dtype)
    pixels = torch.randn(batch, 3, 336, 336, generator=torch.Generator().manual_seed(1))
    made: dict[str, Callable[[], object]] = {
        "plain": partial(plain, module, pixels, 23),
        "nodes": nodes(module, pixels, device),
        "eager": partial(eager, module, pixels),
        "whole": partial(plain, module, pixels, 24),
    }
    if batch == 1 and {"nodes", "eager"} <= set(names):
        check_same(made["nodes"](), made["eager"]())
    return {name: partial(waited, made[name], device) for name in names}


def clip(attention: str) -> Any:
    """CLIP ViT-L/14-336 with random weights."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    make: Any = CLIPVisionConfig
    config = make(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        attn_implementation=attention,
    )
    return CLIPVisionModel(config).eval().requires_grad_(False)


def waited(side: Callable[[], object], device: str) -> object:
    """One call, until the device is done."""
    import torch

    out = side()
    if device == "cuda":
        torch.cuda.synchronize()
    return out


def plain(module: Any, pixels: Any, layers: int) -> Any:
    """Hidden states after `layers` layers, without [CLS]: all that a LLaVA without compression needs."""
    import torch

    core = getattr(module, "vision_model", module)
    with torch.no_grad():
        weight = core.embeddings.patch_embedding.weight
        hidden = core.pre_layrnorm(core.embeddings(pixels.to(weight.device, weight.dtype)))
        for block in core.encoder.layers[:layers]:
            out = block(hidden, None)
            hidden = out[0] if isinstance(out, tuple) else out
    return hidden[:, 1:]


def nodes(module: Any, pixels: Any, device: str) -> Callable[[], object]:
    """The three nodes, called as a user calls them."""
    from tokenloom.nodes import encode_vision, merge_contextual, select_dominant
    from tokenloom.runtime.models.handle import Model, ModelFacts, TowerFacts
    from tokenloom.runtime.models.pool import loader
    from tokenloom.runtime.models.tower import VisionTower
    from tokenloom.runtime.values import Tile, Tiles

    facts = TowerFacts(
        family="clip", hidden=1024, intermediate=4096, depth=24, heads=16, patch=14, size=336, has_cls=True
    )
    tower = VisionTower(module, facts)
    loader("bench")(lambda handle: tower)
    vision = Model(
        kind=VisionTower,
        loader="bench",
        folder="",
        fingerprint="bench",
        dtype="auto",
        device=device,
        facts=ModelFacts(name="bench", tower=facts),
    )
    layout = tuple(Tile(frame=i, box=(0, 0, 336, 336)) for i in range(len(pixels)))
    tiles = Tiles(pixels, layout, ((336, 336),) * len(pixels), (0.0,) * len(pixels))

    def run() -> object:
        picked = select_dominant(encode_vision(vision, tiles, features="cls_patch"), keep=KEEP)
        return merge_contextual(picked.kept, picked.rest, targets=TARGETS)

    return run


def eager(module: Any, pixels: Any) -> Any:
    """All layers, all attention maps, then dominant and contextual tokens, written straight down."""
    import torch

    core = getattr(module, "vision_model", module)
    caught: list[Any] = []
    hook = core.encoder.layers[22].self_attn.k_proj.register_forward_hook(lambda m, i, o: caught.append(o))
    module.set_attn_implementation("eager")
    with torch.no_grad():
        weight = core.embeddings.patch_embedding.weight
        out = module(
            pixels.to(weight.device, weight.dtype), output_attentions=True, output_hidden_states=True
        )
        hook.remove()
        module.set_attn_implementation("sdpa")
        hidden, rows = out.hidden_states[-2], torch.arange(len(pixels), device=weight.device)[:, None]
        top = out.attentions[-2][:, :, 0, 1:].sum(1).topk(KEEP - 1).indices + 1
        stays = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        stays[:, 0] = True
        stays[rows, top] = True
        kept = hidden[stays].reshape(len(pixels), KEEP, -1)
        rest = hidden[~stays].reshape(len(pixels), -1, hidden.shape[2])
        keys = caught[0].unflatten(-1, (16, 64)).mean(2)[~stays].reshape(len(pixels), -1, 64)
        keys = keys / keys.norm(dim=-1, keepdim=True)
        step = max(1, keys.shape[1] // TARGETS)
        goal = torch.arange(TARGETS, device=keys.device) * step
        other = torch.ones(keys.shape[1], dtype=torch.bool, device=keys.device)
        other[goal] = False
        nearest = (keys[:, other] @ keys[:, goal].mT).argmax(-1)
        joins = torch.nn.functional.one_hot(nearest, TARGETS).to(hidden.dtype)
        means = joins.mT @ rest[:, other] / joins.sum(1).clamp_min(1)[..., None]
        return torch.cat([kept, rest[:, goal] + means], 1)


def check_same(got: Any, want: Any) -> None:
    """`nodes` and `eager` must compute the same thing, or comparing their cost means nothing."""
    apart = float((got.features.reshape(want.shape) - want).abs().max())
    assert apart < (1e-4 if want.dtype.itemsize == 4 else 1e-1), f"nodes and eager differ by {apart}"


CASES = [
    harness.Case("batch 1", partial(sides, 1), base="plain", repeats=3, target={"nodes": 1.03}),
    harness.Case(
        "batch 8", partial(sides, 8, ("plain", "nodes")), base="plain", repeats=1, target={"nodes": 1.03}
    ),
    harness.Case(
        "batch 8, memory",
        partial(sides, 8, ("plain", "nodes", "eager")),
        base="plain",
        measure="peak",
        unit="MB",
        target={"nodes": 1.05, "nodes/eager": 0.45},
    ),
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
