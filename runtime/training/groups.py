"""Which parameters learn, how fast, and with what decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import AdamW

from ..errors import CheckpointError, did_you_mean


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float = 0.0,
    own: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: parameters of like rate and decay, those that are frozen left out.

    Vectors (biases and norms) never decay, as in transformers' Trainer. own: rates of parameters whose names
    hold a word, e.g. {"mm_projector": 2e-5} (LLaVA's `mm_projector_lr`); the last that fits counts.
    Errors: CheckpointError for a word that fits no parameter that learns.
    """
    learns = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    own = own or {}
    for word in own:
        if not any(word in name for name, _ in learns):
            known = {name.split(".")[0] for name, _ in learns}
            raise CheckpointError(
                f"parameter_groups: no parameter that learns has {word!r} in its name"
                f"{did_you_mean(word, known)}"
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in learns:
        rate = [lr, *(own[word] for word in own if word in name)][-1]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": r, "weight_decay": d} for (r, d), members in groups.items()]


def adamw(groups: list[dict[str, Any]]) -> AdamW:
    """AdamW as the released code trains: betas 0.9 and 0.999, eps 1e-8. Gradients are not clipped there."""
    return AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
