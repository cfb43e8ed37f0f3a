"""Tiny vision towers and projectors with random weights, handles on them, and tiles for them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from tokenloom.runtime.models.handle import ImageFacts, ModelFacts, ProjectorFacts, TowerFacts
from tokenloom.runtime.models.projector import Projector, build_projector
from tokenloom.runtime.models.tower import VisionTower
from tokenloom.runtime.values import Patches, Source, Tile, Tiles

from .runtime.models.tiny import Held

SIZE, PATCH, WIDTH, HEADS, DEPTH = 16, 4, 24, 3, 4  # 4 x 4 patches


def tiny_tower(
    family: Literal["clip", "siglip"] = "clip", *, device: str = "cpu", attention: str = "sdpa"
) -> VisionTower:
    """Four layers of width 24 with three heads, on tiles of 16 x 16 pixels in patches of 4."""
    import transformers

    name = {"clip": "CLIP", "siglip": "Siglip"}[family]
    config = getattr(transformers, f"{name}VisionConfig")(
        hidden_size=WIDTH,
        intermediate_size=40,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        image_size=SIZE,
        patch_size=PATCH,
        attn_implementation=attention,
    )
    torch.manual_seed(7)
    module = getattr(transformers, f"{name}VisionModel")(config).eval()
    for parameter in module.parameters():  # sharper attention than the usual initial weights give
        torch.nn.init.normal_(parameter, std=0.3)
    facts = TowerFacts(
        family=family,
        hidden=WIDTH,
        intermediate=40,
        depth=DEPTH,
        heads=HEADS,
        patch=PATCH,
        size=SIZE,
        has_cls=family == "clip",
    )
    return VisionTower(module.to(device), facts)


def core_of(tower: VisionTower) -> Any:
    """The module that holds embeddings and encoder: transformers 5.5 nests it one level deeper."""
    return getattr(tower.module, "vision_model", tower.module)


def vision_handle(tower: VisionTower) -> Held:
    """A handle on a tower."""
    return _held(VisionTower, tower, ModelFacts(name="tiny", tower=tower.facts), str(tower.device))


def tiny_projector(
    kind: str = "mlp2x_gelu", *, newline: bool = True, image: ImageFacts | None = None, inputs: int = WIDTH
) -> Held:
    """A handle on a projector from the tower's width to 8 (identity: to itself)."""
    outputs = inputs if kind == "identity" else 8
    facts = ProjectorFacts(kind=kind, inputs=inputs, outputs=outputs, newline=newline)
    torch.manual_seed(8)
    module = build_projector(facts).requires_grad_(False)
    made = Projector(module, facts, torch.full((outputs,), 9.0) if newline else None)
    return _held(Projector, made, ModelFacts(name="tiny", projector=facts, image=image), "cpu")


def image_facts(merge_type: Literal["flat", "spatial", "spatial_unpad"]) -> ImageFacts:
    """Preprocessing facts of which only the merge type matters."""
    half = (0.5, 0.5, 0.5)
    return ImageFacts(size=SIZE, mean=half, std=half, aspect="anyres", merge_type=merge_type)


def random_tiles(count: int, *, seed: int = 0, height: int = SIZE, width: int = SIZE) -> Tiles:
    """`count` pictures of one tile each."""
    pixels = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    layout = tuple(Tile(frame=i, box=(0, 0, width, height)) for i in range(count))
    return Tiles(pixels, layout, ((width, height),) * count, (0.0,) * count)


def anyres_source(
    *grids: tuple[int, int], rows: int = 2, cols: int = 2, sizes: tuple[tuple[int, int], ...] = ()
) -> Source:
    """A base tile and a grid of (columns, rows) tiles for every picture; (0, 0): one tile alone."""
    tiles: list[Tile] = []
    for frame, (across, down) in enumerate(grids):
        tiles.append(Tile(frame=frame, box=(0, 0, 1, 1), whole=across > 0))
        tiles += [
            Tile(frame=frame, row=r, col=c, box=(0, 0, 1, 1)) for r in range(down) for c in range(across)
        ]
    fitting = tuple((max(across, 1), max(down, 1)) for across, down in grids)
    return Source(tuple(tiles), rows, cols, sizes or fitting, (0.0,) * len(grids))


def made_patches(source: Source, *, cls_token: bool = True, width: int = 6, seed: int = 0) -> Patches:
    """Random patches with a score and keys."""
    maker = torch.Generator().manual_seed(seed)
    n = len(source.tiles) * (source.per_tile + cls_token)
    side: dict[str, Tensor] = {
        "cls_attention": torch.rand(n, generator=maker),
        "keys": torch.randn(n, 5, generator=maker),
    }
    return Patches.of_patches(source, torch.randn(n, width, generator=maker), side, cls_token)


def square_source(tiles: int, rows: int = 3, cols: int = 3) -> Source:
    """`tiles` pictures of one tile each."""
    layout = tuple(Tile(frame=i, box=(0, 0, cols, rows)) for i in range(tiles))
    return Source(layout, rows, cols, ((cols, rows),) * tiles, (0.0,) * tiles)


def _held(kind: type, held: Any, facts: ModelFacts, device: str) -> Held:
    return Held(
        kind=kind,
        loader="held",
        folder="",
        fingerprint=str(id(held)),
        dtype="float32",
        device=device,
        facts=facts,
        held=held,
    )
