"""Type variables: nodes whose outputs are what their inputs are, in graphs, in files and at run time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom import nodes
from tokenloom.runtime.cache import Cache
from tokenloom.runtime.draw import svg
from tokenloom.runtime.errors import BudgetError, GraphError, WiringError
from tokenloom.runtime.events import NodeDone
from tokenloom.runtime.fit import bound_of, fits, holds
from tokenloom.runtime.generic import join, substitute, variables
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.mermaid import mermaid
from tokenloom.runtime.node import NodeType, node
from tokenloom.runtime.run import run
from tokenloom.runtime.schema import schema
from tokenloom.runtime.store import pack, storable, unpack
from tokenloom.runtime.values import Patches, Tokens, VisualTokens

from ..exact import load


@storable
@dataclass(frozen=True)
class Bead:
    size: int = 1


@storable
@dataclass(frozen=True)
class Gem(Bead):
    pass


@storable
@dataclass(frozen=True)
class Ruby(Gem):
    pass


@storable
@dataclass(frozen=True)
class Opal(Gem):
    pass


BeadT = TypeVar("BeadT", bound=Bead)
LaterT = TypeVar("LaterT", bound="Gem")
EitherT = TypeVar("EitherT", int, str)
AnyT = TypeVar("AnyT")


class Split(NamedTuple, Generic[BeadT]):
    kept: BeadT
    size: int


@node
def gen_bead() -> Bead:
    """A bead."""
    return Bead()


@node
def gen_ruby() -> Ruby:
    """A ruby."""
    return Ruby()


@node
def gen_opal() -> Opal:
    """An opal."""
    return Opal()


@node
def gen_split(beads: BeadT, *, size: int = 1) -> Split[BeadT]:
    """What came in, and a number."""
    return Split(beads, size)


@node
def gen_ruby_split(ruby: Ruby) -> Split[Ruby]:
    """A generic NamedTuple of one certain kind."""
    return Split(ruby, 1)


@node
def gen_mix(first: BeadT | None, second: BeadT, *more: BeadT) -> BeadT:
    """The second, which is of the common kind."""
    return second


@node
def gen_prefer(first: BeadT, second: BeadT | None = None) -> BeadT:
    """The second if there is one."""
    return second or first


@node
def gen_polish(gem: LaterT) -> LaterT:
    """The same gem."""
    return gem


@node
def gen_echo(x: AnyT) -> AnyT:
    """The same value."""
    return x


@node
def gen_alike(a: EitherT, b: EitherT) -> EitherT:
    """The first of two of a kind."""
    return a


@node
def gen_list(beads: BeadT) -> tuple[BeadT, ...]:
    """A list of them."""
    return (beads,)


@node
def gen_first(beads: tuple[BeadT, ...]) -> BeadT:
    """The first of a list."""
    return beads[0]


@node
def gen_lie(beads: BeadT) -> BeadT:
    """Returns a plain bead whatever came in."""
    return Bead()  # type: ignore[return-value]


@node
def gen_ruby_wanted(gem: Gem) -> Ruby:
    """Any gem, made a ruby."""
    return Ruby(gem.size)


@node
def gen_ruby_only(ruby: Ruby) -> int:
    """A ruby's size."""
    return ruby.size


@node
def gen_rubies(*ruby: Ruby) -> int:
    """Sizes of rubies."""
    return sum(r.size for r in ruby)


def types(g: Graph) -> dict[str, dict[str, Any]]:
    resolved = g.resolved()
    return {name: dict(resolved.outputs(name)) for name in g.steps}


def nodes_of(*made: NodeType[..., Any]) -> dict[str, dict[str, Any]]:
    return {m.name: {s.name: s.type for s in m.sockets.values()} for m in made}


# -- the arithmetic of types -----------------------------------------------------------------------------


def test_a_variable_takes_what_its_bound_takes() -> None:
    """A bound may be written as a string; constraints are alternatives; without either everything fits."""
    assert bound_of(LaterT) is Gem
    assert bound_of(EitherT) == int | str
    assert bound_of(AnyT) is Any
    assert fits(Ruby, BeadT)
    assert not fits(int, BeadT)
    assert fits(BeadT, Bead)
    assert not fits(BeadT, Gem)
    assert holds(Opal(), LaterT)
    assert not holds(Bead(), LaterT)


