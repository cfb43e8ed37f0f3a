"""Graph files: reading, building on other files, composites, and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tokenloom import Graph, Range, load, node
from tokenloom.runtime.build import ParamRef
from tokenloom.runtime.errors import GraphError
from tokenloom.runtime.graph import At, Param, Wire
from tokenloom.runtime.layers import builtin_graphs
from tokenloom.runtime.widgets import MISSING
from tokenloom.runtime.yamlfile import dump

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

BASE = """\
tokenloom: 1
title: base
params:
  clip: {type: path, default: media/a.mp4}
  question: {type: str, default: What?}
nodes:
  film: {node: loom_clip, path: $clip}
  patches: {node: loom_encode, clip: $film}
  visual: {node: loom_polish, beads: $patches}
  answer: {node: loom_say, gems: $visual, question: $question}
outputs: {answer: $answer}
"""
CHILD = """\
tokenloom: 1
title: child
extends: base.yaml
params:
  keep: {type: int, default: 54, min: 1, max: 99, help: "beads kept, [CLS] included"}
  question: {default: Which?}
nodes:
  dominant: {node: loom_sort, beads: $patches, keep: $keep}
  merged: {node: loom_join, kept: $dominant.kept, rest: $dominant.rest}
  visual: {beads: $merged}
outputs: {tokens: $merged}
"""
BRANCH = """\
tokenloom: 1
params:
  beads: {type: Beads}
  keep: {type: int, default: 3}
  on: {type: bool, default: true}
nodes:
  picked: {node: loom_sort, beads: $beads, keep: $keep, when: $on}
  merged: {node: loom_join, kept: $picked.kept, rest: $picked.rest}
outputs: {joined: $merged, kept: $picked.kept}
"""
Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Writes files into one folder: `files(base=..., child=...)` gives the folder."""

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_a_file_is_the_same_graph_as_python(files: Files) -> None:
    """Ids, wires, settings, parameters and outputs are those of the same calls."""
    with Graph("base") as g:
        folder = files(base=BASE)
        path = g.param("clip", Path, default=folder / "media/a.mp4")
        question = g.param("question", str, default="What?")
        film = g.named("film", loom_clip)(path=path)
        visual = g.named("visual", loom_polish)(g.named("patches", loom_encode)(film))
        g.output(answer=g.named("answer", loom_say)(visual, question=question))
    assert load(folder / "base.yaml") == g


def test_steps_know_their_place(files: Files) -> None:
    """A step's place is its key in the file; a changed step's is in the file that changed it."""
    folder = files(base=BASE, child=CHILD)
    graph = load(folder / "child.yaml")
    assert graph.at == str(folder / "child.yaml")
    assert graph.steps["patches"].at == At(str(folder / "base.yaml"), 8, 3)
    assert graph.steps["visual"].at == At(str(folder / "child.yaml"), 10, 3)


def test_extends_merges_by_name_and_key(files: Files) -> None:
    """Nodes, parameters and outputs of the base stay; what is written again changes key by key."""
    graph = load(files(base=BASE, child=CHILD) / "child.yaml")
    assert graph.title == "child"
    assert graph.outputs == {"answer": Wire("answer"), "tokens": Wire("merged")}
    assert graph.steps["visual"].type is loom_polish
    assert graph.steps["visual"].wires == {"beads": (Wire("merged"),)}
    assert graph.params["question"] == Param("question", str, "Which?")
    assert graph.params["keep"] == Param("keep", int, 54, Range(1, 99), "beads kept, [CLS] included")
    assert graph.order() == ["film", "patches", "dominant", "merged", "visual", "answer"]


def test_a_copied_built_in_graph_still_finds_its_base(files: Files) -> None:
    """`base/llava15.yaml` names the built-in graph when no such file lies beside the one that extends it."""
    child = "tokenloom: 1\nextends: base/llava15.yaml\nparams: {question: {default: Why?}}\n"
    assert load(files(child=child) / "child.yaml").params["question"].default == "Why?"


