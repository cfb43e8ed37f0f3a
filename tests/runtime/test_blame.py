"""Errors while planning show the setting that they are about: file, line, column, source and parameter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenloom.runtime.errors import BudgetError, LoomError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.node import node
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Tokens
from tokenloom.runtime.yamlfile import load

from . import engine_nodes as e


def _foresee(tokens: object, *, keep: int) -> None:
    if keep > 6:
        raise BudgetError(f"blame_limit: keep {keep} of 6 tokens; set keep to 6 or less")


@node(foresee=_foresee)
def blame_limit(tokens: Tokens, *, keep: int) -> Tokens:
    """The first tokens."""
    raise AssertionError("planning must not run nodes")


BASE = """
tokenloom: 1
params: {most: {type: int, default: 3}}
nodes:
  tokens: {node: eng_encode, count: 6}
  limited: {node: blame_limit, tokens: $tokens, keep: $most}
outputs: {out: $limited}
"""


def note(graph: Graph, **params: object) -> list[str]:
    """The lines of the note under the error that a plan ends in."""
    with pytest.raises(LoomError) as error:
        plan(graph, params)
    return error.value.__notes__[0].split("\n")


def written(folder: Path, text: str = BASE) -> Graph:
    (folder / "base.yaml").write_text(text)
    return load(folder / "base.yaml")


def test_a_parameter_is_named_and_its_place_shown(tmp_path: Path) -> None:
    """The caret stands under the value of the setting."""
    assert note(written(tmp_path), most=500) == [
        f"in node limited (blame_limit), {tmp_path}/base.yaml:6:55, while planning: "
        "keep (from parameter most = 500)",
        "      limited: {node: blame_limit, tokens: $tokens, keep: $most}",
        f"{' ' * 58}^",
    ]


def test_an_inherited_node_is_shown_where_the_setting_stands(tmp_path: Path) -> None:
    """In the file that says it, be it the one that extends or the one that is extended."""
    written(tmp_path)
    (tmp_path / "top.yaml").write_text("tokenloom: 1\nextends: base.yaml\nnodes:\n  limited: {keep: 77}\n")
    assert note(load(tmp_path / "top.yaml")) == [
        f"in node limited (blame_limit), {tmp_path}/top.yaml:4:19, while planning",
        "      limited: {keep: 77}",
        "                      ^",
    ]
    (tmp_path / "top.yaml").write_text("tokenloom: 1\nextends: base.yaml\nnodes:\n  limited: {device: cpu}\n")
    assert note(load(tmp_path / "top.yaml"), most=9)[0].startswith(
        f"in node limited (blame_limit), {tmp_path}/base.yaml:6:55, "
    )


def test_a_file_that_stands_for_a_node(tmp_path: Path) -> None:
    """The inner file is shown, with what the outer one gives."""
    written(tmp_path)
    (tmp_path / "top.yaml").write_text("tokenloom: 1\nnodes: {outer: {node: ./base.yaml, most: 77}}\n")
    assert note(load(tmp_path / "top.yaml"))[0] == (
        f"in node outer/limited (blame_limit), {tmp_path}/base.yaml:6:55, while planning: keep = 77 in outer"
    )


def test_a_setting_that_was_changed_later_is_shown_at_its_node(tmp_path: Path) -> None:
    """The file says something else there."""
    graph = written(tmp_path)
    graph.set("limited", keep=77)
    assert note(graph)[::2] == [
        f"in node limited (blame_limit), {tmp_path}/base.yaml:6:3, while planning",
        "      ^",
    ]


@pytest.mark.parametrize("text", [None, "", "tokenloom: 1\nnodes: {}\n", BASE.replace("\n", "\n\n")])
def test_a_file_that_changed_since_is_not_shown(tmp_path: Path, text: str | None) -> None:
    """Gone, empty, or with other lines: the place that was read, without a source line."""
    graph = written(tmp_path)
    (tmp_path / "base.yaml").unlink() if text is None else (tmp_path / "base.yaml").write_text(text)
    assert note(graph, most=500) == [
        f"in node limited (blame_limit), {tmp_path}/base.yaml:6:3, while planning: "
        "keep (from parameter most = 500)"
    ]


def test_a_graph_from_python_shows_the_line_that_made_the_node() -> None:
    """The parameter is named all the same."""
    with Graph() as g:
        tokens = e.eng_encode(count=6)
        g.output(out=g.named("limited", blame_limit)(tokens, keep=g.param("most", int, default=3)))
    (line,) = note(g, most=500)
    assert line.startswith(f"in node limited (blame_limit), {__file__}:")
    assert line.endswith(", while planning: keep (from parameter most = 500)")
