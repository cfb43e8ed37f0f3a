"""Projectors by kind, and the newline vector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models import fast_linear
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


@pytest.mark.parametrize("pool", [None, lambda hidden: hidden.mean(1)], ids=["all", "pooled"])
@pytest.mark.parametrize("kind", ["linear", "mlp1x_gelu", "mlp2x_gelu", "mlp3x_gelu", "pixel_shuffle"])
def test_linear_layers_run_by_onednn_in_inference(
    kind: str, pool: Callable[[Tensor], Tensor] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, pooled before the last or not; the same but for rounding as with gradients."""
    facts = ProjectorFacts(kind=kind, inputs=12, outputs=16, ratio=1.0)
    made, x = Projector(build_projector(facts), facts), torch.randn(2, 5, 12)
    want, spelt = made(x, pool), list[bool]()

    def seen(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        spelt.append(x.is_mkldnn)
        return linear(x, weight, bias)

    monkeypatch.setattr(fast_linear, "linear", seen)
    with torch.no_grad():
        torch.testing.assert_close(made(x, pool), want)
    layers = [layer for layer in made.module.modules() if isinstance(layer, nn.Linear)]
    assert spelt == [True] * len(layers)


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
