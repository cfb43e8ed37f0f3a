"""The bundled graphs of PruMerge do what their titles say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.values import Kind, Tokens

from ..exact import run

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


def tokens_of(graph: str, **params: Any) -> Tokens:
    return cast("Tokens", run(graph, image=PICTURE, cache=False, max_new_tokens=1, **params)["tokens"])


def test_prumerge_keeps_outliers_and_one_token_of_the_rest() -> None:
    """Fewer than a quarter of 144 patches, each with its 32 neighbours."""
    tokens = tokens_of("prumerge")
    assert 1 < len(tokens) <= 36
    assert tokens.kind.eq(int(Kind.CONTEXTUAL)).all()
    assert tokens.count[:-1].eq(33).all()


def test_a_fixed_part() -> None:
    """An eighth of 144, and the rest."""
    assert len(tokens_of("prumerge", ratio=0.125)) == 18 + 1


def test_prumerge_plus_adds_samples() -> None:
    """Every eighth patch from the fifth on, and what stands out besides."""
    plain, plus = tokens_of("prumerge", ratio=0.125), tokens_of("prumerge_plus", ratio=0.125)
    assert len(plain) < len(plus) <= len(plain) + len(range(4, 143, 8))
    assert plus.features[:18].equal(plain.features[:18])


def test_a_part_of_nothing_is_refused_before_work() -> None:
    """Said while planning."""
    with pytest.raises(BudgetError) as error:
        tokens_of("prumerge", ratio=0)
    assert str(error.value) == (
        "prune_outliers.ratio: 0 picks nothing; set it above 0, or to null for as many as are outliers"
    )
