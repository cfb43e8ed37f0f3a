"""`@node`: sockets, widgets, outputs and tooltips from a signature; calls are checked before they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from tokenloom.runtime import registry
from tokenloom.runtime.build import Edge, ParamRef
from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.graph import Graph
from tokenloom.runtime.needs import Need, Needs
from tokenloom.runtime.node import NodeType, node
from tokenloom.runtime.run import run
from tokenloom.runtime.values import Image, Prompt, Slot, Table, Tokens
from tokenloom.runtime.widgets import MISSING, Range


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    """Nodes made by a test leave the registry with it."""
    registry.load_builtin()
    before = dict(registry._nodes)
    yield
    registry._nodes.clear()
    registry._nodes.update(before)


class Halves(NamedTuple):
    left: Prompt
    right: int


def sample() -> NodeType[..., Any]:
    @node(version=2, lane="gpu", provides=("keys",))
    def test_split(
        prompt: Prompt,
        other: Prompt | None = None,
        *more: Annotated[Prompt, Needs("keys", layer="at")],
        at: Annotated[int, Range(0, 9)] = 1,
        mode: Literal["fast", "exact"] = "fast",
        out: Path | None = None,
    ) -> Halves:
        """Split a prompt
        in two.

        Further text that is no tooltip.

        at: where to cut,
            counted from 0.
        mode: how.
        prompt: what to cut.
        """
        return Halves(prompt, at)

    return test_split


def one(value: Prompt, *, keep: Annotated[int, Range(1)] = 3) -> int:
    return keep


PROMPT = Prompt(pieces=((1, 2), Slot()))


def test_parameters_before_the_star_are_sockets() -> None:
    """Optional ones have a default, a starred one is variadic."""
    sockets = sample().sockets
    assert [(s.name, s.type, s.required, s.variadic) for s in sockets.values()] == [
        ("prompt", Prompt, True, False),
        ("other", Prompt | None, False, False),
        ("more", Prompt, False, True),
    ]
    assert sockets["prompt"].default is MISSING
    assert [s.absent for s in sockets.values()] == [MISSING, None, ()]


def test_keyword_only_parameters_are_widgets() -> None:
    """Type, bounds, default and whether null is allowed."""
    widgets = sample().widgets
    assert [(w.name, w.type, w.default, w.optional) for w in widgets.values()] == [
        ("at", int, 1, False),
        ("mode", Literal["fast", "exact"], "fast", False),
        ("out", Path, None, True),
    ]
    assert widgets["at"].bounds == Range(0, 9)


def test_a_named_tuple_gives_named_outputs() -> None:
    """Anything else is one output called ''."""
    assert sample().outputs == {"left": Prompt, "right": int}
    assert node(name="test_one")(one).outputs == {"": int}


def test_docstring_lines_are_tooltips() -> None:
    """First paragraph on one line; indented lines continue; sockets and widgets alike."""
    made = sample()
    assert made.summary == "Split a prompt in two."
    assert made.widgets["at"].help == "where to cut, counted from 0."
    assert made.widgets["mode"].help == "how."
    assert made.widgets["out"].help == ""
    assert made.sockets["prompt"].help == "what to cut."


def test_the_decorator_keeps_what_it_was_told() -> None:
    """version, lane, provides; defaults otherwise."""
    made, plain = sample(), node(one)
    assert (made.version, made.lane, made.provides, made.pure) == (2, "gpu", ("keys",), True)
    assert (plain.version, plain.lane, plain.provides, plain.name) == (1, "cpu", (), "one")
    assert (plain.fn, plain.__doc__) == (one, None)
    assert repr(plain) == f"<node one ({plain.place})>"


def test_needs_are_resolved_with_widget_values() -> None:
    """Per socket; only sockets that have some."""
    assert sample().needs({"at": 4}) == {"more": (Need("keys", 4),)}


def test_needs_inside_an_optional_socket_count() -> None:
    """`Annotated[T, Needs(...)] | None` asks like `Annotated[T | None, Needs(...)]`."""

    @node(name="test_optional_needs")
    def f(a: Annotated[Tokens, Needs("keys")] | None = None) -> int:
        return 1

    assert f.needs({}) == {"a": (Need("keys"),)}


def test_an_eager_call_runs_the_function() -> None:
    """Positional, named and variadic arguments; widgets with defaults."""
    assert sample()(PROMPT, None, PROMPT, at=3) == (PROMPT, 3)
    assert sample()(prompt=PROMPT) == (PROMPT, 1)


def test_widgets_arrive_in_their_own_type() -> None:
    """A str for a path widget is a Path inside."""

    @node(name="test_paths")
    def f(*, where: Path = Path("x"), levels: tuple[int, ...] = ()) -> Any:
        return where, levels

    assert f(where="a/b", levels=[1, 2]) == (Path("a/b"), (1, 2))  # type: ignore[arg-type]  # pyright: ignore


CALLS: dict[str, Callable[[NodeType[..., Any]], Any]] = {
    "test_split: nothing is connected to prompt (Prompt)": lambda f: f(at=3),
    "test_split.prompt wants Prompt, got str": lambda f: f("hi"),
    "test_split.other wants Prompt or null, got int": lambda f: f(PROMPT, 3),
    "test_split.more wants Prompt, got int": lambda f: f(PROMPT, None, PROMPT, 3),
    "test_split.at: 10 is outside 0..9": lambda f: f(PROMPT, at=10),
    "test_split.at: 'x' is a str, wanted int 0..9": lambda f: f(PROMPT, at="x"),
    "test_split.mode: 'fats' is not one of 'fast', 'exact'; did you mean 'fast'?": (
        lambda f: f(PROMPT, mode="fats")
    ),
    "test_split: no input or setting is called 'att'; did you mean 'at'?": lambda f: f(PROMPT, att=1),
    "test_split: no input or setting is called 'zz'; known: at, mode, more, other, out, prompt": (
        lambda f: f(PROMPT, zz=1)
    ),
    "test_split.prompt is given twice": lambda f: f(PROMPT, prompt=PROMPT),
}


@pytest.mark.parametrize("message", CALLS)
def test_a_wrong_call_is_refused_before_it_runs(message: str) -> None:
    """The message names node, parameter, what came and what was wanted."""
    with pytest.raises(WiringError) as caught:
        CALLS[message](sample())
    assert str(caught.value) == message


def test_too_many_inputs_are_counted() -> None:
    """A node without a variadic socket says what it has."""
    with pytest.raises(WiringError) as caught:
        node(name="test_few")(one)(PROMPT, PROMPT)  # type: ignore[call-arg]  # pyright: ignore
    assert str(caught.value) == "test_few: 2 inputs were given, it has 1: value"


def test_a_required_widget_must_be_given() -> None:
    """No default: the message says what is wanted."""

    @node(name="test_required")
    def f(*, keep: Annotated[int, Range(1)]) -> int:
        return keep

    with pytest.raises(WiringError) as caught:
        f()  # type: ignore[call-arg]  # pyright: ignore
    assert str(caught.value) == "test_required.keep has no value; wanted int 1.."


def test_a_default_must_fit_its_own_widget() -> None:
    """A node whose default is out of bounds is refused when first looked at."""

    @node(name="test_default")
    def f(*, keep: Annotated[int, Range(1)] = 0) -> int:
        return keep

    with pytest.raises(WiringError) as caught:
        _ = f.widgets
    assert str(caught.value) == "test_default.keep: 0 is below 1"


def test_many_without_batch_runs_one_after_another() -> None:
    """One result per call, the same widgets for all."""
    assert node(name="test_loop")(one).many([(PROMPT,), (PROMPT,)], keep=5) == [5, 5]


def test_many_joins_calls_through_batch() -> None:
    """Sockets come as lists, open ones filled with what the function would get."""
    seen: list[Any] = []

    def batch(a: list[Prompt], b: list[Any], c: list[Any], *, keep: int) -> list[int]:
        seen.append((a, b, c, keep))
        return [keep] * len(a)

    @node(name="test_batch", batch=batch)
    def f(a: Prompt, b: Image | None = None, *c: Prompt, keep: int = 2) -> int:
        raise AssertionError("batch was there")

    assert f.many([(PROMPT,), (PROMPT, None, PROMPT)]) == [2, 2]
    assert seen == [([PROMPT, PROMPT], [None, None], [(), (PROMPT,)], 2)]
    assert f.many([]) == []


def test_many_checks_every_call_before_the_first_runs() -> None:
    """One bad item of a batch stops all of it."""
    with pytest.raises(WiringError, match=r"^test_checked.value wants Prompt, got int$"):
        node(name="test_checked")(one).many([(PROMPT,), (3,)])


def test_a_batch_function_must_answer_every_call() -> None:
    """A missing result is the node's own mistake, and named."""
    made = node(name="test_short", batch=lambda value, keep: [keep])(one)
    with pytest.raises(RuntimeError, match=r"^test_short: batch returned 1 results for 2 calls$"):
        made.many([(PROMPT,), (PROMPT,)])


