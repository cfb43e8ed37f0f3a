"""Which device and number format a run uses when nobody says."""

from __future__ import annotations

import torch

from .errors import LoomError, did_you_mean

_DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
_SHORT = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "half": "float16", "float": "float32"}


def resolve_device(name: str) -> str:
    """`"auto"` as cuda:0, mps or cpu, whatever is there; any other name checked against what is there."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise LoomError(f"device: {name!r} is none of auto, cpu, mps, cuda, cuda:N")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise LoomError("device: mps was asked for, and torch has none here; use auto or cpu")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise LoomError(
                f"device: {name} was asked for, and torch sees {count} CUDA devices; use auto or cpu"
            )
        return f"cuda:{number or 0}"
    return kind


def resolve_dtype(name: str, device: str) -> str:
    """`"auto"`: float32 on the CPU, bfloat16 on CUDA that has it, else float16; other names spelt out."""
    if name == "auto":
        if device.startswith("cpu"):
            return "float32"
        has_bfloat16 = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return "bfloat16" if has_bfloat16 else "float16"
    full = _SHORT.get(name, name)
    if full not in _DTYPES:
        raise LoomError(
            f"dtype: {name!r} is none of auto, float32, float16, bfloat16{did_you_mean(name, _DTYPES)}"
        )
    return full
