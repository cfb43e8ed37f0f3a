"""Tensors in a few words, for the one-line looks of the values."""

from __future__ import annotations

from torch import Tensor


def brief(tensor: Tensor) -> str:
    """`54 x 1024, float16, cuda:0`."""
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    return f"{shape}, {str(tensor.dtype).removeprefix('torch.')}, {tensor.device}"
