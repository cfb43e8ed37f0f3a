"""Words of the command line as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from tokenloom.runtime.commands.words import apply_settings, given_params, value_of
from tokenloom.runtime.errors import LoomError, WiringError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.values import Frames
from tokenloom.runtime.widgets import MISSING, Range, Widget
from tokenloom.runtime.yamlfile import load


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "54", 54),
        (int, "-2", -2),
        (float, "1e-3", 0.001),
        (float, "3", 3.0),
        (bool, "true", True),
        (bool, "False", False),
        (str, "54", "54"),
        (str, "true", "true"),
        (str, "", ""),
        (str, "What is it? a=b", "What is it? a=b"),
        (str | None, "null", None),
        (str, "null", "null"),
        (int | None, "~", None),
        (Path, "a b.jpg", Path("a b.jpg")),
        (Literal["cls", "received"], "cls", "cls"),
        (Literal[192, 128], "128", 128),
        (Literal["1", "2"], "1", "1"),
        (tuple[int, ...], "1,2, 3", (1, 2, 3)),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (tuple[int, ...], "[]", ()),
        (tuple[str, ...], "['a', b]", ("a", "b")),
        (tuple[Path, ...], "a.png,b.png", (Path("a.png"), Path("b.png"))),
        (Path | tuple[Path, ...], "a,b.png", Path("a,b.png")),
        (Path | tuple[Path, ...], "[a.png, b.png]", (Path("a.png"), Path("b.png"))),
        (int | str, "3", 3),
        (int | str, "x", "x"),
        (Annotated[int | None, Range(1)], "4", 4),
    ],
)
def test_a_word_is_read_as_the_widget_wants(annotation: Any, text: str, value: Any) -> None:
    """Text and paths as typed, the rest as YAML scalars."""
    got = value_of("params", Widget.of("w", annotation, MISSING), text)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (int, "abc", "params.w: 'abc' is a str, wanted int"),
        (int, "1.5", "params.w: 1.5 is a float, wanted int"),
        (bool, "yes", "params.w: 'yes' is a str, wanted true or false"),
        (Annotated[int, Range(1, 9)], "12", "params.w: 12 is outside 1..9"),
        (
            Literal["cls", "received"],
            "clss",
            "params.w: 'clss' is not one of 'cls', 'received'; did you mean 'cls'?",
        ),
        (tuple[int, ...], "1,b", "params.w: [1, 'b'] is a list, wanted list of int"),
    ],
)
def test_a_bad_word_is_named(annotation: Any, text: str, message: str) -> None:
    """With the widget's own words."""
    with pytest.raises(WiringError) as caught:
        value_of("params", Widget.of("w", annotation, MISSING), text)
    assert str(caught.value) == message


@pytest.fixture
def graph() -> Graph:
    return load("visionzip")


def test_params_are_checked_by_their_widgets(graph: Graph) -> None:
    """Values keep the types of the parameters."""
    words = ["image=a.jpg", "keep=7", "question=42"]
    assert given_params(graph, words) == {"image": Path("a.jpg"), "keep": 7, "question": "42"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.jpg"], "'a.jpg': a parameter is given as name=value, such as image=a.jpg"),
        (["imge=a.jpg"], "params: no parameter is called 'imge'; did you mean 'image'?"),
        (["keep=1", "keep=2"], "params.keep is given twice"),
        (["keep=0"], "params.keep: 0 is below 1"),
    ],
)
def test_bad_params_are_refused(graph: Graph, words: list[str], message: str) -> None:
    """Before anything is planned."""
    with pytest.raises(LoomError) as caught:
        given_params(graph, words)
    assert str(caught.value) == message


def test_a_value_parameter_cannot_be_typed() -> None:
    """Frames come from Python."""
    graph = Graph()
    graph.param("clip", Frames)
    with pytest.raises(LoomError) as caught:
        given_params(graph, ["clip=x"])
    assert str(caught.value) == "params.clip wants Frames, which only Python can give: tokenloom.run(...)"


def test_settings_change_nodes(graph: Graph) -> None:
    """A parameter that was wired to the setting gives way."""
    apply_settings(graph, ["dominant.keep=9", "dominant.score=received"])
    assert dict(graph.steps["dominant"].widgets) == {"keep": 9, "score": "received"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("keep=3", "--set keep=3: wants node.setting=value, such as dominant.keep=54"),
        ("dominant.keep", "--set dominant.keep: wants node.setting=value, such as dominant.keep=54"),
        (
            "dominnt.keep=3",
            "--set dominnt.keep=3: no node is called 'dominnt'; did you mean 'dominant'?",
        ),
        (
            "dominant.kep=3",
            "--set dominant.kep=3: dominant has no setting 'kep'; did you mean 'keep'?",
        ),
        ("dominant.keep=x", "dominant.keep: 'x' is a str, wanted int 0.. or null"),
    ],
)
def test_bad_settings_are_refused(graph: Graph, word: str, message: str) -> None:
    """Form, node, setting and value, each by name."""
    with pytest.raises(LoomError) as caught:
        apply_settings(graph, [word])
    assert str(caught.value) == message
