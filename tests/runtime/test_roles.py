"""Roles and colours of tokens, and the token that each patch went into."""

from __future__ import annotations

import torch

from tokenloom.runtime.roles import (
    OFF_PICTURE,
    SHADES,
    Role,
    anchors_of,
    name_of,
    owners_of,
    roles_of,
    token_colours,
)
from tokenloom.runtime.values import Kind, Patches, Source, Tile, Tokens


def patches(cls_token: bool = False) -> Patches:
    """One tile of 2 x 3 patches."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 6.0, 4.0)),), 2, 3, ((6, 4),), (0.0,))
    return Patches.of_patches(source, torch.zeros(6 + cls_token, 2), cls_token=cls_token)


def zipped() -> Tokens:
    """[CLS], patches 0 and 5 as they are, 1 and 2 with 3 merged into 2, 4 dropped."""
    tokens = patches(cls_token=True)
    kept = tokens.select(torch.tensor([0, 1, 6]))
    weight = torch.tensor([0.5, 1.0, 0.5])
    merged = tokens.select(torch.tensor([2, 3, 4])).merge(torch.zeros(3).long(), weight, kind=Kind.CONTEXTUAL)
    return kept.concat(merged)


def test_roles_follow_kind_and_count() -> None:
    """A patch that took others in is no longer just kept."""
    assert roles_of(zipped()).tolist() == [Role.CLS, Role.KEPT, Role.KEPT, Role.CONTEXTUAL]
    pair = patches().merge(torch.tensor([0, 0, 1, 2, 3, 4]))
    assert roles_of(pair).tolist() == [Role.MERGED, *[Role.KEPT] * 4]


def test_owners() -> None:
    """Every patch's token, -1 for the dropped one."""
    assert owners_of(zipped()).tolist() == [1, 3, 3, 3, -1, 2]


def test_a_shared_patch_goes_where_it_weighs_most() -> None:
    """Of equal shares to the first."""
    twice = patches().select(torch.tensor([0, 1, 1, 2]))
    shared = twice.merge(torch.tensor([0, 0, 1, 1]), torch.tensor([3.0, 1.0, 1.0, 1.0]))
    assert owners_of(shared).tolist() == [0, 1, 1, -1, -1, -1]
    alike = twice.merge(torch.tensor([0, 0, 1, 1]))
    assert owners_of(alike)[1] == 0


def test_anchors_weigh_more_than_the_mean() -> None:
    """A target of an add-mean merge is one; in a plain mean there is none."""
    assert anchors_of(zipped()).nonzero().tolist() == [[2]]
    plain = patches().merge(torch.tensor([0, 0, 0, 1, 1, 1]), kind=Kind.CONTEXTUAL)
    assert not anchors_of(plain).any()


def test_every_role_has_a_colour_of_its_own() -> None:
    """No two middles are alike, and tokens side by side differ in shade."""
    assert len({shades[1] for shades in SHADES.values()}) == len(Role)
    colours = token_colours(torch.full((50,), int(Role.STATIC)))
    assert float((colours[1:] - colours[:-1]).abs().sum(1).min()) > 20
    assert token_colours(torch.tensor([int(Role.KEPT)] * 3)).unique(dim=0).shape == (1, 3)


def test_names() -> None:
    """Kept tokens beside contextual ones are called dominant."""
    assert name_of(Role.KEPT) == "kept"
    assert name_of(Role.KEPT, [Role.CLS, Role.CONTEXTUAL]) == "dominant"
    assert [name_of(role) for role in OFF_PICTURE] == ["[CLS]", "newline", "separator", "text"]
