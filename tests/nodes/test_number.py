"""number_tokens: places that survive selection and merging."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokenloom.nodes.control import select_uniform
from tokenloom.nodes.number import number_tokens
from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.patch_groups import refuse_numbered
from tokenloom.runtime.registry import all_nodes

from ..towers import made_patches, square_source


def test_tokens_are_numbered_in_their_order() -> None:
    """Through all tiles; what stands at their places now, too, as they may have been selected."""
    tokens = made_patches(square_source(2, 1, 3), cls_token=False)
    assert number_tokens(tokens).side["position"].tolist() == [0, 1, 2, 3, 4, 5]
    assert number_tokens(tokens.select(torch.tensor([1, 4]))).side["position"].tolist() == [0, 1]


def test_cls_takes_no_number() -> None:
    """It sits where the first patch of its tile does, as the uncompressed prompt has no place for it."""
    tokens = made_patches(square_source(2, 1, 2), cls_token=True)
    assert number_tokens(tokens).side["position"].tolist() == [0, 0, 1, 2, 2, 3]


def test_places_survive_a_selection() -> None:
    """And a merge gives their mean."""
    numbered = number_tokens(made_patches(square_source(1, 1, 6), cls_token=False))
    kept, rest = select_uniform(numbered, keep=2, over="raster")
    assert kept.side["position"].tolist() == [1, 4]
    assert rest.merge(torch.zeros(4, dtype=torch.long)).side["position"].tolist() == [2.5]


def test_a_plan_knows_what_it_knew() -> None:
    """And that the tokens are numbered."""
    node, known = all_nodes()["number_tokens"], KnownTokens(per_tile=4, cls_token=False, cls_scores=True)
    assert node.foresee is not None
    assert node.foresee(known) == replace(known, numbered=True)


@pytest.mark.parametrize("numbered", [KnownTokens(numbered=True), None])
def test_groups_of_numbered_tokens_are_refused(numbered: KnownTokens | None) -> None:
    """While planning and when called: their places would leave the prompt mostly empty."""
    tokens = numbered or number_tokens(made_patches(square_source(1, 1, 6), cls_token=False))
    with pytest.raises(WiringError, match="number_tokens gave them places in the prompt"):
        refuse_numbered("project_x", tokens)
