"""Groups of visual rows: who belongs together, and who of each stays."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.groups import Groups, visual_groups
from tokenloom.runtime.values import Kind

from ..states import Run, made_state, placed, visual_tokens


def groups_of(*of: int) -> Groups:
    groups = torch.tensor(of, dtype=torch.long)
    return Groups(torch.arange(len(of)), groups, torch.bincount(groups, minlength=4))


def test_static_tokens_are_a_group_apart_from_their_first_frame() -> None:
    """Two segments of two frames: a static group at the head of each, and every frame's own tokens."""
    still, moving = Kind.STATIC, Kind.DYNAMIC
    runs = (Run(2, 0, still), Run(3, 0, moving), Run(1, 1, moving), Run(4, 2, still), Run(2, 3, moving))
    groups = visual_groups(made_state(placed(visual_tokens(*runs))), "local")
    assert groups.row.tolist() == list(range(2, 14))
    assert groups.of.tolist() == [1, 1, 0, 0, 0, 2, 5, 5, 5, 5, 6, 6]
    assert groups.size.tolist() == [3, 2, 1, 0, 0, 4, 2, 0]


def test_every_wire_has_groups_of_its_own() -> None:
    """Frame 0 of one wire is not frame 0 of the next."""
    state = made_state(placed(visual_tokens(Run(2, 0), Run(1, 1)), visual_tokens(Run(2, 0))))
    groups = visual_groups(state, "local")
    assert groups.row.tolist() == [2, 3, 4, 6, 7]
    assert groups.of.tolist() == [0, 0, 2, 4, 4]


def test_all_together() -> None:
    """`global` has one group, whatever the wires."""
    state = made_state(placed(visual_tokens(Run(2)), visual_tokens(Run(2))))
    assert visual_groups(state, "global").size.tolist() == [4]


def test_newlines_are_in_no_group_or_count() -> None:
    """Special tokens stay out when they are to stay."""
    state = made_state(
        placed(visual_tokens(Run(2), Run(1, 0, Kind.NEWLINE), Run(1), Run(1, 0, Kind.SEPARATOR)))
    )
    assert visual_groups(state, "global", "stay").row.tolist() == [2, 3, 5]
    assert visual_groups(state, "local", "count").row.tolist() == [2, 3, 4, 5, 6]


def test_rows_that_are_gone_are_in_no_group() -> None:
    """Groups are those of the rows that a state still has."""
    state = made_state(placed(visual_tokens(Run(3, 0), Run(2, 1)))).keep(torch.tensor([0, 3, 4, 6, 7]))
    groups = visual_groups(state, "local")
    assert groups.row.tolist() == [1, 2, 3]
    assert groups.size.tolist() == [2, 0, 1, 0]


def test_the_best_of_every_group() -> None:
    """Ties go to the lower position."""
    groups, score = groups_of(0, 2, 0, 2, 2, 0), torch.tensor([0.5, 1, 0.5, 3, 1, 0.7])
    assert groups.best(score, torch.tensor([2, 9, 2, 0])).tolist() == [True, True, False, True, False, True]


@given(
    st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.data()
)
def test_as_many_stay_as_are_asked(of: list[int], keep: list[int], data: st.DataObject) -> None:
    """Of every group min(keep, size), by rank as by spacing, and a Python loop picks the same."""
    groups, wanted = groups_of(*of), torch.tensor(keep)
    numbers = st.integers(-2, 2)
    score = torch.tensor(data.draw(st.lists(numbers, min_size=len(of), max_size=len(of))))
    best = groups.best(score, wanted)
    for group in range(4):
        mine = [i for i, g in enumerate(of) if g == group]
        slow = sorted(mine, key=lambda i: (-int(score[i]), i))[: keep[group]]
        assert sorted(slow) == [i for i in mine if best[i]]


@given(st.integers(1, 60), st.data())
def test_evenly_spaced(size: int, data: st.DataObject) -> None:
    """The middles of equal stretches, exactly as many as asked, the same read from either end."""
    keep = data.draw(st.integers(0, size))
    kept = groups_of(*[1] * size).spaced(torch.tensor([0, keep, 0, 0]))
    assert kept.nonzero()[:, 0].tolist() == [(2 * i + 1) * size // (2 * keep) for i in range(keep)]
