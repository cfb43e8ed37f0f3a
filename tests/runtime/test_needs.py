"""Needs: what a socket asks for, given the widget values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.needs import Need, Needs


@pytest.mark.parametrize(
    ("need", "key"),
    [
        (Need("cls_attention"), "cls_attention"),
        (Need("keys", -2), "keys@-2"),
        (Need("attention", 2, "text"), "attention@2:text"),
        (Need("attention", rows="text"), "attention:text"),
    ],
)
def test_a_need_names_its_channel(need: Need, key: str) -> None:
    """The key under which the channel lies in `side`."""
    assert need.key == key


@pytest.mark.parametrize(
    ("needs", "widgets", "want"),
    [
        (Needs("cls_attention"), {}, (Need("cls_attention"),)),
        (Needs("keys", layer=-2), {}, (Need("keys", -2),)),
        (Needs("keys", layer="at"), {"at": 5}, (Need("keys", 5),)),
        (Needs("keys", layer="at"), {"at": None}, (Need("keys"),)),
        (Needs("hidden", layers=(12, 16)), {}, (Need("hidden", 12), Need("hidden", 16))),
        (Needs("hidden", layers="levels"), {"levels": (3,)}, (Need("hidden", 3),)),
        (Needs("hidden", layers="levels"), {"levels": ()}, ()),
        (Needs("attention", rows="text"), {}, (Need("attention", rows="text"),)),
        (Needs("attention", rows="of"), {"of": "last"}, (Need("attention", rows="last"),)),
        (Needs("keys", form=("heads", "raw")), {"heads": "mean"}, (Need("keys", form="mean,raw"),)),
        (Needs("cls_attention", when={"score": "cls"}), {"score": "cls"}, (Need("cls_attention"),)),
        (Needs("cls_attention", when={"score": "cls"}), {"score": "received"}, ()),
    ],
)
def test_needs_resolve_with_widget_values(
    needs: Needs, widgets: dict[str, Any], want: tuple[Need, ...]
) -> None:
    """Layers may be named by widgets, and a wish may hold for some values only."""
    assert needs.resolve(widgets) == want


OPTIONAL_LAYER = st.none() | st.integers(-30, 30)


@given(
    st.lists(
        st.builds(Need, st.sampled_from(["keys", "hidden"]), OPTIONAL_LAYER, st.none() | st.just("text"))
    )
)
def test_different_needs_have_different_keys(needs: list[Need]) -> None:
    """Two wishes never share a place in `side`."""
    assert len({n.key for n in needs}) == len(set(needs))