@pytest.mark.parametrize(
    ("variable", "senders", "wanted"),
    [
        (BeadT, (), Bead),
        (BeadT, (Ruby,), Ruby),
        (BeadT, (Ruby, Ruby), Ruby),
        (BeadT, (Ruby, Opal), Gem),
        (BeadT, (Ruby, Bead), Bead),
        (BeadT, (Ruby, Gem), Gem),
        (BeadT, (Ruby | Opal,), Ruby | Opal),
        (BeadT, (Ruby, Ruby | Opal), Ruby | Opal),
        (AnyT, (int, str), object),
        (AnyT, (int, None), object),
        (EitherT, (int,), int),
        (EitherT, (bool,), int),
        (EitherT, (int, str), int | str),
    ],
)
def test_join(variable: TypeVar, senders: tuple[Any, ...], wanted: Any) -> None:
    """The nearest common base, the narrowest constraint, or the bound."""
    assert join(variable, senders) == wanted


@given(st.lists(st.sampled_from([Bead, Gem, Ruby, Opal]), min_size=1))
def test_a_join_takes_all_and_nothing_nearer_does(senders: list[type[Bead]]) -> None:
    """In any order, with repetitions."""
    made = join(BeadT, senders)
    assert all(issubclass(s, made) for s in senders)
    assert not any(
        all(issubclass(s, near) for s in senders)
        for near in (Gem, Ruby, Opal)
        if issubclass(near, made) and near is not made
    )
    assert join(BeadT, senders[::-1]) is made


def test_variables_and_substitution() -> None:
    """Within generics and unions; a class without arguments has none."""
    many, some = gen_first.sockets["beads"].generic, gen_prefer.sockets["second"].generic
    assert variables(many) == variables(some) == (BeadT,)
    assert variables(Split) == ()
    assert substitute(many, {BeadT: Ruby}) == tuple[Ruby, ...]
    assert substitute(some, {BeadT: Ruby}) == Ruby | None


# -- node types ------------------------------------------------------------------------------------------


def test_sockets_and_outputs_show_the_bound() -> None:
    """What schemas, drawings and parameters see has no variables."""
    assert nodes_of(gen_split, gen_polish) == {"gen_split": {"beads": Bead}, "gen_polish": {"gem": Gem}}
    assert gen_split.outputs == {"kept": Bead, "size": int}
    assert gen_split.output is Split
    assert gen_list.outputs == {"": tuple[Bead, ...]}
    assert gen_mix.sockets["first"].type == Bead | None
    assert gen_split.generic
    assert not gen_ruby_split.generic
    assert gen_ruby_split.outputs == {"kept": Ruby, "size": int}


def test_which_sockets_decide_an_output() -> None:
    """By name, for `tokenloom nodes NAME`."""
    assert gen_split.echoes == {"kept": ("beads",)}
    assert gen_mix.echoes == {"": ("first", "second", "more")}
    assert gen_list.echoes == {}


def test_the_schema_names_the_bound() -> None:
    """Graph files are completed as before."""
    made = schema()["$defs"]["node.gen_polish"]["properties"]["gem"]
    assert made["description"] == "Gem"


def test_an_eager_call_is_a_call() -> None:
    """Values pass; the bound is checked."""
    assert type(gen_split(Ruby()).kept) is Ruby
    with pytest.raises(WiringError) as error:
        gen_polish(Bead())  # type: ignore[type-var]
    assert str(error.value) == "gen_polish.gem wants Gem, got Bead"


# -- graphs ----------------------------------------------------------------------------------------------


def test_edges_carry_the_bound_type() -> None:
    """Through named outputs, unpacking, lists, optional and variadic sockets."""
    with Graph() as g:
        kept: Any = gen_split(gen_ruby()).kept
        again: Any = gen_split(kept)
        first, _ = again
        common: Any = gen_mix(first, gen_opal(), gen_ruby())
        plain: Any = gen_mix(gen_bead(), gen_opal())
        alone: Any = gen_prefer(first)
        both: Any = gen_prefer(first, gen_opal())
        several: Any = gen_list(kept)
        one: Any = gen_first(several)
    assert (kept.type, first.type, common.type, plain.type) == (Ruby, Ruby, Gem, Bead)
    assert (alone.type, both.type) == (Ruby, Gem)
    assert several.type == tuple[Ruby, ...]
    assert one.type is Ruby
    assert types(g)["gen_split_2"] == {"kept": Ruby, "size": int}