def test_every_parameter_needs_a_type() -> None:
    """Inputs and settings without one are named."""

    def bare(a, *, n=2) -> Prompt:  # type: ignore[no-untyped-def]
        return a

    made = node(name="test_untyped")(bare)
    with pytest.raises(TypeError) as caught:
        _ = made.sockets
    assert str(caught.value) == "node test_untyped: a has no type; write a: and what it takes"
    with pytest.raises(TypeError) as caught:
        _ = made.widgets
    assert str(caught.value) == "node test_untyped: n has no type; write n: and what it takes"


def test_a_node_needs_a_return_annotation() -> None:
    """It is the type of the output."""

    def bare(a: Prompt):  # type: ignore[no-untyped-def]
        return a

    with pytest.raises(TypeError) as caught:
        _ = node(name="test_bare")(bare).outputs
    assert str(caught.value) == (
        "node test_bare: the return annotation is missing; it is the type of the output"
    )


def test_a_node_takes_no_double_star() -> None:
    """**kwargs would be neither socket nor widget."""

    def loose(**rest: int) -> int:
        return 1

    with pytest.raises(TypeError, match=r"^node test_loose: \*\*rest is neither a socket nor a widget$"):
        _ = node(name="test_loose")(loose).sockets


def test_inside_a_graph_a_call_records_an_edge() -> None:
    """The function does not run; named outputs can be picked or unpacked."""

    @node(name="test_origin")
    def origin() -> Prompt:
        raise AssertionError("ran while the graph was written")

    with Graph() as graph:
        left, right = sample()(origin(), at=4)
    assert isinstance(left, Edge)
    assert (left.output, right.output, right.type) == ("left", "right", int)  # type: ignore[attr-defined]
    assert list(graph.steps) == ["test_origin", "test_split"]


