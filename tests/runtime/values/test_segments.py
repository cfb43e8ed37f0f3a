"""Segments: runs of frames, none of them empty."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.values import Segments


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_lengths(lengths: list[int]) -> None:
    """Frames of each segment, their number, and the text that shows them."""
    made = Segments(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)))
    assert made.lengths.tolist() == lengths
    assert (len(made), made.frames) == (len(lengths), sum(lengths))
    assert repr(made) == f"Segments[{' + '.join(map(str, lengths))} frames]"


@pytest.mark.parametrize("of_frame", [[], [1, 1], [0, 2], [0, 1, 0], [0, -1]])
def test_no_segment_is_empty(of_frame: list[int]) -> None:
    """Numbers start at 0 and skip none."""
    with pytest.raises(ValueError) as caught:
        Segments(torch.tensor(of_frame, dtype=torch.long))
    assert str(caught.value) == (
        f"Segments: of_frame is {of_frame}, wanted segment numbers that start at 0 and stay or rise by 1 "
        "from frame to frame"
    )


def test_numbers_are_whole() -> None:
    """A long tensor."""
    with pytest.raises(ValueError, match="wanted segment numbers"):
        Segments(torch.zeros(3))