def test_a_wrong_wire_names_the_bound_type() -> None:
    """While the graph is being written."""
    with Graph() as g, pytest.raises(WiringError) as error:
        gen_ruby_only(gen_split(gen_opal()).kept)  # type: ignore[arg-type]
    assert str(error.value) == "gen_ruby_only.ruby wants Ruby, but gen_split.kept gives Opal"
    assert "gen_ruby_only" not in g.steps


def test_a_parameter_binds() -> None:
    """Its declared type."""
    with Graph() as g:
        made: Any = gen_polish(g.param("gem", Ruby))
    assert made.type is Ruby


def test_constraints_must_agree() -> None:
    """Two sockets, two constraints: no choice takes both."""
    with Graph() as g:
        n, text = g.param("n", object), g.param("text", str)
        with pytest.raises(WiringError):
            gen_alike(n, text)  # type: ignore[type-var]
        number: Any = gen_split(gen_ruby()).size
        with pytest.raises(WiringError) as error:
            gen_alike(number, gen_echo(text))
    assert str(error.value) == "gen_alike: a and b want the same of int or str, got int, str"


FILE = """tokenloom: 1
title: generic
nodes:
  says: {node: gen_ruby_only, ruby: $twice.kept}
  twice: {node: gen_split, beads: $once.kept}
  once: {node: gen_split, beads: $gem}
  gem: {node: gen_ruby}
outputs: {out: $says}
"""


def test_files_may_list_nodes_in_any_order() -> None:
    """And equal the same graph in Python; written and read again too."""
    with Graph("generic") as g:
        once = g.named("once", gen_split)(g.named("gem", gen_ruby)())
        twice = g.named("twice", gen_split)(once.kept)
        g.output(out=g.named("says", gen_ruby_only)(twice.kept))
    read = load("g.yaml", text=FILE)
    assert read == g
    assert load("g.yaml", text=g.to_yaml()) == g
    assert types(read) == types(g)
    assert run(read, cache=False)["out"] == 1


def test_a_mistake_in_a_file_is_shown_where_it_is() -> None:
    """At the wire that does not fit, with the type that arrives."""
    with pytest.raises(GraphError) as error:
        load("g.yaml", text=FILE.replace("gen_ruby}", "gen_opal}"))
    assert str(error.value) == (
        "g.yaml:4:37: says.ruby wants Ruby, but twice.kept gives Opal\n"
        "      says: {node: gen_ruby_only, ruby: $twice.kept}\n"
        "                                        ^"
    )


def test_what_is_missing_is_said_once() -> None:
    """The bound of a step that lacks its input is no further mistake downstream."""
    with pytest.raises(GraphError) as error:
        load("g.yaml", text=FILE.replace(", beads: $gem", ""))
    assert str(error.value).splitlines()[0] == "g.yaml:6:3: once: nothing is connected to beads (Bead)"
    assert str(error.value).count("g.yaml:") == 1


def test_cycles_are_reported_as_cycles() -> None:
    """Variables in a knot do not hang and add no message of their own."""
    with pytest.raises(GraphError) as error:
        load("g.yaml", text=FILE.replace("beads: $gem", "beads: $twice.kept"))
    assert str(error.value).splitlines()[0] == (
        "g.yaml:5:3: these nodes wait for each other: twice (g.yaml:5:3) -> once (g.yaml:6:3) -> twice"
    )
    assert str(error.value).count("wants Ruby") == 0


def chain(n: int) -> Graph:
    with Graph() as g:
        x: Any = gen_ruby()
        for _ in range(n):
            x = gen_polish(x)
        g.output(out=gen_ruby_only(x))
    return g


