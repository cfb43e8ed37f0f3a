"""What sets two graphs apart: found, told, and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from tokenloom import Graph
from tokenloom.runtime.diff import GraphDiff, diff, given_values
from tokenloom.runtime.diff_draw import diff_svg
from tokenloom.runtime.diff_text import as_json, diff_page, lines, summary
from tokenloom.runtime.renames import pairs
from tokenloom.runtime.yamlfile import load

BASE = """
tokenloom: 1
title: A
params:
  image: {type: path}
  keep: {type: int, default: 6, min: 1, help: how many}
nodes:
  model: {node: load_model, checkpoint: tiny-random}
  frames: {node: load_image, path: $image}
  tiles: {node: preprocess, frames: $frames, chat: $model.chat}
  patches: {node: encode_vision, vision: $model.vision, tiles: $tiles}
  picked: {node: select_dominant, tokens: $patches, keep: $keep}
outputs: {tokens: $picked.kept}
"""


def graph(*changes: tuple[str, str], text: str = BASE) -> Graph:
    """The base with texts replaced."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return load("g.yaml", text)


def told(*changes: tuple[str, str]) -> list[str]:
    """Lines of the difference from the base to the base with texts replaced."""
    return [text for _, text in lines(diff(graph(), graph(*changes)))]


def test_a_graph_is_the_same_as_itself() -> None:
    """Nothing is told, and both texts say so."""
    found = diff(graph(), graph())
    assert found.same
    assert list(lines(found)) == []
    assert summary(found) == "the same graph"


def test_how_a_file_is_written_makes_no_difference() -> None:
    """Order, defaults that are written out, help texts and titles do not count."""
    node = "  frames: {node: load_image, path: $image}\n"
    other = graph(
        (node, ""),
        ("keep: $keep}", "keep: $keep, score: cls}\n" + node.rstrip("\n")),
        (", help: how many", ""),
        ("title: A", "title: B"),
    )
    assert summary(diff(graph(), other)) == "the same graph, under another title"


def test_what_is_extended_is_part_of_the_graph() -> None:
    """A built-in graph differs from its base by what its file says."""
    found = diff(load("llava15"), load("visionzip"))
    assert set(found.nodes.added) == {"dominant", "merged"}
    assert {one.new for one in found.nodes.changed} == {"patches", "visual"}


def test_a_setting_is_told_with_both_values() -> None:
    """A default counts as the value that it is."""
    assert told(("keep: $keep", "keep: $keep, score: received")) == [
        "nodes",
        "picked: score cls -> received",
    ]


def test_a_wire_is_told_with_both_ends() -> None:
    """Socket, from where, from where now."""
    node = "  other: {node: select_dominant, tokens: $patches}\n"
    lines = told(("tokens: $patches", "tokens: $other.rest"), ("  picked:", f"{node}  picked:"))
    assert lines[2] == "picked: tokens $patches -> $other.rest"


def test_parameters_are_told_with_type_bounds_and_default() -> None:
    """Added, removed and changed ones, each once."""
    assert told(
        ("keep: {type: int, default: 6, min: 1", "keep: {type: int, default: 7, min: 2"),
        ("params:\n", "params:\n  more: {type: float or null, default: null, max: 1}\n"),
    ) == ["params", "more: float ..1 or null = null", "keep: type int 1.. -> int 2.., default 6 -> 7"]


def test_outputs_are_told() -> None:
    """One that comes from elsewhere, and one more."""
    assert told(("{tokens: $picked.kept}", "{tokens: $picked.rest, all: $patches}")) == [
        "outputs",
        "all: $patches",
        "tokens $picked.kept -> $picked.rest",
    ]


def test_a_renamed_node_is_recognised() -> None:
    """When node type, settings and wires are the same, it is one node, and its takers are unchanged."""
    found = diff(graph(), graph(("patches", "encoded")))
    assert [text for _, text in lines(found)] == ["nodes", "patches -> encoded, renamed"]
    assert found.only_names
    assert summary(found) == "1 node differs; only names of nodes: both compute the same"


def test_renames_follow_one_another() -> None:
    """A renamed node behind a renamed node is recognised, too."""
    names = pairs(graph(), graph(("patches", "encoded"), ("  tiles: {", "  cut: {"), ("$tiles", "$cut")))
    assert (names["patches"], names["tiles"]) == ("encoded", "cut")


