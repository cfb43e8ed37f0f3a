"""What `auto` means, and devices that are not here."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.context import Context, use
from tokenloom.runtime.errors import WiringError
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
    assert pick_device("auto") == "cuda"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("gpu", "load_model.device: 'gpu' is no device; wanted auto, cpu, cuda, cuda:1 or mps"),
        ("cuda:7", "load_model.device: 'cuda:7' was asked for, but torch sees 1 CUDA devices; use auto"),
        ("mps", "load_model.device: 'mps' was asked for, but torch cannot use it here; use auto"),
    ],
)
def test_impossible_devices(monkeypatch: pytest.MonkeyPatch, asked: str, text: str) -> None:
    """A device that is not here is named with what to do."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(WiringError) as error:
        pick_device(asked, "load_model.device")
    assert str(error.value) == text


def test_unknown_dtype() -> None:
    """A dtype of the run that models cannot have."""
    with use(Context(dtype="float64")), pytest.raises(WiringError) as error:
        pick_dtype("auto", "cpu", "load_model.dtype")
    assert str(error.value) == ("load_model.dtype: 'float64' is not one of auto, float32, bfloat16, float16")


@pytest.mark.gpu
def test_loads_on_cuda() -> None:
    """The bundled checkpoint goes to the GPU in bfloat16 or float16."""
    from tokenloom.nodes.models import load_model

    loaded = load_model(checkpoint="tiny-random", device="cuda")
    for handle in (loaded.vision, loaded.projector, loaded.llm):
        tensors = [*write.module_of(handle).parameters(), *write.module_of(handle).buffers()]
        assert {t.device.type for t in tensors} == {"cuda"}
    assert next(write.module_of(loaded.llm).parameters()).dtype in (torch.bfloat16, torch.float16)
