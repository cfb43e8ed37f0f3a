"""LoRA layers inside a checkpoint, as peft names them: found, checked, and merged when weights are read.

PLLaVA saves its language model wrapped by peft, and is evaluated with another `lora_alpha` than it was
trained with: how strongly they count is chosen when loading. r = rank, i and o = widths of the linear layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CheckpointError
from .headers import Stored
from .strict import Shape, fold

ALPHA = 14.0  # of PLLaVA's and PruneVid's evaluation on MVBench, VideoMME and EgoSchema
_HALF = re.compile(r"(?P<layer>.+)\.lora_(?P<half>[AB])\.(?P<adapter>[^.]+)\.weight")
_BOTH = {"A": 0, "B": -1}  # and the axis that is the rank


@dataclass(frozen=True)
class Update:
    """What LoRA adds to one weight: `down` [r, i] (lora_A) and `up` [o, r] (lora_B)."""

    down: Stored
    up: Stored

    @property
    def rank(self) -> int:
        """r, by which lora_alpha is divided."""
        return self.down.shape[0]


def take_updates(
    found: Mapping[str, Stored], wanted: Mapping[str, Shape]
) -> tuple[dict[str, Stored], dict[str, Update], list[str]]:
    """The tensors without LoRA layers, the updates by the weight that they change, and what is wrong.

    found: by canonical name. wanted: names and shapes that the configuration tells of.
    """
    plain: dict[str, Stored] = {}
    halves: dict[str, dict[str, Stored]] = {}
    adapters: set[str] = set()
    for name, stored in found.items():
        if half := _HALF.fullmatch(name):
            halves.setdefault(f"{half['layer']}.weight", {})[half["half"]] = stored
            adapters.add(half["adapter"])
        else:
            plain[name] = stored
    if len(adapters) > 1:
        return (
            plain,
            {},
            [f"LoRA layers of {len(adapters)} adapters ({', '.join(sorted(adapters))}), wanted one"],
        )
    problems = _problems(halves, wanted)
    updates = {} if problems else {name: Update(pair["A"], pair["B"]) for name, pair in halves.items()}
    return plain, updates, problems


def _problems(halves: Mapping[str, Mapping[str, Stored]], wanted: Mapping[str, Shape]) -> list[str]:
    """A sentence for each kind of mistake: halves that are missing, misshapen, no floats, or of no weight."""
    missing: dict[str, Shape | str] = {}
    unknown: dict[str, Shape | str] = {}
    wrong: dict[str, Shape | str] = {}
    kinds: dict[str, Shape | str] = {}
    for name, pair in halves.items():
        shape = wanted.get(name, ())
        if len(shape) != 2:
            unknown |= {stored.name: stored.shape for stored in pair.values()}
            continue
        told = [pair[half].shape[axis] for half, axis in _BOTH.items() if half in pair and pair[half].shape]
        rank = max([1, *told[:1]])
        right = {"A": (rank, shape[1]), "B": (shape[0], rank)}
        for half, other in ("AB", "BA"):
            stored = pair.get(half)
            if stored is None:
                missing[pair[other].name.replace(f"lora_{other}", f"lora_{half}")] = right[half]
            elif stored.shape != right[half]:
                wrong[stored.name] = f"{list(stored.shape)}, wanted {list(right[half])}"
            elif not stored.dtype.startswith(("F", "BF")):
                kinds[stored.name] = f"{stored.dtype}, wanted floats"
    named = {
        "missing": missing,
        "of no linear layer": unknown,
        "of wrong shapes": wrong,
        "of wrong dtypes": kinds,
    }
    return [f"LoRA tensors {what}: {fold(group)}" for what, group in named.items() if group]


def chosen_alpha(shown: str, updates: Mapping[str, Update], alpha: float | None) -> float | None:
    """`lora_alpha` for a checkpoint: as asked, else 14; None when it has no LoRA layers."""
    if not updates and alpha is not None:
        raise CheckpointError(
            f"load_model.lora_alpha: {alpha:g}, but {shown} has no LoRA layers whose strength it could be; "
            "set it to null"
        )
    return ALPHA if updates and alpha is None else alpha


def merged(weight: Tensor, down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """W + (alpha / r) * B @ A: the weight [o, i] with its update, in the dtype of all three (float32)."""
    return torch.addmm(weight, up, down, alpha=alpha / len(down))
