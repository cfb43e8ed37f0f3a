"""Prompts: ids with -200 sentinels and back; previews and tables."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.values import Picture, Prompt, Slot, Table


@given(st.lists(st.one_of(st.just(-200), st.integers(0, 9))))
def test_ids_survive_the_round_trip(ids: list[int]) -> None:
    """of_ids(...).ids is the list again, with one slot per -200."""
    prompt = Prompt.of_ids(ids)
    assert list(prompt.ids) == ids
    assert len(prompt.slots) == ids.count(-200)


def test_a_video_slot_is_one_slot() -> None:
    """The medium travels with the slot."""
    assert Prompt.of_ids([1, -200, 2], "video").pieces == ((1,), Slot("video"), (2,))


def test_a_picture_is_uint8() -> None:
    """A preview in floats would be shown black."""
    with pytest.raises(ValueError) as caught:
        Picture(torch.zeros(2, 2, 3))
    assert str(caught.value) == "Picture: (2, 2, 3) torch.float32, wanted [H, W, 3] uint8"


def test_a_table_has_a_cell_for_every_column() -> None:
    """Rows of another length are refused with their number."""
    with pytest.raises(ValueError) as caught:
        Table(("a", "b"), ((1, 2), (3,)))
    assert str(caught.value) == "Table: row 1 has 1 cells for 2 columns"


def test_a_table_prints_aligned() -> None:
    """Title, columns and rows; floats with four digits, nothing for what is not there."""
    table = Table(("stage", "FLOPs"), (("layers 0..3", 696_234_000.0), ("head", None)), title="full: 8")
    assert str(table) == "full: 8\nstage        FLOPs\nlayers 0..3  6.962e+08\nhead"