EDGE = Edge("split", "", Prompt)
PROMISE = "while the graph is being written, when it is only a promise of Prompt; put the logic into a node"


@pytest.mark.parametrize(
    "use",
    [bool, len, lambda e: e[0], lambda e: e + 1, lambda e: 1 + e, lambda e: e < 1, int, lambda e: -e],
)
def test_a_promise_is_not_a_value(use: Callable[[Any], Any]) -> None:
    """Logic on an edge is refused with the way out."""
    with pytest.raises(TypeError) as caught:
        use(EDGE)
    assert str(caught.value) == f"split: used as a value {PROMISE}"


def test_reading_an_attribute_of_a_promise_is_refused() -> None:
    """`.pieces` exists on the value, not on the promise."""
    with pytest.raises(AttributeError) as caught:
        _ = EDGE.pieces
    assert str(caught.value) == f"split: .pieces was read {PROMISE}"


def test_an_unknown_output_suggests_the_nearest() -> None:
    """Named outputs are known while the graph is written."""
    edge = Edge("split", "", Halves, {"left": Prompt, "right": int})
    with pytest.raises(AttributeError) as caught:
        _ = edge.lefft
    assert str(caught.value) == "split has no output 'lefft'; did you mean 'left'?"


def test_one_output_cannot_be_unpacked() -> None:
    """Said plainly."""
    with pytest.raises(TypeError, match=r"^split has one output and cannot be unpacked$"):
        _ = [*EDGE]


def test_graph_parameters_pass_widgets_unchecked() -> None:
    """They get their value when a run starts."""
    ref = ParamRef("keep")
    assert sample().check_widgets({"at": ref})["at"] is ref


def test_an_optional_socket_may_stay_open() -> None:
    """`T | None` without a default is None when nothing is wired, also before sockets that must be."""

    @node(name="test_optional")
    def optional(first: Table | None, second: Table) -> str:
        """Which came."""
        return f"{first is None} {len(second.rows)}"

    @node(name="test_table")
    def table() -> Table:
        """One row."""
        return Table(("a",), ((1,),))

    assert [s.required for s in optional.sockets.values()] == [False, True]
    with Graph() as g:
        made: Any = optional
        g.output(came=made(second=table()))
    assert run(g, cache=False)["came"] == "True 1"