def test_null_removes_what_is_inherited(files: Files) -> None:
    """`null` takes away a node, a parameter, an output, or one key of a node."""
    child = """\
tokenloom: 1
extends: base.yaml
params: {question: null, clip: {default: null}}
nodes: {answer: null, visual: null, film: {path: null}}
outputs: {answer: null, tokens: $patches}
"""
    graph = load(files(base=BASE, child=child) / "child.yaml")
    assert list(graph.steps) == ["film", "patches"]
    assert graph.steps["film"].widgets == {}
    assert graph.params == {"clip": Param("clip", Path, MISSING)}
    assert graph.outputs == {"tokens": Wire("patches")}


def test_another_node_type_keeps_what_it_knows(files: Files) -> None:
    """A node put in the place of an inherited one keeps wires and settings of the same names."""
    child = """\
tokenloom: 1
extends: child.yaml
nodes:
  dominant: {node: loom_chain}
  merged: {kept: $dominant, rest: null}
"""
    graph = load(files(base=BASE, child=CHILD, other=child) / "other.yaml")
    assert graph.steps["dominant"].type is loom_chain
    assert graph.steps["dominant"].wires == {"beads": (Wire("patches"),)}
    assert graph.steps["dominant"].widgets == {}
    assert graph.steps["merged"].wires == {"kept": (Wire("dominant"),)}


def test_relative_paths_start_at_the_file(files: Files, tmp_path: Path) -> None:
    """Settings and defaults that are paths are seen from the file they stand in, not from the shell."""
    (tmp_path / "deep").mkdir()
    folder = files(base=BASE, child=CHILD)
    (folder / "deep" / "child.yaml").write_text(CHILD.replace("base.yaml", "../base.yaml"))
    assert load(folder / "deep" / "child.yaml").params["clip"].default == tmp_path / "media/a.mp4"
    literal = (
        "tokenloom: 1\nnodes:\n  a: {node: loom_clip, path: x.mp4}\n  b: {node: loom_chain, files: [y, /z]}\n"
    )
    graph = load(folder / "text.yaml", literal)
    assert graph.steps["a"].widgets == {"path": tmp_path / "x.mp4"}
    assert graph.steps["b"].widgets == {"files": (tmp_path / "y", Path("/z"))}


def test_scalars_are_those_of_yaml_1_2() -> None:
    """`on` and `no` are strings, `1e-3` is a number, `$$` is a dollar."""
    text = """\
tokenloom: 1
params:
  a: {type: str, default: on}
  b: {type: float, default: 1e-3}
  c: {type: str, default: $$5}
  d: {type: list of int, default: [0x10, -2]}
  e: {type: bool, default: True}
  f: {type: str or null, default: ~}
  g: {type: str, default: "1"}
  h: {type: list of str, default: [$$x, no]}
"""
    defaults = {name: p.default for name, p in load("x.yaml", text).params.items()}
    assert defaults == {
        "a": "on",
        "b": 0.001,
        "c": "$5",
        "d": (16, -2),
        "e": True,
        "f": None,
        "g": "1",
        "h": ("$x", "no"),
    }


def test_variadic_sockets_take_lists() -> None:
    """A list of wires keeps its order; a single wire stands for a list of one."""
    text = """\
tokenloom: 1
params: {more: {type: Beads}}
nodes:
  film: {node: loom_clip}
  a: {node: loom_encode, clip: $film}
  b: {node: loom_chain, beads: [$a, $more, $a]}
  c: {node: loom_chain, beads: $b, levels: [3]}
"""
    graph = load("x.yaml", text)
    assert graph.steps["b"].wires == {"beads": (Wire("a"), ParamRef("more"), Wire("a"))}
    assert graph.steps["c"].wires == {"beads": (Wire("b"),)}
    assert graph.steps["c"].widgets == {"levels": (3,)}


