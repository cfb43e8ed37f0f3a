"""Device and dtype of a model: its widget, else the run's, else what suits the machine."""

from __future__ import annotations

import torch

from ..context import current
from ..device import resolve_device, resolve_dtype

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(asked: str) -> str:
    """A device that is here, spelt out (`cuda:0`); a LoomError for one that is not."""
    return resolve_device(current().device if asked == "auto" else asked)


def pick_dtype(asked: str, device: str) -> str:
    """A key of DTYPES; a LoomError for another name."""
    return resolve_dtype(current().dtype if asked == "auto" else asked, device)