def test_a_renamed_node_of_other_settings_is_another() -> None:
    """It is told as one that went and one that came."""
    found = diff(graph(), graph(("picked", "chosen"), ("keep: $keep", "keep: 3")))
    assert (list(found.nodes.removed), list(found.nodes.added)) == (["picked"], ["chosen"])


def test_a_name_for_another_node_is_a_change_of_type() -> None:
    """The node type is told; defaults of the other type are not."""
    new = (
        "picked: {node: select_dominant, tokens: $patches, keep: $keep}",
        "picked: {node: select_random, tokens: $patches, keep: 3}",
    )
    found = diff(graph(), graph(new, ("$picked.kept", "$picked.kept")))
    assert [(c.kind, c.name, c.old, c.new) for c in found.nodes.changed[0].changes] == [
        ("node", "node", "select_dominant", "select_random"),
        ("setting", "keep", "$keep", "3"),
    ]


def test_a_name_for_something_else_altogether_is_no_change() -> None:
    """A node of another type that takes other things is another node, whatever it is called."""
    found = diff(load("visionzip"), load("prunevid"))
    assert "merged" in found.nodes.removed
    assert "merged" in found.nodes.added


def test_two_swapped_names_are_two_renames() -> None:
    """Nodes of different types that exchanged their names are recognised."""
    swapped = graph(
        ("  frames: {", "  x: {"),
        ("$frames", "$x"),
        ("  tiles: {", "  frames: {"),
        ("$tiles", "$frames"),
        ("  x: {", "  tiles: {"),
        ("$x", "$tiles"),
    )
    found = diff(graph(), swapped)
    assert {(one.old, one.new) for one in found.nodes.changed} == {("frames", "tiles"), ("tiles", "frames")}
    assert found.only_names


def test_a_number_is_no_switch() -> None:
    """1 and true are equal in Python, and not here."""
    with Graph() as a:
        a.param("x", int, default=1)
    with Graph() as b:
        b.param("x", bool, default=True)
    assert len(diff(a, b).params) == 1


def test_values_of_runs_are_compared_with_defaults() -> None:
    """What a run was given counts where the other has another value; without a default nothing is said."""
    values = {"keep": 3, "image": Path("a.png")}
    found = list(given_values(graph(), None, graph(), values))
    assert [(one.name, one.old, one.new) for one in found] == [("keep", "6", "3")]
    found = list(given_values(graph(), values, graph(), {**values, "image": Path("b.png")}))
    assert [one.name for one in found] == ["image"]


def both() -> GraphDiff:
    """A difference with something of every kind."""
    return diff(load("visionzip"), load("prumerge"))


def test_the_drawing_holds_what_both_have() -> None:
    """Well-formed; added, removed and unchanged nodes, both values of a setting, in the four colours."""
    drawing = diff_svg(both(), "a → b")
    seen = [e.text for e in ElementTree.fromstring(drawing).iter() if e.tag.endswith("}text")]
    for text in ("a → b", "dominant", "merged", "pruned", "answer", "cls_patch → patch", "removed"):
        assert text in seen
    for colour in ("#2e8b3d", "#c0392b", "#c98a00", "#b4bcc5"):
        assert colour in drawing


def test_a_name_that_both_use_for_different_nodes_is_drawn_twice() -> None:
    """`tiles` was renamed, and another node is called so now."""
    new = graph(("patches", "encoded"), ("picked", "patches"), ("keep: $keep", "keep: 3"))
    drawing = diff_svg(diff(graph(), new), "")
    seen = [e.text for e in ElementTree.fromstring(drawing).iter() if e.tag.endswith("}text")]
    assert "patches → encoded" in seen
    assert {"patches", "picked"} <= set(seen)


def test_removed_wires_are_dashed() -> None:
    """Also in print without colours it can be seen."""
    assert 'stroke-dasharray="6 4"' in diff_svg(both(), "")


def test_the_page_is_whole_and_escapes_names() -> None:
    """The list and the drawing are in it; what is in names is no markup."""
    page = diff_page(both(), "<b>a", "b")
    assert "<svg" in page
    assert "<b>a" not in page
    assert "select_dominant" in page


def test_json_holds_every_difference() -> None:
    """It survives being written and has the three parts and values."""
    facts = json.loads(json.dumps(as_json(both())))
    assert facts["same"] is False
    assert "dominant" in facts["nodes"]["removed"]
    assert facts["params"]["added"]["neighbours"] == "int 0.. = 32"
    assert facts["given"] == []
