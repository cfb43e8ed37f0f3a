"""What `auto` stands for: cuda > mps > cpu; bfloat16 or float16 on GPUs, float32 on the CPU."""

from __future__ import annotations

from typing import Literal

import torch

from ..context import current
from ..errors import WiringError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(asked: str = "auto", where: str = "device") -> str:
    """A device name that works here; `auto` takes the run's device, else the best there is.

    Errors: WiringError for a device that torch does not know or that is not here.
    """
    if asked == "auto":
        asked = current().device
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise WiringError(f"{where}: {asked!r} is no device; wanted auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise WiringError(
            f"{where}: {asked!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices; "
            f"use auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise WiringError(f"{where}: {asked!r} was asked for, but torch cannot use it here; use auto")
    return asked


def pick_dtype(asked: str, device: str, where: str = "dtype") -> str:
    """A dtype name; `auto` takes the run's dtype, else what suits the device."""
    if asked == "auto":
        asked = current().dtype.removeprefix("torch.")
    if asked == "auto":
        kind = torch.device(device).type
        if kind == "cpu":
            return "float32"
        return "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float16"
    if asked not in DTYPES:
        raise WiringError(f"{where}: {asked!r} is not one of auto, {', '.join(DTYPES)}")
    return asked
