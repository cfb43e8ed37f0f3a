"""Exact comparison of values of any kind: tensors, dataclasses, mappings and sequences of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def same(a: Any, b: Any) -> bool:
    """Equal in type, dtype, shape and every number; nan is equal to itself."""
    return next(differences(a, b), None) is None


def differences(a: Any, b: Any, at: str = "value") -> Iterator[str]:
    """Where two values differ, and how: `value.side['keys']: ...`."""
    if type(a) is not type(b) and not (isinstance(a, Tensor | Mapping) and isinstance(b, Tensor | Mapping)):
        yield f"{at}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and _equal(a, b)):
            yield f"{at}: {_shown(a)} and {_shown(b)}"
    elif isinstance(a, Mapping):
        if a.keys() != b.keys():
            yield f"{at}: keys {list(a)} and {list(b)}"
        for key in a.keys() & b.keys():
            yield from differences(a[key], b[key], f"{at}[{key!r}]")
    elif is_dataclass(a) and not isinstance(a, type):
        for field in fields(a):
            yield from differences(getattr(a, field.name), getattr(b, field.name), f"{at}.{field.name}")
    elif isinstance(a, tuple | list):
        if len(a) != len(b):
            yield f"{at}: {len(a)} and {len(b)} items"
        for i, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from differences(one, other, f"{at}[{i}]")
    elif not (a == b or a != a):
        yield f"{at}: {a!r} and {b!r}"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _shown(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype} {list(value.shape)} sum {value.double().sum().item():.6g}"
