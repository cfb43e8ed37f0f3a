"""The steps that the wanted results depend on, in order, with a slot for every value that is taken.

A step is put after its sources, depth first towards the results, in the order of its sockets: big values are
used soon after they are made. Steps that are switched off are passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

from .binding import Values
from .blame import placed
from .build import ParamRef
from .errors import GraphError, LoomError, did_you_mean
from .fit import fits
from .ir import Step, Wire
from .statics import Statics, statics
from .widgets import type_text

if TYPE_CHECKING:
    from .graph import Graph
    from .keying import Kept

End = Wire | ParamRef
Inputs = tuple[tuple[str, bool, tuple[int, ...]], ...]


class Arranged(NamedTuple):
    """An arrangement with what it was made from. switches: the parameters of `when`, and what they said."""

    steps: tuple[Step, ...]
    results: list[Wire]
    switches: dict[str, bool]
    made: Arrangement


def arrange(graph: Graph, values: Values, wanted: list[Wire]) -> Arrangement:
    """The arrangement of these results; that of an earlier plan, if the steps are the same objects still."""
    steps, known = tuple(graph.steps.values()), values.known
    for old in tuple(graph.arranged):  # another thread may plan the same graph
        if (
            len(old.steps) == len(steps)
            and old.results == wanted
            and all(map(is_, old.steps, steps))
            and all(name in known and bool(known[name]) is on for name, on in old.switches.items())
            and all(name in known for _, name in old.made.given)
        ):
            return old.made
    made = Arrangement(graph, values, wanted)
    names = dict.fromkeys(step.when.name for step in steps if isinstance(step.when, ParamRef))
    if all(name in known for name in names):
        graph.arranged.append(Arranged(steps, wanted, {name: bool(known[name]) for name in names}, made))
    return made


def _checked(step: Step) -> Mapping[str, Any]:
    try:
        return step.type.check_widgets(step.widgets, step.id)
    except LoomError as error:
        raise placed(error, step) from None


class Arrangement:
    """order, statics, inputs, outs: one entry per step. makers, fields: one entry per slot.

    inputs: (socket, variadic, slots) of every socket that is fed. outs: slots of the values that are taken
    from the step. makers: number of the step that makes the value, -1 for a parameter. fields: its output, or
    the parameter's name.
    """

    def __init__(self, graph: Graph, values: Values, wanted: Iterable[Wire]) -> None:
        self._graph, self._steps, self._values = graph, graph.steps, values
        self._types = graph.resolved()
        self._through: dict[str, End | None] = {}
        self._open: dict[str, Inputs] = {}
        self._slot_of: dict[tuple[str, str], int] = {}
        self._taken: dict[str, tuple[int, ...]] = {}
        self.order: list[Step] = []
        self.number: dict[str, int] = {}
        wanted = [self._result(wire) for wire in wanted]
        targets = list(dict.fromkeys(wire.node for wire in wanted))
        for target in targets:
            self._descend(target)
        values.complete()
        self.results = [self._slot(wire) for wire in wanted]
        self.statics: list[Statics] = [statics(step.type) for step in self.order]
        self.inputs: list[Inputs] = [self._open[step.id] for step in self.order]
        self.outs: list[tuple[int, ...]] = [self._taken.get(step.id, ()) for step in self.order]
        self.makers: list[int] = [self.number[node] if node else -1 for node, _ in self._slot_of]
        self.fields: list[str] = [output for _, output in self._slot_of]
        self.targets: list[int] = [self.number[target] for target in targets]
        self.given = [(slot, name) for slot, (node, name) in enumerate(self._slot_of) if not node]
        self.kinds: list[Statics] = list(dict.fromkeys(self.statics))
        self.has_needs = any(facts.has_needs for facts in self.kinds)
        self.kept: Kept | None = None  # the keys of the latest plan of these steps
        self.settings: dict[
            int, str
        ] = {}  # as they enter keys, of steps where they are the same in every plan
        # arrangements are kept with their graph; what a run was given is not
        del self._graph, self._steps, self._values, self._through, self._open

    @cached_property
    def open(self) -> list[int]:
        """The steps that parameters set."""
        return [
            number
            for number, step in enumerate(self.order)
            if step.widgets and any(type(value) is ParamRef for value in step.widgets.values())
        ]

    @cached_property
    def fixed(self) -> list[Mapping[str, Any]]:
        """The checked settings of every step; {} for those that parameters set."""
        out = [facts.defaults or {} for facts in self.statics]
        skipped = frozenset(self.open)
        for number, (step, facts) in enumerate(zip(self.order, self.statics, strict=True)):
            if (step.widgets or facts.defaults is None) and number not in skipped:
                out[number] = _checked(step)
        return out

    @cached_property
    def naming_files(self) -> list[int]:
        """The steps some of whose settings are paths."""
        return [number for number, facts in enumerate(self.statics) if facts.has_paths]

    @cached_property
    def foreseeing(self) -> list[int]:
        """The steps that know something of their output before they run."""
        return [number for number, step in enumerate(self.order) if step.type.foresee is not None]

    @cached_property
    def takers(self) -> list[list[int]]:
        """Per slot, the steps that take its value."""
        out: list[list[int]] = [[] for _ in self.makers]
        for number, inputs in enumerate(self.inputs):
            for _, _, slots in inputs:
                for slot in slots:
                    out[slot].append(number)
        return out

    @cached_property
    def unsettled(self) -> bytes:
        """1 for every step whose key may differ from plan to plan though all that is wired to it stays."""
        impure = [number for number, step in enumerate(self.order) if not step.type.pure]
        fed = [number for slot, _ in self.given for number in self.takers[slot]]
        out = bytearray(len(self.order))
        for number in (*self.open, *self.naming_files, *self.foreseeing, *impure, *fed):
            out[number] = 1
        return bytes(out)

    @cached_property
    def sources(self) -> list[tuple[int, ...]]:
        """Per step, the steps that it waits for, each once."""
        makers = self.makers
        out: list[tuple[int, ...]] = []
        for inputs in self.inputs:
            found = [makers[slot] for _, _, slots in inputs for slot in slots if makers[slot] >= 0]
            out.append(tuple(found if len(found) < 2 else dict.fromkeys(found)))
        return out

    def _descend(self, target: str) -> None:
        number, opened = self.number, self._open
        stack = [target]
        while stack:
            name = stack[-1]
            if name in number:
                stack.pop()
            elif name in opened:
                stack.pop()
                number[name] = len(self.order)
                self.order.append(self._steps[name])
            else:
                stack += reversed(self._visit(name))

    def _visit(self, name: str) -> list[str]:
        """Find a step's inputs; its sources that are not arranged yet. One that is still open is a cycle."""
        step = self._steps[name]
        inputs: list[tuple[str, bool, tuple[int, ...]]] = []
        left: list[str] = []
        for socket, variadic, required in statics(step.type).sockets:
            ends = step.wires.get(socket, ())
            slots: list[int] = []
            for end in ends:
                found = self._sender(end)
                if found is None:
                    continue
                slots.append(self._slot(found))
                if isinstance(found, ParamRef):
                    self._values.of(found, f"{name}.{socket}")
                elif found.node not in self.number:
                    if found.node in self._open or found.node == name:
                        self._cycle(found.node, name)
                    left.append(found.node)
            if slots:
                inputs.append((socket, variadic, tuple(slots)))
            elif ends and required:
                self._nothing(name, socket, ends[0])
        self._open[name] = tuple(inputs)
        return left

    def _sender(self, end: End) -> End | None:
        """Where a value really comes from: past the steps that are switched off; None when nowhere."""
        if isinstance(end, Wire):
            step = self._steps.get(end.node)
            if step is not None and step.when is True:
                return end
        return self._pass_by(end)

    def _pass_by(self, end: End) -> End | None:
        passed: list[str] = []
        found: End | None = end
        while isinstance(found, Wire):
            step = self._steps.get(found.node)
            if step is None or len(passed) > len(self._steps):
                self._graph.check()
                raise GraphError(f"no node is called {found.node!r}{did_you_mean(found.node, self._steps)}")
            if step.when is True or self._on(step):
                break
            passed.append(step.id)
            found = self._through[step.id] if step.id in self._through else self._bypass(step)
        self._through.update(dict.fromkeys(passed, found))
        return found

    def _on(self, step: Step) -> bool:
        when = step.when
        return when if isinstance(when, bool) else bool(self._values.of(when, f"{step.id}.when"))

    def _bypass(self, step: Step) -> End | None:
        """The only input of a switched-off step that can stand for its only output, or None."""
        fitting = self._fitting(step)
        return fitting[0][1] if len(fitting) == 1 else None

    def _fitting(self, step: Step) -> list[tuple[str, End]]:
        """The inputs of a step that fit its only output, by socket; none where it has several."""
        outputs = self._types.outputs(step.id)
        if list(outputs) != [""]:
            return []
        ends = [(name, end) for name, ends in step.wires.items() for end in ends]
        return [(name, end) for name, end in ends if fits(self._given(end), outputs[""])]

    def _given(self, end: End) -> Any:
        return self._types.of(end) or Any

    def _slot(self, end: End) -> int:
        """The number under which a value is held during a run."""
        key = (end.node, end.output) if isinstance(end, Wire) else ("", end.name)
        slot = self._slot_of.get(key)
        if slot is None:
            slot = self._slot_of[key] = len(self._slot_of)
            if key[0]:
                self._taken[key[0]] = (*self._taken.get(key[0], ()), slot)
        return slot

    def _cycle(self, source: str, name: str) -> None:
        self._graph.check()
        raise GraphError(f"{source} and {name} wait for each other")

    def _result(self, wire: Wire) -> Wire:
        """Where a wanted value comes from; GraphError when that is switched off, without a stand-in."""
        found = self._sender(wire)
        if isinstance(found, Wire):
            return found
        step, why = self._why_not(wire)
        text = f"{wire.node} is wanted as an output, but "
        text += "it" if step.id == wire.node else step.id
        error = GraphError(
            f"{text} is switched off by its `when`, and {why}; switch it on, or choose another output"
        )
        raise placed(error, step, self._values.known, "when")

    def _nothing(self, name: str, socket: str, end: End) -> None:
        assert isinstance(end, Wire)  # a parameter is never switched off
        step, why = self._why_not(end)
        error = GraphError(
            f"{name}.{socket}: {step.id} is switched off, and {why}; "
            f"switch {name} off too, or wire something else to it"
        )
        raise placed(error, step, self._values.known, "when")

    def _why_not(self, wire: Wire) -> tuple[Step, str]:
        """The switched-off step that a value ends at, and why nothing can stand in for it."""
        step = self._steps[wire.node]
        fitting = self._fitting(step)
        while len(fitting) == 1 and isinstance(end := fitting[0][1], Wire):
            step = self._steps[end.node]
            fitting = self._fitting(step)
        outputs = self._types.outputs(step.id)
        if list(outputs) != [""]:
            return step, f"no input can stand in for several outputs ({', '.join(outputs)})"
        kind = type_text(outputs[""])
        if not fitting:
            return step, f"none of its inputs could stand in for its output ({kind})"
        if len(fitting) == 1:
            return step, "what would stand in for it is a parameter, not the output of a node"
        names = list(dict.fromkeys(name for name, _ in fitting))
        return step, f"more than one input could stand in for its output ({kind}): {', '.join(names)}"