def test_when_and_device() -> None:
    """`when` is a bool or a bool parameter, `device` a place to run."""
    text = """\
tokenloom: 1
params: {fast: {type: bool, default: false}}
nodes:
  film: {node: loom_clip, when: true, device: cpu}
  a: {node: loom_encode, clip: $film, when: $fast, device: "cuda:1"}
  b: {node: loom_join, kept: $a, when: false}
"""
    steps = load("x.yaml", text).steps
    assert [steps[name].when for name in steps] == [True, ParamRef("fast"), False]
    assert [steps[name].device for name in steps] == ["cpu", "cuda:1", None]


def test_a_file_stands_for_a_node(files: Files) -> None:
    """Its steps are inlined under the node's name; its parameters are inputs and settings."""
    text = """\
tokenloom: 1
params: {n: {type: int, default: 9}, fast: {type: bool, default: true}}
nodes:
  film: {node: loom_clip}
  patches: {node: loom_encode, clip: $film}
  one: {node: ./branch.yaml, beads: $patches, keep: $n, on: $fast, device: cpu}
  two: {node: ./branch.yaml, beads: $one.kept, when: $fast}
  end: {node: loom_join, kept: $two.joined, rest: $one.joined}
outputs: {end: $end, kept: $two.kept}
"""
    graph = load(files(branch=BRANCH, main=text) / "main.yaml")
    assert list(graph.steps)[2:] == ["one/picked", "one/merged", "two/picked", "two/merged", "end"]
    assert graph.steps["one/picked"].wires == {"beads": (Wire("patches"),)}
    assert graph.steps["one/picked"].widgets == {"keep": ParamRef("n")}
    assert graph.steps["one/picked"].when == ParamRef("fast")
    assert graph.steps["one/merged"].device == "cpu"
    assert graph.steps["two/picked"].wires == {"beads": (Wire("one/picked", "kept"),)}
    assert graph.steps["two/picked"].widgets == {"keep": 3}
    assert graph.steps["two/merged"].when == ParamRef("fast")
    assert graph.steps["end"].wires == {"kept": (Wire("two/merged"),), "rest": (Wire("one/merged"),)}
    assert graph.outputs["kept"] == Wire("two/picked", "kept")
    assert load("x.yaml", graph.to_yaml()) == graph


def test_the_device_of_a_composite_goes_to_its_steps(files: Files) -> None:
    """Where a step has a device of its own, that one holds; so does a setting called device."""
    inner = """\
tokenloom: 1
nodes: {a: {node: loom_clip}, b: {node: loom_clip, device: mps}, c: {node: loom_place}}
"""
    main = "tokenloom: 1\nnodes: {x: {node: inner.yaml, device: cpu}}\n"
    steps = load(files(inner=inner, main=main) / "main.yaml").steps
    assert [step.device for step in steps.values()] == ["cpu", "mps", None]


@node
def loom_place(*, device: str = "auto") -> Clip:
    """A node with a setting called device."""
    return Clip(())


def test_files_nest(files: Files) -> None:
    """A composite may hold another; the names of their steps are joined."""
    outer = """\
tokenloom: 1
params: {beads: {type: Beads}}
nodes: {inner: {node: branch.yaml, beads: $beads, keep: 5}}
outputs: {out: $inner.joined}
"""
    main = """\
tokenloom: 1
nodes:
  film: {node: loom_clip}
  patches: {node: loom_encode, clip: $film}
  outer: {node: outer.yaml, beads: $patches}
  end: {node: loom_polish, beads: $outer}
"""
    graph = load(files(branch=BRANCH, outer=outer, main=main) / "main.yaml")
    assert graph.steps["outer/inner/picked"].widgets["keep"] == 5
    assert graph.steps["end"].wires == {"beads": (Wire("outer/inner/merged"),)}


def test_text_stands_where_the_path_says(files: Files) -> None:
    """`load(path, text)` reads the text as if it were that file."""
    folder = files(base=BASE)
    assert load(folder / "not_there.yaml", CHILD).steps.keys() >= {"patches", "merged"}


