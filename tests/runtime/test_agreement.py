"""KL between the first tokens of two models."""

from __future__ import annotations

import pytest
import torch

from tokenloom.runtime.agreement import divergence
from tokenloom.runtime.errors import GraphError


def test_it_is_torchs_kl() -> None:
    """KL(base || other), from scores that are no probabilities yet."""
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.kl_div(
        b.double().log_softmax(-1), a.double().log_softmax(-1), reduction="sum", log_target=True
    )
    assert divergence(a, b) == pytest.approx(float(wanted), rel=1e-12)
    assert divergence(a, a + 3) == pytest.approx(0, abs=1e-7)


def test_what_the_base_rules_out_counts_nothing() -> None:
    """A token of probability 0 adds 0, not nan."""
    base = torch.tensor([0.0, -torch.inf])
    assert divergence(base, torch.tensor([0.0, 0.0])) == pytest.approx(0.6931471805599453)


def test_vocabularies_must_be_one() -> None:
    """Other models cannot be compared."""
    with pytest.raises(GraphError) as error:
        divergence(torch.zeros(3), torch.zeros(4))
    assert str(error.value) == "KL: the base scores 3 tokens, the other 4; wanted one vocabulary"


def test_nan_is_said() -> None:
    """No number is made up."""
    with pytest.raises(GraphError, match=r"^KL: the scores of the first token are not numbers \(nan\)$"):
        divergence(torch.tensor([0.0, torch.nan]), torch.zeros(2))
