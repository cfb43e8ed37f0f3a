"""What TokenPacker costs: its projector, the tower before it, and TokenPacker-HD's pictures.

Projector: real widths, four levels of 1024 to tokens of 4096, 576 patches of a tile, random weights.
plain: written straight down from the method's description, with nn.MultiheadAttention on windows laid out as
its batch. nodes: project_tokenpacker, as a user calls it. torch: the same with torch's own linear layers, so
that the rearranged attention is seen alone. mlp: LLaVA's two layers on all 576 patches, `mlp node`: the same
as project_mlp.

    OMP_NUM_THREADS=1 python bench/tokenpacker.py --json bench/results/tokenpacker-cpu-DATE.json

Tower: CLIP ViT-L/14-336 to layer 23, the deepest that the projector reads, against all 24 layers, which the
released code runs, and all 25 hidden states kept.

Pictures: a JPEG of 1920x1080 decoded and cut into 2 x 4 crops and a global view. plain: as the released code
does it, normalised first and resized then; it needs 64 ms on this machine type. On a machine with CUDA
projector and tower run there in float16: say `--clock cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import harness

GRID, WIDTH, OUTPUTS, LEVELS = 24, 1024, 4096, (12, 16, 22, 23)
RELEASED_MS = 64  # of the released preprocessing


def projectors(scale: int, batch: int, names: tuple[str, ...]) -> harness.Sides:
    """Weights and hidden states, made once per process; all ways must give the same tokens."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, dtype = where()
    packer = packed().to(device, dtype)
    mlp = two_layers().to(device, dtype)
    hidden = [torch.randn(batch, GRID * GRID, WIDTH).to(device, dtype) for _ in LEVELS]
    made: dict[str, Callable[[], Any]] = {
        "plain": partial(plain, packer, hidden, scale),
        "nodes": nodes(packer, hidden, scale, device),
        "torch": without_onednn(nodes(packer, hidden, scale, device)),
        "mlp": partial(mlp, hidden[-1]),
        "mlp node": mlp_node(mlp, hidden[-1], device),
    }
    check_same(made["nodes"]().features, made["plain"]())
    made["mlp"]()  # the others are warm
    return {name: partial(waited, made[name], device) for name in names}


def where() -> tuple[str, Any]:
    """Device and dtype."""
    import torch

    return ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)


def packed() -> Any:
    """The projector of a released checkpoint's size; one set of weights serves every way."""
    import torch

    from tokenloom.runtime.models.tokenpacker import TokenPacker

    packer = TokenPacker(WIDTH, OUTPUTS).eval().requires_grad_(False)
    for name, weight in packer.named_parameters():  # new biases are 0, which would hide what is left out
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.02)
    return packer


def two_layers() -> Any:
    """LLaVA-1.5's projector."""
    from torch import nn

    layers = nn.Sequential(nn.Linear(WIDTH, OUTPUTS), nn.GELU(), nn.Linear(OUTPUTS, OUTPUTS))
    return layers.eval().requires_grad_(False)


def plain(packer: Any, hidden: list[Any], scale: int) -> Any:
    """[B, M, H]: query points, windows as items of nn.MultiheadAttention, and the last two layers."""
    import torch
    from torch.nn.functional import interpolate

    batch, side = len(hidden[0]), GRID // scale
    with torch.no_grad():
        levels = torch.cat(hidden, -1)
        image = hidden[-1].mT.unflatten(-1, (GRID, GRID)).float()
        points = interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
        points = points.flatten(2).mT.to(levels.dtype)
        query = packer.ln_q_1(packer.q_proj_1(points))
        key = packer.ln_k_1(packer.k_proj_1(levels))
        value = packer.ln_v_1(packer.v_proj_1(levels))
        windows = [
            x.view(batch, side, scale, side, scale, WIDTH)
            .permute(2, 4, 1, 3, 0, 5)
            .reshape(scale * scale, side * side * batch, WIDTH)
            for x in (key, value)
        ]
        items = query.transpose(0, 1).reshape(1, side * side * batch, WIDTH)
        found = packer.clip_attn(items, *windows)[0]
        return packer.mlp(found.view(side * side, batch, WIDTH).transpose(0, 1))


