"""Floating-point operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def counted_by_torch(run: Callable[[], Any]) -> int:
    """Those of matrix products, without rotary frequencies, which not all versions of transformers multiply.

    Attention runs in torch's plain kernel, linear layers outside oneDNN: the counter cannot see into the
    fused kernels for the CPU.
    """
    with _plain(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    rotary = {
        name: sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name.lower().endswith(("rotary_emb", "rotaryembedding"))
    }
    return int(counter.get_total_flops() - sum(rotary.values()))


@contextmanager
def _plain() -> Iterator[None]:
    backend: Any = torch.backends.mkldnn  # its own `flags` warns of TF32
    before, backend.enabled = backend.enabled, False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        backend.enabled = before
