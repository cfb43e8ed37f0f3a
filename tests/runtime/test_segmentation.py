"""Segments of frame clusters: which runs stay, who takes the others, all rows at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.runtime.segmentation import refine_clusters, run_numbers

ROWS = st.lists(st.integers(0, 3), min_size=1, max_size=14)


def runs(label: list[int]) -> list[tuple[int, int]]:
    cuts = [i for i in range(1, len(label)) if label[i] != label[i - 1]]
    return list(zip([0, *cuts], [*cuts, len(label)], strict=True))


def reference(label: list[int]) -> list[int]:
    """The released rules, run by run."""
    of = runs(label)
    longest = {x: max(e - b for b, e in of if label[b] == x) for x in label}
    new = list(label)
    for b, e in of:
        if e - b < longest[label[b]] or e - b == 1:
            new[b:e] = [-1] * (e - b)
    for b, e in [r for r in runs(new) if new[r[0]] == -1]:
        left = right = 0
        while left < b and new[b - 1 - left] == new[b - 1]:
            left += 1
        while e + right < len(new) and new[e + right] == new[e]:
            right += 1
        heir = 0 if not left and not right else new[b - 1] if left >= right else new[e]
        new[b:e] = [heir] * (e - b)
    return new


@settings(deadline=None)
@given(ROWS)
def test_against_the_released_rules(label: list[int]) -> None:
    """Any row of labels."""
    assert refine_clusters(torch.tensor([label]))[0].tolist() == reference(label)


@settings(deadline=None)
@given(ROWS)
def test_no_segment_of_one_frame(label: list[int]) -> None:
    """Unless there is but one frame."""
    numbers = run_numbers(refine_clusters(torch.tensor([label])))[0]
    assert len(label) == 1 or int(torch.bincount(numbers).min()) > 1


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4))
def test_rows_do_not_meet(rows: list[list[int]]) -> None:
    """Several clips at once are each clip alone."""
    assert refine_clusters(torch.tensor(rows)).tolist() == [reference(row) for row in rows]


@pytest.mark.parametrize(
    ("label", "want"),
    [
        ([0], [0]),
        ([2, 1], [0, 0]),
        ([0, 1, 2, 3], [0, 0, 0, 0]),
        ([1, 1, 0, 2, 2], [1, 1, 1, 2, 2]),
        ([1, 1, 0, 2, 2, 2], [1, 1, 2, 2, 2, 2]),
        ([1, 1, 0, 2, 2, 2, 1, 3, 3, 3, 3], [1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3]),
        ([0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]),
    ],
)
def test_by_hand(label: list[int], want: list[int]) -> None:
    """One frame; nothing stays; ties go left; the longer side wins, grown by what it got; equal runs stay."""
    assert refine_clusters(torch.tensor([label]))[0].tolist() == want


def test_run_numbers() -> None:
    """From 0, up by one where the label changes."""
    assert run_numbers(torch.tensor([[4, 4, 1, 4], [0, 0, 0, 0]])).tolist() == [[0, 0, 1, 2], [0, 0, 0, 0]]


def test_nothing_is_read_back() -> None:
    """It runs where tensors have no numbers: none of them decides what is done next."""
    label = torch.empty(3, 20, dtype=torch.long, device="meta")
    assert run_numbers(refine_clusters(label)).shape == (3, 20)


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    """On CUDA without one synchronisation; and as on the CPU."""
    label = torch.randint(0, 4, (3, 20), generator=torch.Generator().manual_seed(1))
    there = label.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = run_numbers(refine_clusters(there))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert got.cpu().equal(run_numbers(refine_clusters(label)))
