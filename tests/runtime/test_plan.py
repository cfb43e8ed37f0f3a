"""Plans: what runs, in which order, with which side channels, and every error before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.runtime.cache import Cache
from tokenloom.runtime.errors import GraphError, LoomError, NeedError, WiringError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.node import node
from tokenloom.runtime.plan import plan
from tokenloom.runtime.run import execute, run
from tokenloom.runtime.values import Tokens
from tokenloom.runtime.yamlfile import load

from . import engine_nodes as e


def ids(graph: Graph, **options: object) -> list[str]:
    return [planned.id for planned in plan(graph, **options).steps]  # type: ignore[arg-type]


def diamond() -> Graph:
    with Graph() as g:
        a = g.named("a", e.eng_number)(start=1)
        b = g.named("b", e.eng_add)(a, add=10)
        c = g.named("c", e.eng_add)(a, add=20)
        d = g.named("d", e.eng_sum)(b, c)
        g.named("unused", e.eng_add)(a)
        g.output(d=d, b=b)
    return g


def test_prunes_to_the_wanted_outputs() -> None:
    """Steps that no wanted output depends on are not in the plan."""
    assert ids(diamond()) == ["a", "b", "c", "d"]
    assert ids(diamond(), outputs=["b"]) == ["a", "b"]


def test_until_makes_a_node_the_result() -> None:
    """`until` stops after a node and gives its value under its id."""
    result = run(diamond(), until="c", cache=False)
    assert dict(result.outputs) == {"c": 21}


def test_order_is_depth_first() -> None:
    """A branch is finished before the next begins, in the order of the sockets."""
    with Graph() as g:
        left = g.named("l2", e.eng_add)(g.named("l1", e.eng_number)())
        right = g.named("r2", e.eng_add)(g.named("r1", e.eng_number)(start=2))
        g.output(out=g.named("both", e.eng_sum)(right, left))
    assert ids(g) == ["r1", "r2", "l1", "l2", "both"]


def test_unknown_output() -> None:
    """An output that is not there: the nearest name is suggested."""
    with pytest.raises(GraphError) as error:
        plan(diamond(), outputs=["dd"])
    assert str(error.value) == "outputs: no output or node is called 'dd'; did you mean 'd'?"


def test_unknown_until_and_from() -> None:
    """`until` and `from_` name nodes."""
    with pytest.raises(GraphError) as error:
        plan(diamond(), until="x")
    assert str(error.value) == "until: no node is called 'x'; known: a, b, c, d, unused"
    with pytest.raises(GraphError) as error:
        plan(diamond(), from_="unused")
    assert str(error.value) == "from: no node of this run is called 'unused'; known: a, b, c, d"


def test_unknown_parameter() -> None:
    """A parameter that nobody declared: the nearest name is suggested."""
    with Graph() as g:
        g.output(out=e.eng_number(start=g.param("start", int, help="where it begins")))
    with pytest.raises(GraphError) as error:
        run(g, cache=False, sart=3)
    assert str(error.value) == "params: no parameter is called 'sart'; did you mean 'start'?"


def test_missing_parameters_are_all_named() -> None:
    """Every parameter without a value is named with its help, in one error."""
    with Graph() as g:
        start = g.param("start", int, help="where it begins")
        g.output(out=e.eng_add(g.named("n", e.eng_number)(start=start), add=g.param("by", int)))
    with pytest.raises(GraphError) as error:
        plan(g)
    assert str(error.value).split("\n") == [
        "params.start has no value; wanted int (where it begins), for n.start",
        "params.by has no value; wanted int, for eng_add.add",
    ]


def test_bad_parameter_value() -> None:
    """A parameter's value is checked against its own type."""
    with Graph() as g:
        g.output(out=e.eng_number(start=g.param("start", int)))
    with pytest.raises(WiringError) as error:
        run(g, cache=False, start="many")
    assert str(error.value) == "params.start: 'many' is a str, wanted int"


def test_parameter_outside_the_widget() -> None:
    """A parameter's value is checked against the bounds of the widget that it sets."""
    with Graph() as g:
        g.output(out=e.eng_halve(e.eng_encode(), keep=g.param("keep", int)).kept)
    with pytest.raises(WiringError) as error:
        run(g, cache=False, keep=0)
    assert str(error.value) == "eng_halve.keep: 0 is below 1"


def test_value_parameter() -> None:
    """A parameter of a value type goes to sockets as it is."""
    with Graph() as g:
        g.output(out=e.eng_count(g.param("tokens", Tokens)))
    assert run(g, cache=False, tokens=e.tokens(7))["out"] == 7
    with pytest.raises(GraphError) as error:
        run(g, cache=False, tokens=3)
    assert str(error.value) == "params.tokens wants Tokens, got int"


