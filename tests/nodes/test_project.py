"""project_mlp: kinds of projector, widths, and what a plan can refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokenloom.nodes.pool import pool_tokens
from tokenloom.nodes.project import project_mlp
from tokenloom.runtime.errors import BudgetError, CheckpointError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.models.handle import ProjectorFacts
from tokenloom.runtime.models.projector import KINDS, build_projector
from tokenloom.runtime.values import VisualTokens

from ..same import differences
from ..towers import made_patches, square_source, tiny_projector

PATCHES = made_patches(square_source(2), width=24)


def test_two_layers_with_exact_gelu() -> None:
    """mlp2x_gelu: Linear, GELU by erf, Linear; parameters named as in LLaVA's checkpoints."""
    handle = tiny_projector()
    weights: dict[str, Any] = handle.load().module.state_dict()
    assert list(weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    hidden = PATCHES.features @ weights["0.weight"].T + weights["0.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    want = hidden @ weights["2.weight"].T + weights["2.bias"]
    torch.testing.assert_close(project_mlp(handle, PATCHES).features, want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "width"), [("linear", 8), ("mlp3x_gelu", 8), ("identity", 24)])
def test_other_kinds(kind: str, width: int) -> None:
    """One linear layer, three, or none."""
    assert project_mlp(tiny_projector(kind), PATCHES).features.shape == (20, width)


def test_provenance_and_channels_stay() -> None:
    """Only the vectors change, and the type."""
    visual = project_mlp(tiny_projector(), PATCHES)
    assert type(visual) is VisualTokens
    assert visual.member.equal(PATCHES.member)
    assert set(visual.side) == set(PATCHES.side)
    assert not visual.features.requires_grad


def test_half_tokens_through_a_float32_projector() -> None:
    """The projector's dtype rules."""
    half = PATCHES.with_features(PATCHES.features.bfloat16())
    assert project_mlp(tiny_projector(), half).features.dtype == torch.float32


WRONG = (
    "project_mlp.tokens: vectors of width 6, the projector takes 24; wire the tower and the projector of the "
    "same checkpoint"
)


def test_another_width() -> None:
    """Named with both widths, when run and when planned."""
    with pytest.raises(WiringError) as error:
        project_mlp(tiny_projector(), made_patches(square_source(1)))
    assert str(error.value) == WRONG
    assert project_mlp.foresee is not None
    with pytest.raises(WiringError) as error:
        project_mlp.foresee(tiny_projector(), KnownTokens(width=6), pool=None)
    assert str(error.value) == WRONG
    known = project_mlp.foresee(tiny_projector(), KnownTokens(per_tile=3, width=24), pool=None)
    assert known == KnownTokens(per_tile=3, width=8)


@pytest.mark.parametrize("kind", ["resampler", "mlp0x_gelu"])
def test_projectors_that_do_not_exist(kind: str) -> None:
    """An unknown kind is named, with the known ones."""
    with pytest.raises(CheckpointError) as error:
        build_projector(ProjectorFacts(kind=kind, inputs=4, outputs=8))
    assert str(error.value) == f"projector {kind!r} is none of {KINDS}"
    assert KINDS.startswith("identity, linear, mlp2x_gelu, mlp3x_gelu, ..., merger2x2, ...")


def test_identity_between_two_widths() -> None:
    """Nothing maps one to the other."""
    with pytest.raises(CheckpointError) as error:
        build_projector(ProjectorFacts(kind="identity", inputs=4, outputs=8))
    assert str(error.value) == "projector 'identity' from width 4 to 8; the widths must be equal"


WHOLE = made_patches(square_source(2, 5, 7), cls_token=False, width=24)


@pytest.mark.parametrize("kind", ["mlp2x_gelu", "mlp3x_gelu", "linear", "identity"])
def test_pooling_before_the_last_layer(kind: str) -> None:
    """The same vectors, provenance and channels as pooling after the projector."""
    handle = tiny_projector(kind)
    early = project_mlp(handle, WHOLE, pool=(3, 4))
    late = pool_tokens(project_mlp(handle, WHOLE), grid=(3, 4))
    torch.testing.assert_close(early.features, late.features, atol=1e-5, rtol=0)
    same = late.with_features(early.features)
    assert list(differences(early, same, "pooled")) == []


def test_pooling_what_is_no_grid() -> None:
    """The errors of pool_tokens, under this node's name, when run and when planned."""
    said = (
        "project_mlp.pool: [CLS] tokens among the patches, but they have no place in a grid; set features: "
        "patch on encode_vision"
    )
    with pytest.raises(WiringError) as error:
        project_mlp(tiny_projector(), PATCHES, pool=(2, 2))
    assert str(error.value) == said
    assert project_mlp.foresee is not None
    with pytest.raises(WiringError) as error:
        project_mlp.foresee(tiny_projector(), KnownTokens(per_tile=10, cls_token=True), pool=(2, 2))
    assert str(error.value) == said
    with pytest.raises(BudgetError) as budget:
        project_mlp.foresee(None, None, pool=(0, 2))
    assert str(budget.value) == "project_mlp.pool: 0 x 2 places per tile; wanted 1 x 1 or more"
    known = project_mlp.foresee(tiny_projector(), KnownTokens(tiles=2, per_tile=9), pool=(2, 2))
    assert known == KnownTokens(tiles=2, per_tile=4, cls_token=False, width=8, grid=False)