@pytest.mark.parametrize(
    "work", [Graph.check, Graph.resolved, lambda g: types(g), lambda g: load("c", text=g.to_yaml())]
)
def test_long_chains_stay_linear(work: Callable[[Graph], Any]) -> None:
    """10,000 generic nodes, built, checked, read back: far below what a square would take."""
    begin = time.process_time()
    g = chain(10_000)
    assert time.process_time() - begin < 5
    begin = time.process_time()
    work(g)
    assert time.process_time() - begin < 20


def test_a_chain_written_backwards() -> None:
    """No recursion: the last step is asked first."""
    g = chain(3000)
    g.steps = dict(reversed(g.steps.items()))
    assert set(map(str, types(g)["gen_polish_3000"].values())) == {str(Ruby)}
    g.check()


def test_a_composite_takes_the_type_of_what_is_given(tmp_path: Path) -> None:
    """Its file says Bead; wired to a ruby, a ruby comes out, and to an opal the mistake is named."""
    inner = """tokenloom: 1
params: {bead: {type: Bead}}
nodes: {first: {node: gen_split, beads: $bead}, second: {node: gen_split, beads: $first.kept}}
outputs: {kept: $second.kept}
"""
    outer = """tokenloom: 1
nodes:
  gem: {node: gen_ruby}
  twice: {node: ./inner.yaml, bead: $gem}
  says: {node: gen_ruby_only, ruby: $twice.kept}
outputs: {out: $says}
"""
    (tmp_path / "inner.yaml").write_text(inner)
    (tmp_path / "outer.yaml").write_text(outer)
    g = load(tmp_path / "outer.yaml")
    assert types(g)["twice/second"] == {"kept": Ruby, "size": int}
    assert run(g, cache=False)["out"] == 1
    (tmp_path / "outer.yaml").write_text(outer.replace("gen_ruby}", "gen_opal}"))
    with pytest.raises(GraphError) as error:
        load(tmp_path / "outer.yaml")
    assert "says.ruby wants Ruby, but twice/second.kept gives Opal" in str(error.value)


@pytest.mark.parametrize("draw", [svg, mermaid])
def test_generic_nodes_are_drawn(draw: Callable[[Graph], str]) -> None:
    """Like any other."""
    assert "gen_split" in draw(load("g.yaml", text=FILE))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99), st.integers(0, 99)), max_size=12))
def test_every_value_of_a_random_graph_is_of_its_resolved_type(
    calls: list[tuple[int, int, int]],
) -> None:
    """However generic nodes are chained and joined."""
    with Graph() as g:
        made: list[Any] = [gen_ruby(), gen_opal(), gen_bead()]
        for kind, i, j in calls:
            a, b = made[i % len(made)], made[j % len(made)]
            made.append(
                [
                    lambda a, b: gen_split(a).kept,
                    lambda a, b: gen_mix(a, b),
                    lambda a, b: gen_mix(a, b, a, b),
                    lambda a, b: gen_prefer(a, b),
                    lambda a, b: gen_prefer(b),
                    lambda a, b: gen_first(gen_list(a)),
                    lambda a, b: gen_echo(b),
                ][kind](a, b)
            )
        for number, edge in enumerate(made):
            g.output(**{f"v{number}": edge})
    result = run(g, cache=False)
    for number, edge in enumerate(made):
        assert isinstance(result[f"v{number}"], edge.type)
        assert g.resolved().outputs(edge.node)[edge.output] == edge.type


# -- edits -----------------------------------------------------------------------------------------------


def edited() -> Graph:
    with Graph() as g:
        gen_bead()
        gen_opal()
        g.output(out=gen_ruby_only(gen_split(gen_split(gen_ruby()).kept).kept))
    return g


def test_connect_is_refused_when_something_downstream_no_longer_fits() -> None:
    """Through generic steps; nothing has changed then."""
    g = edited()
    before = g.copy()
    with pytest.raises(WiringError) as error:
        g.connect("gen_opal", "gen_split.beads")
    assert str(error.value) == "gen_ruby_only.ruby wants Ruby, but gen_split_2.kept gives Opal"
    assert g == before
    g.check()


def test_replace_is_refused_when_something_downstream_no_longer_fits() -> None:
    """The new node's output travels through generic steps."""
    g = edited()
    with pytest.raises(WiringError) as error:
        g.replace("gen_ruby", gen_opal)
    assert str(error.value) == "gen_ruby_only.ruby wants Ruby, but gen_split_2.kept gives Opal"
    assert g == edited()


