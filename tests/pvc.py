"""A tiny PVC tower and compressor with random weights, handles on them, and frames for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tokenloom.runtime.models.handle import ModelFacts, ProjectorFacts, PvcFacts, TowerFacts
from tokenloom.runtime.models.projector import Projector, build_projector
from tokenloom.runtime.models.pvc import TemporalModules
from tokenloom.runtime.models.tower import VisionTower
from tokenloom.runtime.models.tower_intern import InternTower
from tokenloom.runtime.models.tower_pvc import PvcTower
from tokenloom.runtime.values import Tile, Tiles

from .runtime.models.tiny import Held

SIZE, PATCH, WIDTH, HEADS, DEPTH, OUT = 16, 4, 24, 3, 4, 20  # 4 x 4 patches
SHAPE: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "intermediate_size": 40,
    "image_size": SIZE, "patch_size": PATCH,
}  # fmt: skip


def facts_of(pvc: PvcFacts | None) -> TowerFacts:
    return TowerFacts(
        family="internvit", hidden=WIDTH, intermediate=40, depth=DEPTH, heads=HEADS, patch=PATCH, size=SIZE,
        has_cls=True, select_layer=-1, pvc=pvc,
    )  # fmt: skip


def _drawn(module: nn.Module, seed: int, std: float = 0.15) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.eval().requires_grad_(False)


def native_vit() -> nn.Module:
    """An InternVLVisionModel."""
    from transformers import InternVLVisionConfig, InternVLVisionModel

    settings: dict[str, Any] = {
        "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm", "layer_norm_eps": 1e-6,
        "use_mean_pooling": True, "attn_implementation": "sdpa",
    }  # fmt: skip
    config = InternVLVisionConfig(**SHAPE, **settings)
    return _drawn(InternVLVisionModel(config), 5)


def tiny_pvc(pvc: PvcFacts | None = None, *, zero: bool = False) -> PvcTower:
    """Temporal attention in the last two of four layers. zero: modulation and projections are zero."""
    pvc = pvc or PvcFacts(layers=(2, 3))
    temporal = TemporalModules(WIDTH, HEADS, 1e-6, pvc)
    _drawn(temporal, 6)
    if zero:
        for name, parameter in temporal.named_parameters():
            if "adaln" in name or "temporal_attn.proj" in name:
                nn.init.zeros_(parameter)
    return PvcTower(native_vit(), facts_of(pvc), temporal)


def plain_vit() -> InternTower:
    """The InternViT that is in `tiny_pvc`."""
    return InternTower(native_vit(), facts_of(None))


def tiny_compressor(pvc: PvcFacts | None = None, *, ratio: float = 0.5, zero: bool = False) -> Projector:
    """To width 20."""
    pvc = pvc or PvcFacts(layers=(2, 3))
    facts = ProjectorFacts(kind="pixel_shuffle", inputs=WIDTH, outputs=OUT, ratio=ratio, pvc=pvc)
    module = _drawn(build_projector(facts), 7, std=0.1)
    for name, parameter in module.named_parameters():
        if zero and "adaln" in name:
            nn.init.zeros_(parameter)
    return Projector(module, facts)


def vision(tower: VisionTower) -> Held:
    """A handle on a tower."""
    return _held(VisionTower, tower, ModelFacts(name="tiny", tower=tower.facts))


def compressor(projector: Projector) -> Held:
    """A handle on a projector."""
    return _held(Projector, projector, ModelFacts(name="tiny", projector=projector.facts))


def _held(kind: type, model: Any, facts: ModelFacts) -> Held:
    return Held(
        kind=kind, loader="held", folder="", fingerprint=str(id(model)), dtype="float32", device="cpu",
        facts=facts, held=model,
    )  # fmt: skip


def noise(tiles: int, seed: int = 0) -> Tensor:
    """[K, 3, S, S]."""
    return torch.randn(tiles, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def pictures(*tiles: int, seed: int = 0) -> Tiles:
    """Pictures of so many tiles each."""
    layout = [
        Tile(frame=frame, col=col, box=(0, 0, SIZE, SIZE))
        for frame, n in enumerate(tiles)
        for col in range(n)
    ]
    size = (SIZE, SIZE)
    return Tiles(
        noise(len(layout), seed), tuple(layout), (size,) * len(tiles), tuple(map(float, range(len(tiles))))
    )


def clip(frames: int, *, cells: int = 1, seed: int = 0) -> Tiles:
    """Frames of a clip, of `cells` tiles each."""
    return replace(pictures(*[cells] * frames, seed=seed), clips=(0,) * frames)