def test_builtin_graphs_are_found_by_name() -> None:
    """Every graph that comes with tokenloom loads by its bare name, checks, and survives a round trip."""
    assert "base/llava15" in builtin_graphs()
    assert load("base/llava15.yaml") == load("base/llava15")
    for name in builtin_graphs():
        graph = load(name)
        graph.check()
        assert load("x.yaml", dump(graph)) == graph


def test_a_file_already_on_the_other_base_is_left_as_it_is() -> None:
    """What stands instead of its own base is not laid over itself: what it removes is there once."""
    instead = {"base/llava15": "base/llava_next"}
    for name in ("base/llava_next", "llava_next", "visionzip_next"):
        assert load(name, instead=instead).to_yaml() == load(name).to_yaml()


def test_another_base_may_stand_in_the_place_of_one() -> None:
    """A method written for LLaVA-1.5 on LLaVA-NeXT's base, which itself extends what it replaces."""
    graph = load("fastv", instead={"base/llava15": "base/llava_next"})
    assert graph.title == "FastV on LLaVA-1.5"
    assert [str(wire) for wire in graph.steps["placed"].wires["visual"]] == ["packed"]
    assert [str(wire) for wire in graph.steps["early"].wires["inputs"]] == ["placed"]
    deeper = load("prumerge_plus", instead={"base/llava15": "base/llava_next"})
    assert deeper.steps["packed"].type.name == "pack_spatial_unpad"


def test_an_unknown_name_suggests_the_nearest() -> None:
    """A misspelled built-in graph is recognised."""
    with pytest.raises(GraphError) as error:
        load("base/lava15")
    assert str(error.value) == (
        "base/lava15: no such graph file, and no built-in graph is called that; did you mean 'base/llava15'?"
    )