def test_when_false_bypasses() -> None:
    """A step that is switched off hands its one fitting input on."""
    with Graph() as g:
        on = g.param("on", bool, default=False)
        x = g.named("plus", e.eng_add, when=on)(e.eng_number(start=5), add=3)
        g.output(out=e.eng_text(x))
    assert run(g, cache=False)["out"] == "5"
    assert run(g, cache=False, on=True)["out"] == "8"


def test_when_false_leaves_an_optional_socket_open() -> None:
    """An absent value leaves optional and variadic sockets open."""
    with Graph() as g:
        gone = g.named("gone", e.eng_number, when=False)(start=9)
        g.output(maybe=e.eng_maybe(e.eng_number(), gone), total=e.eng_sum(gone, e.eng_number(start=2)))
    assert dict(run(g, cache=False).outputs) == {"maybe": "0 None", "total": 2}


def test_when_false_before_a_required_socket() -> None:
    """A required socket whose sender is switched off is an error that names both."""
    with Graph() as g:
        g.output(out=g.named("text", e.eng_text)(g.named("gone", e.eng_number, when=False)()))
    with pytest.raises(GraphError) as error:
        plan(g)
    assert str(error.value) == (
        "text.x: gone is switched off, and none of its inputs could stand in for its output (int); "
        "switch text off too, or wire something else to it"
    )


def test_switched_off_output() -> None:
    """An output of a switched-off step cannot be had."""
    with Graph() as g:
        g.output(out=g.named("gone", e.eng_number, when=False)())
    with pytest.raises(GraphError) as error:
        plan(g)
    assert str(error.value) == (
        "gone is wanted as an output, but it is switched off by its `when`, and none of its inputs could "
        "stand in for its output (int); switch it on, or choose another output"
    )


def test_switched_off_output_with_a_stand_in() -> None:
    """What would be handed on is the output, as for any other taker."""
    with Graph() as g:
        on = g.param("on", bool, default=False)
        number = e.eng_number(start=5)
        g.output(out=g.named("plus", e.eng_add, when=on)(number, add=3), same=number)
    assert dict(run(g, cache=False).outputs) == {"out": 5, "same": 5}
    assert dict(run(g, cache=False, on=True).outputs) == {"out": 8, "same": 5}


def test_why_nothing_stands_in_for_a_switched_off_output(tmp_path: Path) -> None:
    """Two inputs that fit: said with their names, the place of the `when`, and the parameter behind it."""
    (tmp_path / "g.yaml").write_text(
        "tokenloom: 1\nparams: {on: {type: bool, default: false}}\nnodes:\n  one: {node: eng_number}\n"
        "  both: {node: eng_sum, xs: [$one, $one], when: $on}\noutputs: {out: $both}\n"
    )
    with pytest.raises(GraphError) as error:
        plan(load(tmp_path / "g.yaml"))
    assert str(error.value) == (
        "both is wanted as an output, but it is switched off by its `when`, and more than one input could "
        "stand in for its output (int): xs; switch it on, or choose another output"
    )
    assert error.value.__notes__[0].split("\n") == [
        f"in node both (eng_sum), {tmp_path}/g.yaml:5:49, while planning: when (from parameter on = False)",
        "      both: {node: eng_sum, xs: [$one, $one], when: $on}",
        f"{' ' * 52}^",
    ]


def test_needs_travel_upstream() -> None:
    """A need passes through nodes of the same family to the one that provides it, and to no other."""
    with Graph() as g:
        halves = e.eng_halve(g.named("encode", e.eng_encode)())
        g.output(seen=e.eng_use_keys(halves.rest), count=e.eng_count(halves.kept))
    made = plan(g)
    assert {need.key for need in made.by_id["encode"].wanted} == {"keys"}
    assert made.by_id["eng_halve"].wanted == frozenset()
    assert execute(made)["seen"] == ["keys"]


def test_a_need_goes_on_past_a_node_that_adds_its_part() -> None:
    """Every provider of a channel in parts is asked, up to where the tokens begin, and that is no mistake."""
    with Graph() as g:
        first = g.named("first", e.eng_encode_more)(e.eng_halve(g.named("encode", e.eng_encode)()).kept)
        g.output(seen=e.eng_use_keys(g.named("second", e.eng_encode_more)(first)))
        g.output(alone=e.eng_use_keys(g.named("only", e.eng_encode_more)()))
        g.output(given=e.eng_use_keys(g.named("after", e.eng_encode_more)(g.param("tokens", Tokens))))
    made = plan(g, {"tokens": e.tokens()})
    wanted = {name: made.by_id[name].wanted for name in ("encode", "first", "second", "only", "after")}
    assert {name: {need.key for need in needs} for name, needs in wanted.items()} == {
        name: {"keys"} for name in wanted
    }


