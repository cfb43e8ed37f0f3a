"""Which device and number format a run uses."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.device import resolve_device, resolve_dtype
from tokenloom.runtime.errors import LoomError


def test_cpu_is_float32() -> None:
    """On the CPU `auto` is float32, and short names are spelt out."""
    assert resolve_device("cpu") == "cpu"
    assert (resolve_dtype("auto", "cpu"), resolve_dtype("bf16", "cpu")) == ("float32", "bfloat16")


def test_absent_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device that is not there is refused before any work."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoomError) as error:
        resolve_device("cuda:1")
    assert str(error.value) == "device: cuda:1 was asked for, and torch sees 0 CUDA devices; use auto or cpu"


@pytest.mark.gpu
def test_cuda_is_found() -> None:
    """`auto` is the first CUDA device where there is one; `cuda` names it too."""
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