def test_a_bom_and_windows_lines_are_read(files: Files) -> None:
    """Files of other editors are the same graph."""
    folder = files(base=BASE)
    (folder / "dos.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert load(folder / "dos.yaml") == load(folder / "base.yaml")


def test_a_graph_is_written_as_people_write_it() -> None:
    """One node to a line, wires with dollars, quotes only where they are needed."""
    with Graph("Beads: a test") as g:
        path = g.param("clip", Path)
        keep = g.param("keep", int, default=54, bounds=Range(1, None), help="how many, in all")
        score = g.param("score", Literal["mean", "weight"], default="mean")
        kept, rest = g.named("dominant", loom_sort)(
            loom_encode(loom_clip(path=path)), keep=keep, score=score, note="$5 on sale"
        )
        beads = loom_chain(kept, rest, levels=(1, 2, 3))
        g.output(answer=loom_say(loom_polish(beads), question="What is in the picture?", loud=True))
    assert (
        g.to_yaml()
        == """\
tokenloom: 1
title: "Beads: a test"
params:
  clip: {type: path}
  keep: {type: int, default: 54, min: 1, help: "how many, in all"}
  score: {type: str, default: mean, choices: [mean, weight]}
nodes:
  loom_clip: {node: loom_clip, path: $clip}
  loom_encode: {node: loom_encode, clip: $loom_clip}
  dominant: {node: loom_sort, beads: $loom_encode, keep: $keep, score: $score, note: "$$5 on sale"}
  loom_chain: {node: loom_chain, beads: [$dominant.kept, $dominant.rest], levels: [1, 2, 3]}
  loom_polish: {node: loom_polish, beads: $loom_chain}
  loom_say: {node: loom_say, gems: $loom_polish, question: "What is in the picture?", loud: true}
outputs:
  answer: $loom_say
"""
    )


def test_a_type_without_a_name_is_not_written() -> None:
    """A list of fixed length has no text in graph files."""
    g = Graph()
    g.param("size", tuple[int, int], default=(1, 2))
    with pytest.raises(GraphError) as error:
        dump(g)
    assert str(error.value) == "params.size: a graph file has no name for the type list of int"


SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
QUICK = (Phase.explicit, Phase.generate)  # shrinking such graphs takes minutes
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "$x",
        "$$",
        "on",
        "null",
        "1e3",
        "0x1",
        "a: b",
        "#",
        "- a",
        "y",
        "~",
        "'",
        '"',
        "x #y",
        "[",
        "{",
        "1_0",
        " ",
    ]
)
WORDS = ("a", "b2", "keep", "dominant", "branch/merged", "x-y", "on", "null", "y", "a_b", "loom_sort", "True")
FILES = st.sampled_from(["a.mp4", "b c.mp4", "$x", "deep/on", "é", "null", "#1"]).map(Path)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of the toy nodes with parameters, named outputs, variadic wires, `when` and devices."""
    g = Graph(draw(TEXT))
    names = draw(st.permutations(WORDS))

    def any_of(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    with g:
        number = draw(st.integers(1, 576))
        keep = g.param(
            names[0], int, default=number, bounds=any_of(None, Range(1), Range(0, 1e6)), help=draw(TEXT)
        )
        question = g.param(names[1], str, default=draw(TEXT))
        flag = g.param(names[2], bool, default=draw(st.booleans()))
        file = g.param(names[3], Path, **any_of({}, {"default": draw(FILES)}))
        score = g.param(names[4], Literal["mean", "weight"], default=any_of("mean", "weight"))
        more, maybe = (
            g.param(names[5], Beads),
            g.param(names[6], Beads | None, **any_of({}, {"default": None})),
        )
        clip = loom_clip(path=any_of(file, draw(FILES)), length=draw(st.integers(0, 1000)))
        ends = [loom_encode(clip, layer=draw(st.integers())), more]
        for name in names[7 : 7 + draw(st.integers(0, 4))]:
            kept, rest = g.named(name, loom_sort, when=any_of(True, False, flag), device=any_of(None, "cpu"))(
                any_of(*ends),
                keep=any_of(keep, number),
                score=any_of(score, "mean", "weight"),
                note=draw(st.none() | TEXT),
            )
            ends += [
                kept,
                rest,
                loom_join(kept, any_of(None, rest, maybe), times=draw(st.floats(allow_nan=False))),
            ]
        paths = tuple(draw(st.lists(FILES, max_size=2)))
        beads = loom_chain(*draw(st.lists(st.sampled_from(ends), max_size=3)), files=paths)
        g.output(
            **{
                any_of("tokens", "a", "no"): beads,
                "answer": loom_say(loom_polish(beads), question=any_of(question, draw(TEXT))),
            }
        )
    return g


@settings(max_examples=200, deadline=None, phases=QUICK, suppress_health_check=SLOW)
@given(graphs())
def test_what_is_written_is_read_again(g: Graph) -> None:
    """load(dump(g)) == g, and the same text comes out again."""
    again = load("x.yaml", dump(g))
    assert again == g
    assert dump(again) == dump(g)


@settings(max_examples=150, deadline=None, phases=QUICK)
@given(st.text(max_size=60) | st.from_regex(r"[\[\]{}:,&*!|>'\"%@`#$\n\t a-z0-9-]{0,60}"))
def test_any_text_is_a_graph_or_a_clear_error(text: str) -> None:
    """Nothing but GraphError comes out of a broken file."""
    try:
        message = repr(load("x.yaml", "tokenloom: 1\n" + text))
    except GraphError as error:
        message = str(error)
    assert message.startswith(("x.yaml:", "<Graph"))


def test_clip_is_a_value_type() -> None:
    """Types of sockets are found by their name, with `or null` too."""
    graph = load(
        "x.yaml", "tokenloom: 1\nparams: {a: {type: Clip}, b: {type: Frames or null, default: null}}"
    )
    assert graph.params["a"].type is Clip
    assert graph.params["b"].widget is None
    assert graph.params["b"].default is None
