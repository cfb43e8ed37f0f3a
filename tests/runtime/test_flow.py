"""Tokens from stage to stage: who goes where, who is dropped, what the drawing says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.nodes.pool import pool_tokens
from tokenloom.runtime.flow import Stage, flows, heirs_of, stages_of
from tokenloom.runtime.flow_picture import flow_picture, percent
from tokenloom.runtime.roles import Role
from tokenloom.runtime.values import Kind, LLMInput, Patches, Source, Tile, Tokens, VisualTokens

from .test_roles import patches, zipped


def stage(tokens: Tokens, name: str = "") -> Stage:
    return stages_of(tokens, name)[0]


def test_kept_merged_and_dropped() -> None:
    """From [CLS] and six patches to VisionZip's tokens."""
    before, after = stage(patches(cls_token=True)), stage(zipped())
    assert before.counts == {Role.KEPT: 6, Role.CLS: 1}
    assert heirs_of(before.parts[0], after.parts[0]).tolist() == [0, 1, 3, 3, 3, -1, 2]
    assert flows(before, after) == {
        (Role.CLS, Role.CLS): 1,
        (Role.KEPT, Role.KEPT): 2,
        (Role.KEPT, Role.CONTEXTUAL): 3,
        (Role.KEPT, None): 1,
    }


def test_tokens_of_no_patch_go_to_their_kind_and_tile() -> None:
    """Of two newlines of a tile that lost one, one is dropped."""
    source = Source(tuple(Tile(frame=i, box=(0.0, 0.0, 1.0, 1.0)) for i in range(2)), 1, 1)
    lines = Tokens.special(source, torch.zeros(4, 2), Kind.NEWLINE, torch.tensor([0, 0, 1, 1]))
    left = lines.select(torch.tensor([0, 2, 3]))
    assert heirs_of(lines, left).tolist() == [0, -1, 1, 2]


def test_a_dropped_token_does_not_live_on_in_a_neighbour() -> None:
    """Bilinear pooling gives a patch to several tokens; an heir has all patches of a token."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 5, 5)
    grid = pool_tokens(Patches.of_patches(source, torch.randn(25, 2)), grid=(3, 3), method="bilinear")
    left = grid.select(torch.tensor([0, 2, 4]))
    assert heirs_of(grid, left).tolist() == [0, -1, 1, -1, 2, -1, -1, -1, -1]


def test_of_many_patches_only_those_that_stay_have_an_heir() -> None:
    """A clip's 9216 patches are told apart, all of them."""
    source = Source(tuple(Tile(frame=i, box=(0.0, 0.0, 1.0, 1.0)) for i in range(16)), 24, 24)
    before = Patches.of_patches(source, torch.zeros(len(source), 1))
    kept = torch.arange(0, len(source), 4)
    heir_N = heirs_of(before, before.select(kept))
    assert (heir_N >= 0).nonzero()[:, 0].equal(kept)
    assert heir_N[kept].equal(torch.arange(len(kept)))


@settings(max_examples=30, deadline=None)
@given(
    kept=st.lists(st.booleans(), min_size=12, max_size=12),
    groups=st.lists(st.integers(0, 4), min_size=12, max_size=12),
)
def test_no_token_is_lost_from_the_books(kept: list[bool], groups: list[int]) -> None:
    """Whatever is selected and merged, each earlier token has its true heir or none."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 3, 4)
    before = Patches.of_patches(source, torch.zeros(12, 1))
    chosen = torch.tensor(kept)
    number = torch.tensor(groups)[chosen]
    names, assign = number.unique(return_inverse=True)
    after = before.select(chosen).merge(assign, groups=len(names))
    want = torch.full((12,), -1)
    want[chosen] = assign
    assert heirs_of(before, after).equal(want)
    assert sum(flows(stage(before), stage(after)).values()) == 12


def test_other_pictures_have_no_flows() -> None:
    """A stage of which the next one knows nothing."""
    other = Source((Tile(frame=0, box=(0.0, 0.0, 9.0, 9.0)),), 2, 3)
    assert flows(stage(patches()), stage(Patches.of_patches(other, torch.zeros(6, 2)))) == {}


def placed() -> LLMInput:
    """Two rows of text, six visual ones, one of text."""
    visual = patches().with_features(torch.zeros(6, 4), into=VisualTokens)
    wire = torch.tensor([-1, -1, 0, 0, 0, 0, 0, 0, -1])
    return LLMInput(
        torch.zeros(9, 4),
        torch.arange(9),
        torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 3], dtype=torch.uint8),
        wire,
        torch.tensor([-1, -1, 0, 1, 2, 3, 4, 5, -1]),
        torch.where(wire < 0, 1, -1),
        (visual,),
    )


def test_stages_by_their_values() -> None:
    """Names by type; text counts where asked for."""
    assert [s.name for s in stages_of(patches())] == ["patches"]
    assert [s.name for s in stages_of(patches().select(torch.tensor([0])))] == ["tokens"]
    [without] = stages_of(placed())
    [with_text] = stages_of(placed(), "prompt", text=True)
    assert (without.name, without.total, without.counts) == ("placed", 6, {Role.KEPT: 6})
    assert (with_text.name, with_text.total, with_text.visual) == ("prompt", 9, 6)
    assert with_text.counts[Role.TEXT] == 3


def test_the_drawing() -> None:
    """Its caption says from how many to how many; colours of the roles are in it."""
    picture = flow_picture([stage(patches(cls_token=True)), stage(zipped())])
    assert picture.caption == "From 7 tokens to 4, 57 %"
    colours = {tuple(c) for c in picture.pixels.reshape(-1, 3).unique(dim=0).tolist()}
    assert {(240, 140, 0), (0, 114, 198)} <= colours
    assert flow_picture([stage(patches())], "mine").caption == "mine"


def test_small_stages_beside_large_ones_can_be_seen() -> None:
    """By themselves heights become roots, which the picture says below."""
    source = Source((Tile(frame=0, box=(0.0, 0.0, 1.0, 1.0)),), 30, 30)
    many = Patches.of_patches(source, torch.zeros(900, 1))
    stages = [stage(many), stage(many.select(torch.arange(9)))]
    assert flow_picture(stages).pixels.equal(flow_picture(stages, heights="root").pixels)
    assert not flow_picture(stages).pixels.equal(flow_picture(stages, heights="tokens").pixels)


def test_a_stage_without_tokens() -> None:
    """Everything dropped is a column of nothing."""
    empty = patches().select(torch.zeros(0, dtype=torch.long))
    assert flow_picture([stage(patches()), stage(empty)]).caption == "From 6 tokens to 0, 0 %"
    assert flow_picture([stage(empty)]).caption == "From 0 tokens to 0"


@pytest.mark.parametrize(("part", "text"), [(54, "9.4 %"), (576, "100 %"), (57, "9.9 %"), (3, "0.52 %")])
def test_percentages(part: int, text: str) -> None:
    """Two digits, or whole numbers from 10 on."""
    assert percent(part, 576) == text
