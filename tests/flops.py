"""Floating-point operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def counted_by_torch(run: Callable[[], Any]) -> int:
    """Those of matrix products, without rotary frequencies, which not all versions of transformers multiply.

    Attention runs in torch's plain kernel: the counter cannot see into the fused ones for the CPU.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    rotary = {
        name: sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name.lower().endswith(("rotary_emb", "rotaryembedding"))
    }
    return int(counter.get_total_flops() - sum(rotary.values()))
