"""project_merger: groups, provenance, side channels, refusals."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.project import project_merger, project_mlp
from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.values import Kind, Tokens, VisualTokens

from ..towers import made_patches, square_source, tiny_projector

PATCHES = made_patches(square_source(2, 4, 6), cls_token=False, width=24)
GROUPS = [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23]]


def message(tokens: Tokens, kind: str = "merger2x2") -> str:
    with pytest.raises(WiringError) as error:
        project_merger(tiny_projector(kind), tokens)
    return str(error.value)


def test_each_group_is_one_token_row_by_row() -> None:
    """The module is given a group's patches row by row; the token stands for all of them."""
    handle = tiny_projector("merger2x2")
    out = project_merger(handle, PATCHES)
    assert isinstance(out, VisualTokens)
    groups = [[patch + first for patch in group] for first in (0, 24) for group in GROUPS]
    assert out.features.equal(handle.load()(PATCHES.features[torch.tensor(groups)]))
    assert out.member.reshape(12, 4).tolist() == groups
    assert out.share.eq(0.25).all()
    assert out.kind.tolist() == [int(Kind.PATCH)] * 12
    torch.testing.assert_close(out.side["keys"], PATCHES.side["keys"][torch.tensor(groups)].mean(1))


def test_whole_groups_may_be_left_out_and_shuffled() -> None:
    """The order of the patches does not matter, and groups may be missing."""
    chosen = torch.tensor([*reversed(GROUPS[4]), *GROUPS[1]])
    out = project_merger(tiny_projector("merger2x2"), PATCHES.select(chosen))
    assert out.member.tolist() == GROUPS[1] + GROUPS[4]


def test_other_sides() -> None:
    """3 x 3 patches make one token."""
    out = project_merger(
        tiny_projector("merger3x3"), made_patches(square_source(1, 3, 6), cls_token=False, width=24)
    )
    assert out.count.tolist() == [9, 9]


def test_groups_that_are_not_whole() -> None:
    """Selected patches, [CLS], merged tokens, grids that do not divide."""
    text = (
        "project_merger.tokens: {n} tokens of {grid} patches per tile are not whole groups of 2 x 2 patches; "
        "wire the tower's patches, and select after this node"
    )
    assert message(PATCHES.select(torch.arange(5))) == text.format(n=5, grid="4 x 6")
    with_cls = made_patches(square_source(1, 2, 2), width=24)
    assert message(with_cls) == text.format(n=5, grid="2 x 2")
    merged = PATCHES.merge(torch.arange(48) // 2)
    assert message(merged) == text.format(n=24, grid="4 x 6")
    odd = made_patches(square_source(1, 3, 4), cls_token=False, width=24)
    assert message(odd) == text.format(n=12, grid="3 x 4")


def test_projectors_that_take_tokens_one_by_one() -> None:
    """Each of the two nodes names the other, when run and when planned."""
    want = "project_merger.projector: mlp2x_gelu maps tokens one by one; use project_mlp instead"
    assert message(PATCHES, "mlp2x_gelu") == want
    assert project_merger.foresee is not None
    with pytest.raises(WiringError) as error:
        project_merger.foresee(tiny_projector(), KnownTokens())
    assert str(error.value) == want
    want = (
        "project_mlp.projector: merger2x2 makes one token of every 2 x 2 patches; use project_merger instead"
    )
    with pytest.raises(WiringError) as error:
        project_mlp(tiny_projector("merger2x2"), PATCHES)
    assert str(error.value) == want
    assert project_mlp.foresee is not None
    with pytest.raises(WiringError) as error:
        project_mlp.foresee(tiny_projector("merger2x2"), KnownTokens(), pool=None)
    assert str(error.value) == want


def test_another_width() -> None:
    """A tower of another checkpoint."""
    want = (
        "project_merger.tokens: vectors of width 6, the projector takes 24; wire the tower and the projector "
        "of the same checkpoint"
    )
    assert message(made_patches(square_source(1, 2, 2), cls_token=False)) == want


def test_a_plan_knows_the_counts() -> None:
    """A group of four makes one."""
    assert project_merger.foresee is not None
    known = project_merger.foresee(tiny_projector("merger2x2"), KnownTokens(per_tile=24, width=24))
    assert known == KnownTokens(per_tile=6, width=8, grid=False)


def test_a_plan_knows_what_is_no_grid_any_more() -> None:
    """Chosen or merged tokens, however many there are."""
    assert project_merger.foresee is not None
    with pytest.raises(WiringError) as error:
        project_merger.foresee(tiny_projector("merger2x2"), KnownTokens(width=24, grid=False))
    assert str(error.value) == (
        "project_merger.tokens: tokens that were chosen, merged or put in another order before are not whole "
        "groups of 2 x 2 patches; wire the tower's patches, and select after this node"
    )
