"""Building, editing and checking graphs in Python."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tokenloom import Graph, Range, node
from tokenloom.runtime.build import ParamRef
from tokenloom.runtime.errors import GraphError, WiringError
from tokenloom.runtime.graph import At, Param, Wire

from .loom_nodes import (
    Beads,
    Clip,
    loom_chain,
    loom_clip,
    loom_encode,
    loom_join,
    loom_polish,
    loom_say,
    loom_sort,
)


def example() -> Graph:
    """clip -> encode -> dominant -> loom_join, kept by a parameter."""
    with Graph("example") as g:
        beads = loom_encode(loom_clip(path=g.param("clip", Path)))
        kept, rest = g.named("dominant", loom_sort)(beads, keep=g.param("keep", int, default=54))
        g.output(joined=loom_join(kept, rest))
    return g


def test_calls_inside_a_graph_are_recorded() -> None:
    """A step is called like its node type, and holds wires and the settings that were given."""
    g = example()
    assert list(g.steps) == ["loom_clip", "loom_encode", "dominant", "loom_join"]
    assert g.steps["dominant"].wires == {"beads": (Wire("loom_encode"),)}
    assert g.steps["dominant"].widgets == {"keep": ParamRef("keep")}
    assert g.steps["loom_join"].wires == {
        "kept": (Wire("dominant", "kept"),),
        "rest": (Wire("dominant", "rest"),),
    }
    assert g.outputs == {"joined": Wire("loom_join")}


def test_taken_ids_are_numbered() -> None:
    """The second and third step of a type end in _2 and _3."""
    with Graph() as g:
        for _ in range(3):
            loom_clip()
    assert list(g.steps) == ["loom_clip", "loom_clip_2", "loom_clip_3"]


def test_a_failed_call_leaves_no_gap() -> None:
    """An id that a refused call would have had is given to the next one."""
    with Graph() as g:
        loom_clip()
        with pytest.raises(WiringError):
            loom_clip(length=-1)
        loom_clip()
    assert list(g.steps) == ["loom_clip", "loom_clip_2"]


def test_steps_remember_the_line_that_made_them() -> None:
    """A step's place is the line of the call in the user's file."""
    at = example().steps["dominant"].at
    assert at is not None
    assert at.path == __file__
    assert "dominant" in Path(__file__).read_text().split("\n")[at.line - 1]
    assert str(At("graphs/x.yaml", 12, 17)) == "graphs/x.yaml:12:17"


def test_the_same_call_runs_outside() -> None:
    """Outside `with Graph()` a node is a plain function."""
    assert loom_sort(Beads((3, 1, 2)), keep=2).rest == Beads((2,))


def test_a_composite_is_an_ordinary_function() -> None:
    """A function of edges records its steps; a scope names them apart."""

    def compress(beads: Beads, keep: int) -> Beads:
        kept, rest = loom_sort(beads, keep=keep)
        return loom_join(kept, rest)

    with Graph() as g:
        beads = loom_encode(loom_clip())
        with g.scope("coarse"):
            beads = compress(beads, 5)
        with g.scope("fine"):
            compress(beads, 2)
    assert list(g.steps)[2:] == ["coarse/loom_sort", "coarse/loom_join", "fine/loom_sort", "fine/loom_join"]
    assert g.steps["fine/loom_sort"].wires["beads"] == (Wire("coarse/loom_join"),)


def test_an_optional_socket_may_stay_open() -> None:
    """None, or nothing, leaves an optional socket without a wire."""
    with Graph() as g:
        beads = loom_encode(loom_clip())
        loom_join(beads, None)
        loom_join(beads)
    assert g.steps["loom_join"] == replace(g.steps["loom_join_2"], id="loom_join")


def test_a_variadic_socket_keeps_the_order() -> None:
    """Wires of `*beads` stay in the order of the call."""
    with Graph() as g:
        one, two = loom_encode(loom_clip()), loom_encode(loom_clip())
        loom_chain(two, one, two)
    ends = g.steps["loom_chain"].wires["beads"]
    assert ends == (Wire("loom_encode_2"), Wire("loom_encode"), Wire("loom_encode_2"))


def test_a_parameter_feeds_sockets_too() -> None:
    """A parameter of a value type stands for a value that the run gives."""
    with Graph() as g:
        loom_polish(g.param("beads", Beads))
    assert g.params["beads"] == Param("beads", Beads)
    assert g.params["beads"].widget is None
    assert g.steps["loom_polish"].wires["beads"] == (ParamRef("beads"),)


def test_when_and_device_are_written_with_the_name() -> None:
    """`named` also takes what a graph file writes as when: and device:."""
    with Graph() as g:
        beads = loom_encode(loom_clip())
        g.named("sorted", loom_sort, when=g.param("sorting", bool, default=True), device="cuda:1")(beads)
    assert g.steps["sorted"].when == ParamRef("sorting")
    assert g.steps["sorted"].device == "cuda:1"


def untyped(anything: Any) -> Any:
    """Hidden from the type checkers, which would refuse the mistake too."""
    return anything


def refused(build: Any) -> str:
    """The message of the error that `build(graph, beads)` raises inside a graph."""
    with Graph() as g:
        beads = g.named("beads", loom_encode)(loom_clip())
        g.named("picked", loom_sort)(beads)
        g.param("keep", int)
        with pytest.raises((GraphError, WiringError)) as error:
            build(g, beads)
    return str(error.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda g, beads: g.named("merged", loom_join)(g["picked"]),
            "merged.kept wants Beads, but picked gives Sorted; say which output: kept or rest",
        ),
        (
            lambda g, beads: g.named("answer", loom_say)(beads, question="?"),
            "answer.gems wants Gems, but beads gives Beads",
        ),
        (
            lambda g, beads: loom_polish(Beads((1,))),
            "loom_polish.beads got Beads, but while a graph is being written an input takes a wire; pass it "
            'as a parameter: g.param("beads", Beads)',
        ),
        (lambda g, beads: loom_sort(beads, keep=9999), "loom_sort.keep: 9999 is outside 1..576"),
        (lambda g, beads: untyped(loom_join)(), "loom_join: nothing is connected to kept (Beads)"),
        (lambda g, beads: untyped(loom_say)(beads), "loom_say.question has no value; wanted str"),
        (
            lambda g, beads: untyped(loom_sort)(beads, keeep=1),
            "loom_sort: no input or setting is called 'keeep'; did you mean 'keep'?",
        ),
        (
            lambda g, beads: loom_sort(beads, keep=beads),
            "loom_sort.keep is a setting: it takes a value or a parameter, not the output of beads",
        ),
        (
            lambda g, beads: loom_sort(beads, keep=g.param("k", str)),
            "loom_sort.keep wants int 1..576, but parameter k is str",
        ),
        (
            lambda g, beads: loom_sort(beads, keep=g.param("k", int, default=600)),
            "loom_sort.keep: 600 is outside 1..576 (the default of parameter k)",
        ),
        (
            lambda g, beads: loom_polish(g.param("k", Clip)),
            "loom_polish.beads wants Beads, but parameter k is Clip",
        ),
        (
            lambda g, beads: untyped(loom_sort)(beads, keep=ParamRef("kep")),
            "loom_sort.keep: no parameter is called 'kep'; did you mean 'keep'?",
        ),
        (
            lambda g, beads: g.named("picked", loom_sort)(beads),
            "a node is already called 'picked'; nodes and parameters share one namespace",
        ),
        (
            lambda g, beads: g.param("picked", int),
            "a node is already called 'picked'; nodes and parameters share one namespace",
        ),
        (
            lambda g, beads: g.param("a b", int),
            "'a b' is no name for a parameter; use letters, digits, _ and -, a letter first",
        ),
        (lambda g, beads: g.param("k", int, default="x"), "params.k: 'x' is a str, wanted int"),
        (
            lambda g, beads: g.param("k", int, default=9, bounds=Range(1, 5)),
            "params.k: 9 is outside 1..5",
        ),
        (
            lambda g, beads: g.param("k", Clip, default=Clip(())),
            "params.k: a Clip is given by a run; it can have no default but null",
        ),
        (
            lambda g, beads: g.output(all=g["picked"]),
            "output all: picked gives Sorted; say which output: kept or rest",
        ),
        (lambda g, beads: g.output(all=3), "output all: int is not an output of a step"),
        (lambda g, beads: g["pickd"], "nothing in the graph is called 'pickd'; did you mean 'picked'?"),
        (lambda g, beads: g["picked.kep"], "picked has no output 'kep'; did you mean 'kept'?"),
        (lambda g, beads: g["beads.x"], "beads has one unnamed output and no 'x'; say beads alone"),
        (
            lambda g, beads: g.named("x", len)(beads),
            "x: <built-in function len> is not a node; name a composite with `with g.scope('x')`",
        ),
    ],
)
def test_a_mistake_is_refused_where_it_is_made(build: Any, message: str) -> None:
    """Each wrong call raises at once and says what came, what was wanted and what to do."""
    assert refused(build) == message


def test_an_edge_of_another_graph_is_refused() -> None:
    """A wire to a step that this graph does not have names it."""
    with Graph():
        beads = loom_encode(loom_clip())
    with Graph(), pytest.raises(WiringError) as error:
        loom_polish(beads)
    assert str(error.value) == "loom_polish.beads: no node is called 'loom_encode'"


def test_a_parameter_is_no_value_yet() -> None:
    """Python logic on a parameter says that it belongs into a node."""
    with Graph() as g, pytest.raises(TypeError) as error:
        bool(g.param("keep", int, default=3) > 2)
    assert str(error.value) == (
        "parameter keep: used as a value while the graph is being written, when it has none yet; "
        "put the logic into a node"
    )


def test_a_node_cannot_use_the_words_of_graph_files() -> None:
    """A setting called `when` could not be written in YAML."""

    @node
    def loom_when(*, when: str = "") -> Beads:
        return Beads(())

    with Graph(), pytest.raises(GraphError) as error:
        loom_when()
    assert str(error.value) == "node loom_when: 'when' means something else in a graph file; rename it"


def test_choices_and_numbers_fit_wider_settings() -> None:
    """An int parameter may set a float, a str a path or a choice, a choice a wider choice."""
    with Graph() as g:
        clip = loom_clip(path=g.param("file", str, default="x.mp4"))  # type: ignore[arg-type]
        beads = loom_encode(clip)
        kept = loom_sort(beads, score=g.param("score", Literal["mean"], default="mean")).kept
        loom_join(kept, times=g.param("times", int, default=2))
    g.check()


# -- editing -------------------------------------------------------------------


def test_connect_replaces_a_wire() -> None:
    """A socket with one wire takes the new one instead."""
    g = example()
    g.connect("dominant.rest", "loom_join.kept")
    assert g.steps["loom_join"].wires["kept"] == (Wire("dominant", "rest"),)


def test_connect_adds_to_a_variadic_socket() -> None:
    """A variadic socket takes the new wire after those it has; disconnect takes all off."""
    g = example()
    with g:
        loom_chain(g["loom_join"])
    g.connect("dominant.rest", "loom_chain.beads")
    assert g.steps["loom_chain"].wires["beads"] == (Wire("loom_join"), Wire("dominant", "rest"))
    g.disconnect("loom_chain.beads")
    assert g.steps["loom_chain"].wires == {}


def test_connect_checks_types() -> None:
    """A wire that does not fit changes nothing."""
    g = example()
    before = g.copy()
    with pytest.raises(WiringError, match=r"loom_join\.kept wants Beads, but loom_clip gives Clip"):
        g.connect("loom_clip", "loom_join.kept")
    with pytest.raises(WiringError, match="loom_join has no input 'kpt'; did you mean 'kept'"):
        g.connect("loom_encode", "loom_join.kpt")
    assert g == before


def test_set_changes_settings() -> None:
    """Settings are checked as in a call."""
    g = example()
    g.set("dominant", keep=3, note="x")
    assert g.steps["dominant"].widgets == {"keep": 3, "note": "x"}
    with pytest.raises(WiringError, match="dominant has no setting 'kep'; did you mean 'keep'"):
        g.set("dominant", kep=3)
    with pytest.raises(WiringError, match=r"dominant.keep: 0 is outside 1\.\.576"):
        g.set("dominant", keep=0)


def test_replace_keeps_what_fits() -> None:
    """A new node type keeps wires and settings of the same names, and who takes from it."""
    g = example()
    g.replace("loom_join", loom_polish_pair, shine=2)
    assert g.steps["loom_join"].wires == {"kept": (Wire("dominant", "kept"),)}
    assert g.steps["loom_join"].widgets == {"shine": 2}
    assert g.outputs == {"joined": Wire("loom_join")}


@node
def loom_polish_pair(kept: Beads, *, shine: int = 1) -> Beads:
    """Takes one of the inputs of loom_join."""
    return kept


def test_replace_is_refused_whole() -> None:
    """A type that its takers cannot use leaves the graph as it was."""
    g = example()
    before = g.copy()
    with pytest.raises(WiringError, match=r"dominant\.beads wants Beads, but loom_encode gives Clip"):
        g.replace("loom_encode", loom_clip)
    assert g == before


def test_remove_needs_that_nobody_takes_from_it() -> None:
    """A step that is used names its users; a free one goes."""
    g = example()
    with pytest.raises(GraphError) as error:
        g.remove("loom_join")
    assert str(error.value) == (
        "loom_join cannot be removed: output joined takes from it; connect that elsewhere first"
    )
    g.outputs = {"joined": Wire("loom_encode")}
    g.remove("loom_join")
    g.remove("dominant")
    assert list(g.steps) == ["loom_clip", "loom_encode"]
    with pytest.raises(GraphError, match="no node is called 'dominat'; known: loom_clip, loom_encode"):
        g.remove("dominat")


def test_a_graph_can_be_written_further() -> None:
    """`with` on a graph that exists adds to it; `g[...]` finds its edges."""
    g = example()
    with g:
        g.output(gems=loom_polish(g["dominant.kept"]))
    assert g.steps["loom_polish"].wires["beads"] == (Wire("dominant", "kept"),)


def test_a_copy_is_edited_alone() -> None:
    """Editing a copy leaves the original as it was."""
    g = example()
    other = g.copy()
    other.set("dominant", keep=1)
    assert other != g
    assert g == example()


def test_equality_is_about_meaning() -> None:
    """Places, order and written-out defaults do not count; settings do."""

    def build(**widgets: Any) -> Graph:
        with Graph() as g:
            loom_sort(loom_encode(loom_clip()), **widgets)
        return g

    assert build() == build(keep=54)
    assert build() != build(keep=53)
    assert build() != "a graph"


# -- checks and order ----------------------------------------------------------


def knotted() -> Graph:
    """Two steps that wait for each other."""
    g = Graph()
    with g:
        beads = loom_encode(loom_clip())
        one = g.named("one", loom_join)(beads)
        g.named("two", loom_join)(one)
    g.steps["one"] = replace(g.steps["one"], wires={"kept": (Wire("two"),)}, at=At("x.yaml", 8, 3))
    g.steps["two"] = replace(g.steps["two"], at=At("x.yaml", 9, 3))
    return g


def test_a_cycle_is_named_with_its_lines() -> None:
    """`order` and `check` say which steps wait for each other, and where they are written."""
    g = knotted()
    message = "these nodes wait for each other: one (x.yaml:8:3) -> two (x.yaml:9:3) -> one"
    with pytest.raises(GraphError) as error:
        g.order()
    assert str(error.value) == message
    with pytest.raises(GraphError) as error:
        g.check()
    assert str(error.value) == f"x.yaml:8:3: {message}"


def test_connect_can_make_a_cycle_that_check_finds() -> None:
    """A step that takes from itself is a cycle of one."""
    g = example()
    g.connect("loom_join", "loom_join.rest")
    assert [p.step for p in g.problems()] == ["loom_join"]


def test_check_lists_everything() -> None:
    """All problems come in one error, one to a line."""
    g = example()
    for name in g.steps:
        g.steps[name] = replace(g.steps[name], at=None)
    g.steps["dominant"] = replace(g.steps["dominant"], wires={}, widgets={"keep": 0})
    g.outputs["x"] = Wire("nobody")
    g.disconnect("loom_encode.clip")
    with pytest.raises(GraphError) as error:
        g.check()
    assert str(error.value).split("\n") == [
        "loom_encode: nothing is connected to clip (Clip)",
        "dominant: nothing is connected to beads (Beads)",
        "dominant.keep: 0 is outside 1..576",
        "output x: no node is called 'nobody'; known: dominant, loom_clip, loom_encode, loom_join",
    ]


def test_order_is_as_written_where_it_can_be() -> None:
    """Steps come after those they take from, else in written order."""
    g = example()
    names = ["loom_join", "dominant", "loom_clip", "loom_encode"]
    g.steps = {name: g.steps[name] for name in names}
    assert g.order() == ["loom_clip", "loom_encode", "dominant", "loom_join"]


def test_a_chain_of_ten_thousand_is_quick() -> None:
    """Building, ordering and checking take time in proportion, without recursion."""
    start = time.perf_counter()
    with Graph() as g:
        beads = loom_encode(loom_clip())
        for _ in range(10_000):
            beads = loom_join(beads)
    assert g.order()[-1] == "loom_join_10000"
    g.check()
    assert time.perf_counter() - start < 10  # about 0.2 s; 10 s would be quadratic
