"""Bytes, seconds and values in plain form: short texts for people, JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any


def size_text(count: float) -> str:
    """Bytes for people: `812 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """`0.0004`, `0.031`, `1.52`, `83.1`: three digits or so."""
    if seconds == 0:
        return "0"
    digits = min(max(2 - math.floor(math.log10(seconds)), 1), 4)
    return f"{seconds:.{digits}f}"


def as_json(value: Any) -> Any:
    """A value of a run as plain data: texts and numbers as they are, tensors by shape."""
    from torch import Tensor

    from .describe import describe
    from .values import Answer, Table, Tokens

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Answer | Table):
        return {name: as_json(one) for name, one in asdict(value).items()}
    if isinstance(value, Tokens | Tensor):
        tensor = value.features if isinstance(value, Tokens) else value
        return {"type": type(value).__name__, "shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
    if isinstance(value, Mapping):
        return {str(name): as_json(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", None)
        items = [as_json(one) for one in value]
        return items if names is None else dict(zip(names, items, strict=True))
    return {"type": type(value).__name__, "text": describe(value)}