def test_a_need_that_must_be_met_is_not_forgotten() -> None:
    """Whoever asks without a provider on the way is told, also when a provider asked the same softly."""
    with Graph() as g:
        given = g.param("tokens", Tokens)
        halves = e.eng_halve(given)
        g.output(soft=e.eng_use_keys(g.named("adds", e.eng_encode_more)(halves.kept)))
        g.output(hard=g.named("usage", e.eng_use_keys)(halves.kept))
    with pytest.raises(NeedError, match="usage needs keys, and parameter tokens neither"):
        plan(g, {"tokens": e.tokens()})


def test_nothing_is_captured_that_nobody_asked_for() -> None:
    """Without a consumer of the channel the provider is asked for nothing."""
    with Graph() as g:
        g.output(out=e.eng_encode())
    assert dict(run(g, cache=False)["out"].side) == {}


def test_unmet_need() -> None:
    """A need that reaches the end of the tokens names consumer, channel, where it ended, and what to do."""
    with Graph() as g:
        g.output(out=g.named("usage", e.eng_use_rollout)(g.named("encode", e.eng_encode)()))
    with pytest.raises(NeedError) as error:
        plan(g)
    assert str(error.value) == (
        "usage needs rollout, and encode (eng_encode) neither provides it nor passes on something that does; "
        "put usage after a node that provides rollout, or choose a setting that does not need it"
    )


def test_need_of_a_parameter() -> None:
    """Tokens that are given as a parameter must carry the channel."""
    with Graph() as g:
        g.output(out=e.eng_use_keys(g.param("tokens", Tokens)))
    with pytest.raises(NeedError, match="eng_use_keys needs keys, and parameter tokens neither"):
        run(g, cache=False, tokens=e.tokens())


def _foresee_limit(x: int | None, *, most: int) -> int | None:
    if x is not None and x > most:
        raise LoomError(f"{x} is more than {most}")
    return x


@node(foresee=lambda *, start: start)
def eng_known(*, start: int) -> int:
    raise AssertionError("planning must not run nodes")


@node(foresee=_foresee_limit)
def eng_limit(x: int, *, most: int) -> int:
    raise AssertionError("planning must not run nodes")


def test_foresight_fails_before_any_work() -> None:
    """What a node foresees from upstream foresight is an error of the plan, with the node's name on it."""
    with Graph() as g:
        g.output(out=eng_limit(eng_limit(eng_known(start=5), most=9), most=4))
    with pytest.raises(LoomError) as error:
        plan(g)
    assert str(error.value) == "5 is more than 4"
    assert error.value.__notes__[0].startswith("in node eng_limit_2 (eng_limit), ")


def test_cycle() -> None:
    """A cycle is refused with the names of its nodes."""
    with Graph() as g:
        x = g.named("a", e.eng_add)(e.eng_number())
        g.output(out=g.named("b", e.eng_add)(x))
    g.connect("b", "a.x")
    with pytest.raises(GraphError, match=r"these nodes wait for each other: a .* -> b .* -> a|b .* -> a"):
        plan(g)


def test_table_says_what_is_cached_and_why_not() -> None:
    """The printed plan tells cached steps from those that run, and names the changed setting."""
    cache = Cache(None)
    with Graph() as g:
        by = g.param("by", int, default=1)
        g.output(out=g.named("more", e.eng_add)(g.named("n", e.eng_number)(), add=by))
    assert [row[2:4] for row in plan(g, cache=cache).table().rows] == [("run", "never cached")] * 2
    run(g, cache=cache)
    assert [row[2] for row in plan(g, cache=cache).table().rows] == ["skip", "cached"]
    table = plan(g, {"by": 64}, cache=cache).table()
    assert [row[2:4] for row in table.rows] == [("cached", "cached (memory)"), ("run", "add 1 -> 64")]
    assert "add 1 -> 64" in str(plan(g, {"by": 64}, cache=cache))


def test_last_uses() -> None:
    """Every value that is no result is freed after its last taker."""
    assert dict(plan(diamond()).last_use) == {"a": "c", "c": "d"}


def test_device_and_dtype_names() -> None:
    """Devices and number formats that are not there are refused by name."""
    with pytest.raises(LoomError) as error:
        plan(diamond(), device="tpu")
    assert str(error.value) == "device: 'tpu' is none of auto, cpu, mps, cuda, cuda:N"
    with pytest.raises(LoomError) as error:
        plan(diamond(), device="cpu", dtype="float8")
    assert str(error.value).startswith("dtype: 'float8' is none of auto, float32, float16, bfloat16")


def test_long_chains() -> None:
    """10,000 nodes in a row build, plan and run; so do 10,000 that are switched off."""
    with Graph() as g:
        x: Any = e.eng_number()
        off = g.param("off", bool, default=True)
        for _ in range(10_000):
            x = g.add(e.eng_add, (x,), when=off)  # type: ignore[arg-type]
        g.output(out=e.eng_text(x))
    result = run(g, cache=False)
    assert result["out"] == "10000"
    assert run(g, cache=False, off=False)["out"] == "0"
