"""Tiny TokenPackers, and patches with the layers that they read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tokenloom.runtime.models.handle import ModelFacts, ProjectorFacts
from tokenloom.runtime.models.projector import Projector, build_projector
from tokenloom.runtime.values import Patches, Source

from .runtime.models.tiny import Held

LEVELS, WIDTH, OUTPUTS = (1, 2), 16, 8


def tiny_packer(device: str = "cpu", **facts: Any) -> Held:
    """A handle on a TokenPacker from width 16 to 8 that reads two layers, with sharp attention."""
    given = {"kind": "tokenpacker", "inputs": WIDTH, "outputs": OUTPUTS, "levels": 2, "heads": 4}
    shape = ProjectorFacts(
        **{**given, "scale_factor": 2, "scale_from": "scale_factor of config.json", **facts}
    )
    torch.manual_seed(3)
    module = build_projector(shape).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return Held(
        kind=Projector,
        loader="held",
        folder="",
        fingerprint=repr(shape),
        dtype="float32",
        device=device,
        facts=ModelFacts(name="tiny", projector=shape),
        held=Projector(module.to(device).requires_grad_(False), shape),
    )


def levelled(source: Source, *, levels: tuple[int, ...] = LEVELS, cls_token: bool = False) -> Patches:
    """Random patches with a score, and the hidden states of `levels`."""
    maker = torch.Generator().manual_seed(5)
    n = len(source.tiles) * (source.per_tile + cls_token)
    side = {f"hidden@{level}": torch.randn(n, WIDTH, generator=maker) for level in levels}
    side["cls_attention"] = torch.rand(n, generator=maker)
    return Patches.of_patches(source, torch.randn(n, WIDTH, generator=maker), side, cls_token)


def without(patches: Patches, name: str) -> Patches:
    """The patches without one side channel."""
    return replace(patches, side={key: value for key, value in patches.side.items() if key != name})
