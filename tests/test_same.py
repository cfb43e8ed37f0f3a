"""The comparison that other tests rest on sees what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from .same import differences, same


@dataclass(frozen=True, eq=False)
class Held:
    x: torch.Tensor
    side: Mapping[str, Any]


def held(number: float = 1.0, dtype: torch.dtype = torch.float32, **side: Any) -> Held:
    return Held(torch.tensor([number, float("inf")], dtype=dtype), side)


def test_equal_values() -> None:
    """Of equal parts, nan in plain numbers included."""
    assert same((held(keys=[1, "a"]), float("nan"), None), (held(keys=[1, "a"]), float("nan"), None))


@pytest.mark.parametrize(
    ("other", "want"),
    [
        (held(2.0), "value.x: torch.float32 [2] sum inf and torch.float32 [2] sum inf"),
        (held(dtype=torch.float64), "value.x: torch.float32 [2] sum inf and torch.float64 [2] sum inf"),
        (held(keys=1), "value.side: keys [] and ['keys']"),
        ((held(),), "value: Held and tuple"),
    ],
)
def test_where_values_differ(other: Any, want: str) -> None:
    """Number, dtype, keys, type."""
    assert list(differences(held(), other)) == [want]


def test_lengths_and_parts() -> None:
    """Every place is named."""
    assert list(differences([1, 2.0, 3], [1, 2])) == ["value: 3 and 2 items", "value[1]: float and int"]
    assert list(differences({"a": "x"}, {"a": "y"})) == ["value['a']: 'x' and 'y'"]