def test_a_free_end_may_be_wired_before_its_taker_is_right() -> None:
    """Selection moved from behind the polishing to before it, one wire at a time."""
    with Graph() as g:
        polished: Any = gen_ruby_wanted(gen_opal())
        g.output(out=gen_ruby_only(gen_split(polished).kept))
    g.connect("gen_ruby_wanted", "gen_ruby_only.ruby")
    g.connect("gen_opal", "gen_split.beads")
    g.connect("gen_split.kept", "gen_ruby_wanted.gem")
    g.check()
    assert run(g, cache=False)["out"] == 1


def test_an_edit_binds_anew() -> None:
    """A free end takes the new type."""
    g = edited()
    g.steps.pop("gen_ruby_only")
    g.outputs.clear()
    g.connect("gen_opal", "gen_split.beads")
    assert g["gen_split_2"].kept.type is Opal
    g.disconnect("gen_split.beads")
    assert g["gen_split_2"].kept.type is Bead
    g.connect("gen_ruby", "gen_split.beads")
    g.replace("gen_ruby", gen_opal)
    assert g["gen_split_2"].kept.type is Opal
    g.steps.pop("gen_split_2")
    g.connect("gen_bead", "gen_split.beads")
    assert g["gen_split"].kept.type is Bead


# -- runs ------------------------------------------------------------------------------------------------


def test_a_node_that_loses_the_class_is_found_at_run_time() -> None:
    """Its annotation promised the class that came in."""
    with Graph() as g:
        g.output(out=gen_lie(gen_ruby()))
    with pytest.raises(WiringError) as error:
        run(g, cache=False)
    assert str(error.value) == "gen_lie: the node returned Bead, wanted Ruby, the same as beads"
    with Graph() as fine:
        fine.output(out=gen_lie(gen_bead()))
    assert type(run(fine, cache=False)["out"]) is Bead


def test_a_step_that_is_switched_off_is_passed_by() -> None:
    """Its input is of its resolved type, so what comes after still gets what it wants."""
    with Graph() as g:
        gem = g.named("off", gen_polish, when=g.param("on", bool))(gen_ruby())
        g.output(out=gen_ruby_only(gem))
    assert run(g, on=False, cache=False)["out"] == run(g, on=True, cache=False)["out"] == 1


def test_results_come_back_from_the_cache(tmp_path: Path) -> None:
    """A generic NamedTuple is stored by its class; keys do not depend on what variables are bound to."""
    value = gen_split(Ruby(3))
    assert unpack(pack(value)) == value
    with Graph() as g:
        g.output(out=gen_split(gen_ruby(), size=2).kept)
    cache, seen = Cache(tmp_path), list[str]()

    def watch(event: object) -> None:
        if isinstance(event, NodeDone):
            seen.append(event.node)

    assert run(g, cache=cache, subscribers=[watch])["out"] == Ruby()
    assert run(g, cache=cache, subscribers=[watch])["out"] == Ruby()
    assert seen == ["gen_ruby", "gen_split"]


# -- the vision nodes ------------------------------------------------------------------------------------

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"
LATE = """tokenloom: 1
title: Projected, then selected and merged
extends: base/llava15.yaml
nodes:
  patches: {layer: -2, features: cls_patch}
  dominant: {node: select_dominant, tokens: $visual, score: cls}
  merged: {node: merge_contextual, kept: $dominant.kept, rest: $dominant.rest}
  placed: {visual: $merged}
outputs: {tokens: $merged}
"""