def nodes(packer: Any, hidden: list[Any], scale: int, device: str) -> Callable[[], Any]:
    """project_tokenpacker on patches with the hidden states that it asks for."""
    from tokenloom.nodes import project_tokenpacker
    from tokenloom.runtime.models.handle import ProjectorFacts
    from tokenloom.runtime.needs import Need

    facts = ProjectorFacts(
        kind="tokenpacker", inputs=WIDTH, outputs=OUTPUTS, scale_factor=scale, heads=8, levels=len(LEVELS)
    )
    projector = handle(packer, facts, device)
    side = {Need("hidden", level).key: x.flatten(0, 1) for level, x in zip(LEVELS, hidden, strict=True)}
    patches = patches_of(hidden[-1], side)
    return lambda: project_tokenpacker(projector, patches)


def mlp_node(mlp: Any, features: Any, device: str) -> Callable[[], Any]:
    """project_mlp on the same patches."""
    from tokenloom.nodes import project_mlp
    from tokenloom.runtime.models.handle import ProjectorFacts

    facts = ProjectorFacts(kind="mlp2x_gelu", inputs=WIDTH, outputs=OUTPUTS)
    projector, patches = handle(mlp, facts, device), patches_of(features, {})
    return lambda: project_mlp(projector, patches)


def patches_of(features: Any, side: dict[str, Any]) -> Any:
    """Patches of one tile per item."""
    from tokenloom.runtime.values import Patches, Source, Tile

    batch, size = len(features), 14 * GRID
    layout = tuple(Tile(frame=i, box=(0, 0, size, size)) for i in range(batch))
    source = Source(layout, GRID, GRID, ((size, size),) * batch, (0.0,) * batch)
    return Patches.of_patches(source, features.flatten(0, 1), side)


def handle(module: Any, facts: Any, device: str) -> Any:
    """A handle on a projector that is already in memory."""
    from tokenloom.runtime.models.handle import Model, ModelFacts
    from tokenloom.runtime.models.pool import loader
    from tokenloom.runtime.models.projector import Projector

    held = Projector(module, facts)
    loader(f"bench {facts.kind}")(lambda handle: held)
    return Model(
        kind=Projector,
        loader=f"bench {facts.kind}",
        folder="",
        fingerprint=f"bench {facts.kind}",
        dtype="auto",
        device=device,
        facts=ModelFacts(name="bench", projector=facts),
    )


