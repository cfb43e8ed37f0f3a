"""Reading side channels, and the error when one is missing."""

from __future__ import annotations

import pytest

from tokenloom.runtime.channels import channel
from tokenloom.runtime.errors import NeedError
from tokenloom.runtime.needs import Need

from ..towers import made_patches, square_source

PATCHES = made_patches(square_source(1))


def test_a_channel_by_its_need() -> None:
    """The very tensor, by the need's key."""
    assert channel("x", PATCHES, Need("keys")) is PATCHES.side["keys"]
    deep = PATCHES.with_side(**{"hidden@12": PATCHES.features})
    assert channel("x", deep, Need("hidden", 12)) is PATCHES.features


@pytest.mark.parametrize(
    ("need", "named", "call"),
    [
        (Need("hidden", -2), "hidden@-2", 'Need("hidden", layer=-2)'),
        (Need("attention", 2, "text"), "attention@2:text", "Need(\"attention\", layer=2, rows='text')"),
    ],
)
def test_a_missing_channel_says_how_to_get_it(need: Need, named: str, call: str) -> None:
    """What is missing, what is there, and the line that asks for it."""
    with pytest.raises(NeedError) as error:
        channel("merge", PATCHES, need)
    assert str(error.value) == (
        f"merge: the tokens carry no {named} (side channels: cls_attention, keys); a graph asks for it by "
        f"itself, in an eager call encode inside `with demand({call})`"
    )


def test_tokens_without_any_channel() -> None:
    """Said as such."""
    bare = PATCHES.of_patches(PATCHES.source, PATCHES.features, cls_token=True)
    with pytest.raises(NeedError, match=r"\(side channels: none\)"):
        channel("merge", bare, Need("keys"))
