"""Linear layers of inference on a CPU: by oneDNN, about twice as fast as torch's default on some CPUs.

For float32 torch asks MKL, which leaves half the arithmetic of an AMD CPU with AVX-512 unused; oneDNN, which
torch brings along, does not. Weights stay as they are; the copies of inputs and outputs are in the figure.
`torch.backends.mkldnn.enabled = False` turns it off.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` [..., H], equal but for rounding."""
    if not _takes(x, weight):
        return linear(x, weight, bias)
    flat = x.reshape(-1, x.shape[-1])
    return linear(flat.to_mkldnn(), weight, bias).to_dense().view(*x.shape[:-1], len(weight))


def fast_module(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)`: of a linear layer, and of those of a sequence, by `fast_linear`."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = fast_module(layer, x)
        return x
    if type(module) is nn.Linear:  # others may compute something else
        return fast_linear(x, module.weight, module.bias)
    out: Tensor = module(x)
    return out


def _takes(x: Tensor, weight: Tensor) -> bool:
    if x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32 or not x.numel():
        return False
    if type(x) is not Tensor or not weight.numel():
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    backend: Any = torch.backends.mkldnn
    return not torch.is_grad_enabled() and bool(backend.is_available() and backend.enabled)
