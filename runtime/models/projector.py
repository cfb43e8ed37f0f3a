"""Projectors: from the tower's width to the language model's."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

from .. import context, cost
from ..errors import CheckpointError
from .fast_linear import fast_module
from .handle import ProjectorFacts
from .pvc import Compressor
from .tokenpacker import TokenPacker

KINDS = "identity, linear, mlp2x_gelu, mlp3x_gelu, ..., merger2x2, ..., pixel_shuffle, tokenpacker"


class Projector:
    """A module from [..., D] to [..., D'], and the checkpoint's `image_newline` vector [D'], if any."""

    def __init__(self, module: nn.Module, facts: ProjectorFacts, newline: Tensor | None = None) -> None:
        self.module, self.facts, self.newline = module, facts, newline

    def __call__(self, features: Tensor, pool: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[..., D'] in the projector's own dtype, on its device.

        pool: a linear map of the rows whose weights sum to 1, done where it is cheapest: the last layer is
        affine, so that pooling its inputs gives what pooling its outputs would.
        """
        weight = next(self.module.parameters(), None)
        features = features if weight is None else features.to(weight.device, weight.dtype)
        out = self._projected(features, pool)
        context.count(cost.projector(self.facts, features.shape[:-1].numel(), out.shape[:-1].numel()))
        return out

    def _projected(self, features: Tensor, pool: Callable[[Tensor], Tensor] | None) -> Tensor:
        if pool is None:
            return fast_module(self.module, features)
        if isinstance(self.module, nn.Sequential):
            return fast_module(self.module[-1], pool(fast_module(self.module[:-1], features)))
        return fast_module(self.module, pool(features))


def build_projector(facts: ProjectorFacts) -> nn.Module:
    """An empty projector: `linear`, `mlp{n}x_gelu` (Linear, then n - 1 times GELU and Linear), `identity`,
    `merger{m}x{m}` (Qwen2.5-VL), from [n, m * m, D] patches of a group, row by row, to [n, D'],
    `pixel_shuffle` (InternVL), from [n, m * m * D] the same patches in one vector, or `tokenpacker`.

    Errors: CheckpointError for another kind. Parameter names are LLaVA's: `0.weight`, `2.weight`, ...
    """
    if facts.kind == "identity":
        if facts.inputs != facts.outputs:
            raise CheckpointError(
                f"projector 'identity' from width {facts.inputs} to {facts.outputs}; the widths must be equal"
            )
        return nn.Identity()
    if facts.kind == "linear":
        return nn.Linear(facts.inputs, facts.outputs)
    if (match := re.fullmatch(r"mlp(\d+)x_gelu", facts.kind)) and int(match[1]) > 0:
        layers: list[nn.Module] = [nn.Linear(facts.inputs, facts.outputs)]
        for _ in range(int(match[1]) - 1):
            layers += [nn.GELU(), nn.Linear(facts.outputs, facts.outputs)]
        return nn.Sequential(*layers)
    if facts.kind == "pixel_shuffle":
        group = facts.inputs * facts.side**2
        if facts.pvc is not None:
            return Compressor(group, facts.outputs, facts.pvc.time_width * facts.pvc.compressor_adaln)
        return nn.Sequential(
            nn.LayerNorm(group),
            nn.Linear(group, facts.outputs),
            nn.GELU(),
            nn.Linear(facts.outputs, facts.outputs),
        )
    if facts.kind == "tokenpacker":
        return TokenPacker(facts.inputs, facts.outputs, levels=facts.levels, heads=facts.heads)
    if facts.merge:
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

        merger: nn.Module = Qwen2_5_VLPatchMerger(facts.outputs, facts.inputs, facts.merge)
        return merger
    raise CheckpointError(f"projector {facts.kind!r} is none of {KINDS}")


def newline_of(projector: Projector, where: str, like: Tensor) -> Tensor:
    """`image_newline` [D'] in the dtype and on the device of `like`; a CheckpointError when there is none."""
    if projector.newline is None:
        raise CheckpointError(
            f"{where}: the checkpoint has no image_newline vector; set merge: spatial or flat"
        )
    return projector.newline.to(like.device, like.dtype)
