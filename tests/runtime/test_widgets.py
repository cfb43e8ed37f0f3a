"""Widgets: what each type takes, what it becomes, and what it says to the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.values import Tokens
from tokenloom.runtime.widgets import MISSING, Range, Widget, type_text


def widget(annotation: Any, default: Any = MISSING) -> Widget:
    return Widget.of("w", annotation, default)


@pytest.mark.parametrize(
    ("annotation", "value", "became"),
    [
        (int, 3, 3),
        (int, True, WiringError),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (float, float("inf"), float("inf")),
        (str, "x", "x"),
        (bool, False, False),
        (Path, "a/b", Path("a/b")),
        (Path, Path("a"), Path("a")),
        (int | None, None, None),
        (Annotated[int | None, Range(1)], 2, 2),
        (Union[Annotated[int, Range(1)], None], None, None),  # noqa: UP007
        (Literal["cls", "received"], "cls", "cls"),
        (Literal[1, 2], 2, 2),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, ...], (), ()),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[Path, ...], ["a"], (Path("a"),)),
        (int | float, 1, 1),
        (int | float, 1.5, 1.5),
        (str | int, 1, 1),
        (int | Literal["all"], "all", "all"),
        (int | Literal["all"], 4, 4),
        (int | tuple[int, ...], [1], (1,)),
        (Annotated[tuple[int, ...], Range(0, 3)], [0, 3], (0, 3)),
        (Annotated[int | Literal["all"], Range(1)], "all", "all"),
    ],
)
def test_a_value_becomes_the_widgets_own_type(annotation: Any, value: Any, became: Any) -> None:
    """int to float, str to Path and list to tuple are the only conversions."""
    if became is WiringError:
        with pytest.raises(WiringError):
            widget(annotation).check("n", value)
        return
    got = widget(annotation).check("n", value)
    assert (got, type(got)) == (became, type(became))


MESSAGES: list[tuple[Any, Any, str]] = [
    (int, "3", "n.w: '3' is a str, wanted int"),
    (int, 3.0, "n.w: 3.0 is a float, wanted int"),
    (int, True, "n.w: True is a bool, wanted int"),
    (int, None, "n.w: None is null, wanted int"),
    (int | None, "x", "n.w: 'x' is a str, wanted int or null"),
    (float, "1", "n.w: '1' is a str, wanted float"),
    (float, True, "n.w: True is a bool, wanted float"),
    (float, float("nan"), "n.w: nan is not a number, wanted float"),
    (float, 10**400, f"n.w: 1{'0' * 59}...{'0' * 17} is an int, wanted float"),
    (int, "x" * 200, f"n.w: '{'x' * 59}...{'x' * 16}' is a str, wanted int"),
    (Path, "", "n.w: '' is empty, wanted path"),
    (str, 3, "n.w: 3 is an int, wanted str"),
    (bool, 1, "n.w: 1 is an int, wanted true or false"),
    (bool | None, "yes", "n.w: 'yes' is a str, wanted true or false or null"),
    (Path, 3, "n.w: 3 is an int, wanted path"),
    (Annotated[int, Range(1, 576)], 9999, "n.w: 9999 is outside 1..576"),
    (Annotated[int, Range(1)], 0, "n.w: 0 is below 1"),
    (Annotated[float, Range(None, 1)], 1.5, "n.w: 1.5 is above 1"),
    (Annotated[int, Range(1, 9)], "a", "n.w: 'a' is a str, wanted int 1..9"),
    (Annotated[tuple[int, ...], Range(0, 3)], [1, 4], "n.w: 4 is outside 0..3"),
    (Literal["cls", "received"], "clss", "n.w: 'clss' is not one of 'cls', 'received'; did you mean 'cls'?"),
    (Literal["cls", "received"], "zzz", "n.w: 'zzz' is not one of 'cls', 'received'"),
    (Literal[1, 2], True, "n.w: True is not one of 1, 2"),
    (Literal[192, 128], "128", "n.w: '128' is not one of 192, 128"),
    (Literal["all", 128], "al", "n.w: 'al' is not one of 'all', 128; did you mean 'all'?"),
    (tuple[int, ...], 3, "n.w: 3 is an int, wanted list of int"),
    (tuple[int, ...], "12", "n.w: '12' is a str, wanted list of int"),
    (tuple[int, ...], [1, "a"], "n.w: [1, 'a'] is a list, wanted list of int"),
    (tuple[int, str], [1], "n.w: [1] is a list, wanted list of int or str, 2 of them"),
    (tuple[int, int], [1, 2, 3], "n.w: [1, 2, 3] is a list, wanted list of int, 2 of them"),
    (int | Literal["all"], "some", "n.w: 'some' is a str, wanted int or 'all'"),
]


@pytest.mark.parametrize(("annotation", "value", "message"), MESSAGES)
def test_a_bad_value_says_where_what_and_what_was_wanted(annotation: Any, value: Any, message: str) -> None:
    """`node.widget: what came, what was wanted`."""
    with pytest.raises(WiringError) as caught:
        widget(annotation).check("n", value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (Annotated[int, Range(1, 576)], "int 1..576"),
        (Annotated[float | None, Range(0)], "float 0.. or null"),
        (Literal["cls", "received"], "'cls' or 'received'"),
        (Path | None, "path or null"),
        (tuple[Path, ...], "list of path"),
        (tuple[int, str, int], "list of int or str"),
        (int | str, "int or str"),
    ],
)
def test_a_widget_describes_itself(annotation: Any, text: str) -> None:
    """The words that errors, tooltips and `tokenloom nodes` use."""
    assert widget(annotation).describe() == text


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (None, "null"),
        (type(None), "null"),
        (Tokens, "Tokens"),
        (Tokens | None, "Tokens or null"),
        (Annotated[Tokens, "x"], "Tokens"),
        (list[int], "list of int"),
        (type(Path("x")), "path"),
        (dict[str, int], "dict[str, int]"),
        (Any, "Any"),
    ],
)
def test_types_are_written_as_a_user_would(t: Any, text: str) -> None:
    """No `typing.Optional`, no module names."""
    assert type_text(t) == text


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Tokens, "w: Tokens is no widget type (int, float, str, bool, Path, Literal, tuple)"),
        (dict[str, int], "w: dict[str, int] is no widget type (int, float, str, bool, Path, Literal, tuple)"),
        (list[int], "w: list of int is no widget type (int, float, str, bool, Path, Literal, tuple)"),
    ],
)
def test_a_type_that_yaml_cannot_hold_is_no_widget(annotation: Any, message: str) -> None:
    """Found when the node is defined, not when it runs."""
    with pytest.raises(TypeError) as caught:
        widget(annotation)
    assert str(caught.value) == message


def test_missing_is_falsy_and_reads_well() -> None:
    """MISSING marks a widget without default."""
    assert widget(int).required
    assert not widget(int, None).required
    assert (bool(MISSING), repr(MISSING)) == (False, "MISSING")


@given(st.integers() | st.floats(allow_nan=False), st.integers(-5, 5), st.integers(-5, 5))
def test_a_range_holds_its_ends(value: float, low: int, high: int) -> None:
    """Bounds are inclusive; None is open."""
    assert (value in Range(low, high)) == (low <= value <= high)
    assert value in Range()


@given(st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.floats(), st.lists(st.integers())))
def test_checking_twice_changes_nothing(value: object) -> None:
    """What a widget gave, it takes."""
    for t in (int | None, float, str, Path, tuple[int, ...], int | Literal["all"]):
        one = widget(t)
        try:
            got = one.check("n", value)
        except WiringError:
            continue
        assert one.check("n", got) == got