def late() -> Graph:
    with Graph("Projected, then selected and merged") as g:
        base = load("llava15")
        checkpoint = g.param("checkpoint", str, default="tiny-random", help=base.params["checkpoint"].help)
        sample: Any = base.params["image"]
        image = g.param("image", Path | tuple[Path, ...], default=sample.default, help=sample.help)
        asked: Any = base.params["question"]
        question = g.param("question", str, default=asked.default, help=asked.help)
        longest: Any = base.params["max_new_tokens"]
        most = g.param("max_new_tokens", int, default=64, bounds=longest.bounds, help=longest.help)
        model = g.named("model", nodes.load_model)(checkpoint=checkpoint)
        frames = g.named("frames", nodes.load_image)(path=image)
        tiles = g.named("tiles", nodes.preprocess)(model.chat, frames)
        patches = g.named("patches", nodes.encode_vision)(model.vision, tiles, layer=-2, features="cls_patch")
        visual = g.named("visual", nodes.project_mlp)(model.projector, patches)
        dominant = g.named("dominant", nodes.select_dominant)(visual)
        merged = g.named("merged", nodes.merge_contextual)(dominant.kept, dominant.rest)
        prompt = g.named("prompt", nodes.render_chat)(model.chat, frames, question=question)
        placed = g.named("placed", nodes.place_tokens)(model.llm, prompt, merged)
        state = g.named("state", nodes.prefill)(model.llm, placed)
        answer = g.named("answer", nodes.generate)(model.llm, state, model.chat, max_new_tokens=most)
        g.output(answer=answer.text, tokens=merged)
    return g


def test_selection_and_merging_after_projection() -> None:
    """In Python and in a file the same graph, whose tokens and answer are those of the eager calls."""
    g = late()
    assert load("late.yaml", text=LATE) == g
    result = run(g, image=PICTURE, max_new_tokens=4, cache=False, device="cpu")
    model, frames = nodes.load_model(checkpoint="tiny-random"), nodes.load_image(path=PICTURE)
    patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames), features="cls_patch")
    picked = nodes.select_dominant(nodes.project_mlp(model.projector, patches))
    merged = nodes.merge_contextual(picked.kept, picked.rest)
    assert type(result["tokens"]) is type(merged) is VisualTokens
    assert result["tokens"].features.equal(merged.features)
    prompt = nodes.render_chat(model.chat, frames, question="What colour is the ring?")
    placed = nodes.place_tokens(model.llm, prompt, merged)
    answer = nodes.generate(model.llm, nodes.prefill(model.llm, placed), model.chat, max_new_tokens=4)
    assert result["answer"] == answer.text


def test_keep_is_still_foreseen_after_projection() -> None:
    """Before any weight is read."""
    with pytest.raises(BudgetError) as error:
        run(load("late.yaml", text=LATE.replace("score: cls", "keep: 200")), image=PICTURE, cache=False)
    assert str(error.value) == "select_dominant: keep 200 of 145 tokens per tile; set keep to 145 or less"


def test_selection_by_hand_keeps_the_class() -> None:
    """select_manual too."""
    with Graph() as g:
        picked: Any = nodes.select_manual(g.param("tokens", VisualTokens), indices=(0, 1))
    assert picked.rest.type is VisualTokens


def test_patches_are_no_visual_tokens_after_selection() -> None:
    """The message names what arrives, at its place in the file."""
    wrong = LATE.replace("tokens: $visual, score", "tokens: $patches, score").replace(
        "$merged}\nout", "$dominant.kept}\nout"
    )
    with pytest.raises(GraphError) as error:
        load("late.yaml", text=wrong)
    assert str(error.value) == (
        "late.yaml:8:20: placed.visual wants VisualTokens, but dominant.kept gives Patches\n"
        "      placed: {visual: $dominant.kept}\n"
        "                       ^"
    )


def test_a_join_of_patches_and_visual_tokens_is_tokens() -> None:
    """As concat makes it."""
    with Graph() as g:
        merged: Any = nodes.merge_contextual(g.param("a", Patches), g.param("b", VisualTokens))
    assert merged.type is Tokens


GRAPHS = {"late": LATE, **dict.fromkeys(["visionzip", "visionzip_next", "llava15", "llava_next"])}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_comes_out_is_of_the_resolved_type(name: str) -> None:
    """Every value of every step, of the bundled graphs and of selection after projection."""
    g = load(name, text=GRAPHS[name])
    resolved = g.resolved()
    for id in g.steps:
        for output in resolved.outputs(id):
            g.output(**{f"{id}__{output}": g[f"{id}.{output}" if output else id]})
    result = run(g, image=PICTURE, max_new_tokens=2, cache=False, device="cpu")
    for id in g.steps:
        for output, t in resolved.outputs(id).items():
            assert holds(result[f"{id}__{output}"], t), (id, output)
