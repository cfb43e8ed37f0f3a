"""Shared settings: one thread per worker, so that two workers fit two cores; where checkpoints are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENLOOM_CHECKPOINTS"] = str(Path(__file__).parent / "data" / "checkpoints")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
