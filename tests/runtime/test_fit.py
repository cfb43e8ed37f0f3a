"""Which output fits which socket; nothing is converted."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Optional, TypeVar, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.fit import fits, holds
from tokenloom.runtime.values import Image, Patches, Tokens, Video, VisualTokens

T = TypeVar("T")


class Handle(Generic[T]):
    """As `Model[T]`: knows its kind at run time."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind


@pytest.mark.parametrize(
    ("sender", "receiver", "yes"),
    [
        (Patches, Tokens, True),
        (Tokens, Patches, False),
        (VisualTokens, Patches, False),
        (Patches, Patches, True),
        (int, str, False),
        (int, float, False),
        (Tokens, Any, True),
        (Any, Tokens, False),
        (Image, Image | Video, True),
        (Image | Video, Image, False),
        (Image | Video, Video | Image | None, True),
        (Image | None, Image | None, True),
        (Image, Optional[Image], True),  # noqa: UP045
        (None, Union[Image, None], True),  # noqa: UP007
        (Image | None, Image, False),
        (None, None, True),
        (Annotated[Patches, "x"], Annotated[Tokens, "y"], True),
        (Handle[Patches], Handle[Tokens], True),
        (Handle[Tokens], Handle[Patches], False),
        (Handle[Patches], Handle, True),
        (Handle, Handle[Patches], False),
        (Handle[Patches], Handle[Image | Patches], True),
        (tuple[int, ...], tuple[int, ...], True),
        (list[Patches], list[Tokens], True),
        (list[Patches], tuple[Tokens], False),
        (bool, int, True),
    ],
)
def test_fits(sender: Any, receiver: Any, yes: bool) -> None:
    """Subclass to base, union member by member, generics argument by argument."""
    assert fits(sender, receiver) is yes


TYPES = st.sampled_from([Tokens, Patches, VisualTokens, Image, Video, None, Image | Video, Patches | None])


@given(TYPES, TYPES, TYPES)
def test_fitting_is_a_preorder(a: Any, b: Any, c: Any) -> None:
    """Everything fits itself, and fitting carries on."""
    assert fits(a, a)
    if fits(a, b) and fits(b, c):
        assert fits(a, c)


@pytest.mark.parametrize(
    ("value", "receiver", "yes"),
    [
        (3, int, True),
        (3, Any, True),
        (3, int | None, True),
        (None, int | None, True),
        (None, None, True),
        (3, None, False),
        (None, int, False),
        ("x", int, False),
        (Handle(Patches), Handle[Patches], True),
        (Handle(Patches), Handle[Tokens], True),
        (Handle(Tokens), Handle[Patches], False),
        (Handle(Tokens), Handle, True),
        ([1], list[int], True),
    ],
)
def test_holds(value: Any, receiver: Any, yes: bool) -> None:
    """An eager call checks the value itself; a handle's argument by its `kind`."""
    assert holds(value, receiver) is yes
