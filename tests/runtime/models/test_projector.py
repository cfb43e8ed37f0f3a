"""Projectors by kind, and the newline vector."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.handle import ProjectorFacts
from tokenloom.runtime.models.projector import Projector, build_projector, newline_of

FACTS = ProjectorFacts(kind="linear", inputs=4, outputs=8, newline=True)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("linear", ["weight", "bias"]),
        ("mlp1x_gelu", ["0.weight", "0.bias"]),
        ("mlp2x_gelu", ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ("mlp3x_gelu", ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]),
    ],
)
def test_parameter_names_are_those_of_llava(kind: str, names: list[str]) -> None:
    """What follows `mm_projector.` in a checkpoint."""
    module = build_projector(ProjectorFacts(kind=kind, inputs=4, outputs=8))
    assert list(module.state_dict()) == names
    assert module(torch.zeros(3, 4)).shape == (3, 8)


def test_identity_has_no_dtype_of_its_own() -> None:
    """It passes on what comes."""
    facts = ProjectorFacts(kind="identity", inputs=4, outputs=4)
    half = torch.ones(2, 4, dtype=torch.float16)
    assert Projector(build_projector(facts), facts)(half) is half


def test_gradients_reach_the_projector() -> None:
    """Calling it directly keeps the graph, for tuning the projector alone."""
    out = Projector(build_projector(FACTS), FACTS)(torch.ones(2, 4))
    assert out.requires_grad


def test_newline_in_the_tokens_dtype() -> None:
    """Or an error that says what to do without one."""
    module = build_projector(FACTS)
    like = torch.zeros(1, dtype=torch.bfloat16)
    assert newline_of(Projector(module, FACTS, torch.ones(8)), "pack", like).dtype == torch.bfloat16
    with pytest.raises(CheckpointError) as error:
        newline_of(Projector(module, FACTS), "pack", like)
    assert str(error.value) == (
        "pack: the checkpoint has no image_newline vector; set merge: spatial or flat"
    )
