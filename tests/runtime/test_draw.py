"""Drawings: well-formed, complete, without overlaps; and mermaid text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tokenloom import Graph
from tokenloom.runtime.draw import MARKS, Marks, Row, cut, family, svg, without_models
from tokenloom.runtime.graph import Wire
from tokenloom.runtime.layout import Box, Link, place
from tokenloom.runtime.mermaid import mermaid
from tokenloom.runtime.values import Frames, Patches, VisualTokens
from tokenloom.runtime.yamlfile import load

from .loom_nodes import Beads, loom_chain, loom_clip, loom_encode, loom_join, loom_polish, loom_say, loom_sort

ROOT = Path(__file__).parents[2]


def example() -> Graph:
    """Parameters of both kinds, named outputs, a variadic socket and a bypassed step."""
    with Graph('Beads & "gems" <b>') as g:
        beads = loom_encode(loom_clip(path=g.param("clip", Path)))
        kept, rest = g.named("dominant", loom_sort)(beads, keep=g.param("keep", int, default=54), note="a<b")
        off = g.named("off", loom_join, when=False)(kept, g.param("more", Beads))
        chain = loom_chain(kept, rest, off)
        g.output(answer=loom_say(loom_polish(chain), question="Why?"), chain=chain)
    return g


def texts(drawing: str) -> list[str]:
    """All that can be read in an SVG."""
    return [e.text or "" for e in ElementTree.fromstring(drawing).iter() if e.tag.endswith("}text")]


def test_an_svg_says_what_is_in_the_graph() -> None:
    """Title, parameters, ids, types, changed settings, sockets and outputs are there, defaults are not."""
    seen = texts(svg(example()))
    for text in (
        'Beads & "gems" <b>',
        "clip: path",
        "keep = 54",
        "more: Beads",
        "dominant",
        "loom_sort",
        "$keep",
        "a<b",
        "kept",
        "rest",
        "answer",
        "chain",
    ):
        assert text in seen
    assert "score" not in seen


def test_every_wire_is_drawn() -> None:
    """One arrow head per wire into a step or an output."""
    graph = example()
    wires = sum(len(ends) for step in graph.steps.values() for ends in step.wires.values())
    assert svg(graph).count("h8l-4 6z") == wires + len(graph.outputs)


def test_an_empty_graph_is_a_picture() -> None:
    """Nothing to draw is no error."""
    assert ElementTree.fromstring(svg(Graph())).tag.endswith("svg")
    assert mermaid(Graph()).startswith("flowchart TD\n")


def test_a_wrong_graph_is_drawn_as_far_as_it_goes() -> None:
    """Cycles and wires to nowhere do not stop a drawing: it may help to find them."""
    graph = example()
    graph.steps["off"] = replace(graph.steps["off"], wires={"kept": (Wire("loom_chain"), Wire("nobody"))})
    graph.outputs["x"] = Wire("nobody")
    assert "dominant" in texts(svg(graph))
    assert "dominant" in mermaid(graph)


def test_control_characters_do_not_break_the_picture() -> None:
    """What XML cannot hold becomes a space."""
    assert texts(svg(Graph("a\x00b\x1bc"))) == ["a b c"]


def test_a_long_chain_is_drawn() -> None:
    """Hundreds of layers need no recursion."""
    with Graph() as g:
        beads = loom_encode(loom_clip())
        for _ in range(600):
            beads = loom_join(beads)
    assert svg(g).count("<g><title>") == 602


def test_drawings_are_the_same_every_time() -> None:
    """Pure functions: the same graph gives the same text."""
    assert svg(example()) == svg(example())
    assert mermaid(example()) == mermaid(example())


def test_families_follow_the_class() -> None:
    """A subclass has the colour of the value it is; optional ones that of the value."""
    assert family(Patches) == family(VisualTokens | None) == "tokens"
    assert family(Frames) == "media"
    assert family(Beads) == "other"


def test_long_texts_lose_their_middle() -> None:
    """Beginning and end of a path stay readable."""
    assert cut("/data/" + "x" * 60 + "/clip.mp4", 20) == "/data/…xxxx/clip.mp4"
    assert cut("short", 20) == "short"


def test_a_text_that_is_only_space_is_quoted() -> None:
    """A newline that separates rows would not be seen."""
    with Graph() as g:
        loom_say(loom_polish(loom_encode(loom_clip())), question=g.param("row", str, default="\n"))
    assert "row = '\\n'" in texts(svg(g))


def test_mermaid_is_plain_text() -> None:
    """One line per node and wire; quotes and angle brackets are entities."""
    lines = mermaid(example()).split("\n")
    assert '    p1(["keep = 54"]):::param' in lines
    assert '    n2["<b>dominant</b><br/><i>loom_sort</i><br/>keep: $keep<br/>note: a#lt;b"]:::other' in lines
    assert '    n1 -->|"beads"| n2' in lines
    assert '    n2 -->|"rest → beads"| n4' in lines
    assert "    p1 -.- n2" in lines
    assert '    n6 --> o0(["answer"]):::result' in lines
    assert not re.search(r'"[^"\n]*"[^"\n]*"\]', "\n".join(lines))


@st.composite
def layered(draw: st.DrawFn) -> tuple[list[Box], list[Link]]:
    """Boxes of several sizes with forward links."""
    sizes = draw(st.lists(st.tuples(st.integers(40, 300), st.integers(20, 120)), min_size=1, max_size=14))
    boxes = [Box(str(i), float(w), float(h), {"in": w / 2}, {"out": w / 3}) for i, (w, h) in enumerate(sizes)]
    last = len(boxes) - 1
    ends = draw(st.lists(st.tuples(st.integers(0, last), st.integers(0, last)), max_size=25))
    return boxes, [Link(str(a), "out", str(b), "in") for a, b in dict.fromkeys(ends) if a < b]


@settings(max_examples=100, deadline=None, phases=(Phase.generate,))
@given(layered())
def test_boxes_never_overlap(drawn: tuple[list[Box], list[Link]]) -> None:
    """Boxes keep apart, links go down, everything is inside the picture, and wires pass beside boxes."""
    boxes, links = drawn
    placed = place(boxes, links)
    by_name = {box.name: box for box in boxes}
    for i, a in enumerate(boxes):
        assert -0.01 <= a.x <= placed.width - a.width + 0.01
        assert 0 <= a.y <= placed.height - a.height + 0.01
        for b in boxes[i + 1 :]:
            beside = a.x + a.width <= b.x or b.x + b.width <= a.x
            assert beside or a.y + a.height <= b.y or b.y + b.height <= a.y
    for link in links:
        way = placed.ways[link]
        assert by_name[link.source].y + by_name[link.source].height < by_name[link.target].y
        assert [y for _, y in way] == sorted(y for _, y in way)
        for (x, top), (_, bottom) in zip(way[1:-1:2], way[2:-1:2], strict=True):
            for box in boxes:
                outside = box.y + box.height < top or box.y > bottom
                assert outside or not box.x < x < box.x + box.width


def test_models_can_be_left_out() -> None:
    """Without the steps that load them and their wires; everything else is there, and the graph as it was."""
    graph = load("visionzip")
    seen = texts(svg(without_models(graph)))
    assert {"patches", "dominant", "answer"} <= set(seen)
    assert not {"load_model", "llm", "projector"} & set(seen)
    assert "load_model" in texts(svg(graph))


def test_files_of_tokenloom_are_drawn_without_the_machine() -> None:
    """A sample's path starts at tokenloom's folder, a file of one's own is as it is written."""
    with Graph() as graph:
        graph.param("sample", Path, default=ROOT / "examples" / "media" / "shapes.png")
        graph.param("mine", Path, default=Path("/data/cat.jpg"))
    seen = texts(svg(graph))
    assert {"sample = examples/media/shapes.png", "mine = /data/cat.jpg"} <= set(seen)


def test_marked_boxes_rows_and_wires_have_their_colours() -> None:
    """What is named stands out, the rest is grey."""
    graph = example()
    marks = Marks(
        boxes={"step:dominant": "added"},
        wires={("step:dominant", "beads:0"): "removed"},
        rows={"dominant": [Row("keep", "1 → 2", True, "changed")]},
        heads={"dominant": ("old → dominant", "")},
        pills=[("a", "added"), ("", "same"), ("b", "removed")],
    )
    drawing = svg(graph, marks)
    assert {"old → dominant", "1 → 2", "a", "b"} <= set(texts(drawing))
    for mark in MARKS.values():
        assert mark[1] in drawing
