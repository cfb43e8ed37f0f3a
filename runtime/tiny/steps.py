"""One training step: what the model is asked, its losses, and how many answers are right."""

# B = samples, T = frames, L = ids of the packed questions

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from .model import TinyLlava, change_loss, patch_losses
from .recipe import Losses, Precision
from .samples import IGNORE, KINDS, Batch


@dataclass
class Tally:
    """Losses and right answer tokens since the last line of the log: sums and counts, by name or kind."""

    losses: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    right: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def lose(self, name: str, frames: int, value: float) -> None:
        """Note a loss; those of clips have names of their own, `lm@8`."""
        self._add(self.losses, _named(name, frames), value, 1)

    def answer(self, kind: str, frames: int, right: float, count: float) -> None:
        """Note answer tokens of one kind of question."""
        self._add(self.right, _named(kind, frames), right, count)

    def means(self) -> dict[str, dict[str, float]]:
        """Mean losses, and shares of right answer tokens in percent."""
        return {
            "losses": {name: round(total / count, 5) for name, (total, count) in sorted(self.losses.items())},
            "right": {
                kind: round(100 * good / count, 2) for kind, (good, count) in sorted(self.right.items())
            },
        }

    @staticmethod
    def _add(sums: dict[str, list[float]], name: str, value: float, count: float) -> None:
        pair = sums.setdefault(name, [0.0, 0.0])
        pair[0] += value
        pair[1] += count


def _named(name: str, frames: int) -> str:
    return name if frames == 1 else f"{name}@{frames}"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Forward passes in the precision of the recipe."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def training_loss(model: TinyLlava, batch: Batch, prefix: Tensor, losses: Losses, tally: Tally) -> Tensor:
    """The weighted sum of the losses of a batch; each of them, and the right answers, go to `tally`."""
    frames = batch.pixels.shape[1]
    parts: list[Tensor] = []

    def add(weight: float, name: str, loss: Tensor) -> None:
        parts.append(weight * loss)
        tally.lose(name, frames, loss.item())

    seen = model.look(batch.pixels)
    if losses.patch:
        for name, loss in patch_losses(model.heads["patch"](seen.patches), batch).items():
            add(losses.patch, name, loss)
    if losses.cls:
        add(losses.cls, "cls", cls_loss(model, seen.early, seen.late, batch))
    if losses.lm:
        logits, rows = model.read(seen.visual, batch, prefix)
        add(
            losses.lm,
            "lm",
            cross_entropy(logits.float().flatten(0, 1), batch.target.flatten(), ignore_index=IGNORE),
        )
        if losses.change and frames > 1:
            add(
                losses.change,
                "change",
                change_loss(model.heads["change"](rows), model.token_change(batch.change)),
            )
        _count(logits, batch, tally)
    if not parts:  # cls alone, at the first step of its rise
        return seen.early.sum() * 0.0
    return torch.stack(parts).sum()


def cls_loss(model: TinyLlava, early: Tensor, late: Tensor, batch: Batch) -> Tensor:
    """Statements about every picture, from [CLS] [B * T, D] before and after the tower's last layer."""
    told = batch.picture.flatten(0, 1)
    scores = (model.heads["cls_early"](early), model.heads["cls_late"](late))
    return 10 * torch.stack([binary_cross_entropy_with_logits(score.float(), told) for score in scores]).sum()


def _count(logits: Tensor, batch: Batch, tally: Tally) -> None:
    right = logits.detach().argmax(-1) == batch.target
    for number, kind in enumerate(KINDS):
        rows = batch.kind == number
        if count := int(rows.sum()):
            tally.answer(kind, batch.pixels.shape[1], int(right[rows].sum()), count)
