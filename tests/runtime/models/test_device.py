"""What `auto` means, and devices that are not here."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.models import load_model
from tokenloom.runtime.context import Context, use
from tokenloom.runtime.errors import LoomError
from tokenloom.runtime.models.device import pick_device, pick_dtype

from ... import checkpoints as write


def test_run_defaults_fill_auto() -> None:
    """A widget's `auto` takes the run's device and dtype; a named one wins over the run."""
    with use(Context(device="cpu", dtype="bfloat16")):
        assert pick_device("auto") == "cpu"
        assert pick_dtype("auto", "cpu") == "bfloat16"
        assert pick_dtype("float16", "cpu") == "float16"


def test_dtype_suits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 on the CPU; bfloat16 where CUDA has it, else float16."""
    assert pick_dtype("auto", "cpu") == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert pick_dtype("auto", "cuda") == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert pick_dtype("auto", "cuda:1") == "float16"
    assert pick_dtype("auto", "mps") == "float16"


def test_device_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda before mps before cpu."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == pick_device("cuda") == "cuda:0"


def test_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's own device is checked while planning, with what to do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(LoomError) as error:
        load_model(checkpoint="tiny-random", device="cuda:7")
    assert str(error.value) == (
        "device: cuda:7 was asked for, and torch sees 1 CUDA devices; use auto or cpu"
    )


@pytest.mark.gpu
def test_loads_on_cuda() -> None:
    """The bundled checkpoint goes to the GPU in bfloat16 or float16."""
    loaded = load_model(checkpoint="tiny-random", device="cuda")
    for handle in (loaded.vision, loaded.projector, loaded.llm):
        tensors = [*write.module_of(handle).parameters(), *write.module_of(handle).buffers()]
        assert {t.device.type for t in tensors} == {"cuda"}
    assert next(write.module_of(loaded.llm).parameters()).dtype in (torch.bfloat16, torch.float16)
