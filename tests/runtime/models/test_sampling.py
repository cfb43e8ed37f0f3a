"""Greedy picks, cut-offs and seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.runtime.models.sampling import Sampling

LOGITS = torch.tensor([0.0, 3.0, 2.0, -1.0])  # chances .035, .705, .259, .013


def drawn(sampling: Sampling, times: int = 60) -> set[int]:
    source = sampling.generator()
    return {sampling.pick(LOGITS, source) for _ in range(times)}


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(temperature=2, top_k=1), Sampling(temperature=2, top_p=0.0)],
)
def test_the_likeliest_token(sampling: Sampling) -> None:
    """Temperature 0, one candidate, or no chance to share: greedy."""
    assert drawn(sampling, 5) == {1}


def test_cut_offs() -> None:
    """top_k and top_p draw from their set alone, and from all of it."""
    assert drawn(Sampling(temperature=5, top_k=2)) == {1, 2}
    assert drawn(Sampling(temperature=1, top_p=0.9)) == {1, 2}
    assert drawn(Sampling(temperature=9), 200) == {0, 1, 2, 3}


def test_forbidden_tokens() -> None:
    """A forbidden token is never picked, greedily or by chance."""
    for sampling in (Sampling(), Sampling(temperature=0.1)):
        assert sampling.pick(LOGITS, sampling.generator(), {1}) == 2
    assert bool(LOGITS.isfinite().all())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 3), st.floats(0.05, 1), st.integers(1, 50))
def test_any_setting_draws_a_likely_token(seed: int, temperature: float, top_p: float, top_k: int) -> None:
    """Whatever the cut-offs, the token is among the top_k, and the same seed draws it again."""
    logits = torch.randn(40, generator=torch.Generator().manual_seed(seed))
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    first = sampling.pick(logits, sampling.generator())
    assert first in logits.topk(min(top_k, 40)).indices.tolist()
    assert first == sampling.pick(logits, sampling.generator())
