"""Muon on hidden matrices and AdamW on everything else, as one optimiser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN = re.compile(r"(^|\.)layers?\.|^projector\.")
"""In the name of what belongs to a stack of like layers or to the projector; its matrices are Muon's."""


class MuonAdamW(torch.optim.Optimizer):
    """One step of both. The groups are theirs, Muon's first, so that schedules and state work as usual.

    Only what requires a gradient is taken. Weight decay is Muon's alone.
    """

    def __init__(self, model: nn.Module, *, muon: float, adamw: float, weight_decay: float) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        hidden = [p for name, p in named if _hidden(name, p)]
        rest = [p for name, p in named if not _hidden(name, p)]
        self._inner: list[torch.optim.Optimizer] = []
        if hidden:
            self._inner.append(torch.optim.Muon(hidden, lr=muon, weight_decay=weight_decay))
        if rest:
            self._inner.append(torch.optim.AdamW(rest, lr=adamw, weight_decay=0.0, betas=(0.9, 0.98)))
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Both work on the groups and the state of this one."""
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            inner.param_groups, inner.state = [group], self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for inner in self._inner:
            inner.step()
        return loss


def _hidden(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and HIDDEN.search(name) is not None