def without_onednn(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same with torch's default linear layers."""
    import torch

    def slower() -> Any:
        with torch.backends.mkldnn.flags(enabled=False):
            return run()

    return slower


def check_same(got: Any, want: Any) -> None:
    """All ways must compute the same thing, or comparing their cost means nothing."""
    apart = float((got.view(want.shape) - want).abs().max() / want.abs().max())
    assert apart < (1e-5 if want.dtype.itemsize == 4 else 1e-2), f"nodes and plain differ by {apart}"


def waited(side: Callable[[], object], device: str) -> object:
    """One call, until the device is done."""
    import torch

    with torch.no_grad():
        out = side()
    if device == "cuda":
        torch.cuda.synchronize()
    return out


def towers() -> harness.Sides:
    """encode_vision to the deepest layer that is read, and the whole tower with all hidden states."""
    import torch
    from visionzip import clip

    torch.set_num_threads(1)
    device, dtype = where()
    module = clip("sdpa").to(device, dtype)
    pixels = torch.randn(1, 3, 336, 336).to(device, dtype)
    stopped, whole = early_stop(module, pixels, device), partial(all_layers, module, pixels)
    check_same(stopped(), whole())
    return {"plain": partial(waited, whole, device), "nodes": partial(waited, stopped, device)}


def all_layers(module: Any, pixels: Any) -> Any:
    """The four levels of the patches, as the released code takes them."""
    import torch

    with torch.no_grad():
        states = module(pixels, output_hidden_states=True).hidden_states
    return torch.cat([states[level][:, 1:] for level in LEVELS], -1)


def early_stop(module: Any, pixels: Any, device: str) -> Callable[[], Any]:
    """The same four levels from encode_vision, asked for by need."""
    import torch

    from tokenloom.nodes import encode_vision
    from tokenloom.runtime.context import demand
    from tokenloom.runtime.models.handle import Model, ModelFacts, TowerFacts
    from tokenloom.runtime.models.pool import loader
    from tokenloom.runtime.models.tower import VisionTower
    from tokenloom.runtime.needs import Need
    from tokenloom.runtime.values import Tile, Tiles

    facts = TowerFacts(
        family="clip", hidden=1024, intermediate=4096, depth=24, heads=16, patch=14, size=336, has_cls=True
    )
    tower = VisionTower(module, facts)
    loader("bench tower")(lambda handle: tower)
    vision = Model(
        kind=VisionTower,
        loader="bench tower",
        folder="",
        fingerprint="bench tower",
        dtype="auto",
        device=device,
        facts=ModelFacts(name="bench", tower=facts),
    )
    tiles = Tiles(pixels, (Tile(frame=0, box=(0, 0, 336, 336)),), ((336, 336),), (0.0,))
    needs = [Need("hidden", level) for level in LEVELS]

    def run() -> Any:
        with demand(*needs):
            patches = encode_vision(vision, tiles)
        return torch.cat([patches.side[need.key] for need in needs], -1)[None]

    return run


def pictures() -> harness.Sides:
    """A file on disk to normalised crops."""
    import numpy as np
    import torch
    from PIL import Image

    from tokenloom.nodes import load_image, slice_hd
    from tokenloom.runtime.models.chat import ChatFormat
    from tokenloom.runtime.models.facts import CLIP_MEAN, CLIP_STD
    from tokenloom.runtime.models.handle import ImageFacts, Model, ModelFacts

    torch.set_num_threads(1)
    keep = TemporaryDirectory()
    path = Path(keep.name) / "picture.jpg"
    small = np.random.default_rng(0).integers(0, 256, (27, 48, 3), dtype=np.uint8)
    Image.fromarray(small).resize((1920, 1080), Image.Resampling.BICUBIC).save(path, quality=90)
    facts = ImageFacts(size=336, mean=CLIP_MEAN, std=CLIP_STD, aspect="slice", patch_num=9)
    chat = Model(
        kind=ChatFormat,
        loader="none",
        folder="",
        fingerprint="",
        dtype="float32",
        device="cpu",
        facts=ModelFacts(name="bench", image=facts),
    )

    def ours() -> Any:
        assert keep  # the folder lives as long as the side
        return slice_hd(chat, load_image(path=path)).pixels

    straight = partial(normalised_then_resized, path, CLIP_MEAN, CLIP_STD)
    check_same(ours(), straight())
    return {"plain": straight, "nodes": ours}


def normalised_then_resized(path: Path, mean: Any, std: Any) -> Any:
    """[9, 3, 336, 336]: 2 x 4 crops, and the canvas squeezed; floats from the start."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.nn.functional import interpolate

    with Image.open(path) as file:
        picture = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1).contiguous()
    image = picture.float().div(255)
    image = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    canvas = torch.zeros(1, 3, 672, 1344)
    canvas[..., :672, :1195] = interpolate(image[None], (672, 1195), mode="bilinear", align_corners=False)
    crops = canvas.view(3, 2, 336, 4, 336).permute(1, 3, 0, 2, 4).reshape(8, 3, 336, 336)
    view = torch.zeros(1, 3, 336, 336)
    view[..., :189, :336] = interpolate(canvas, (189, 336), mode="bilinear", align_corners=False)
    return torch.cat([crops, view])


ALL = ("plain", "nodes", "torch", "mlp", "mlp node")
CASES = [
    *(
        harness.Case(
            f"scale {scale}, batch {batch}",
            partial(projectors, scale, batch, ALL if batch == 1 else ("plain", "nodes", "mlp")),
            base="plain",
            repeats=4 if batch == 1 else 1,
            warm=0,
            unit="ms",
            scale=1e3,
            target={"nodes": 1 / 1.10, "nodes/mlp": 1.0},
        )
        for scale in (2, 3, 4)
        for batch in (1, 8)
    ),
    harness.Case(
        "tower, batch 1",
        towers,
        base="plain",
        repeats=1,
        warm=0,
        unit="ms",
        scale=1e3,
        target={"nodes": 1.0},
    ),
    harness.Case(
        "1920x1080 to crops", pictures, base="plain", unit="ms", scale=1e3, most={"nodes": RELEASED_MS}
    ),
]

if __name__ == "__main__":
    harness.main(__file__, CASES)
