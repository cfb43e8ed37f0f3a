"""How a plan is made: pruning and `when`, side channels, foresight, keys, and what the cache holds.

Every traversal is a loop over lists, linear in steps and wires.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .build import ParamRef
from .cache import Cache
from .context import Context, use
from .demand import Demand
from .errors import GraphError, LoomError, did_you_mean
from .fit import fits, holds
from .ir import Step, Wire
from .keys import Recipe, value_key
from .needs import Need
from .plan import Plan, Planned, State
from .statics import Statics, statics
from .widgets import MISSING, type_text

if TYPE_CHECKING:
    from .graph import Graph

End = Wire | ParamRef
_NONE: frozenset[Need] = frozenset()


class Planner:
    """The working state of one `plan` call: one list per fact, in the order of the steps."""

    def __init__(
        self, graph: Graph, params: dict[str, Any], device: str, dtype: str, cache: Cache | None
    ) -> None:
        self.graph, self.steps, self.device, self.dtype, self.cache = graph, graph.steps, device, dtype, cache
        self.params = self._bind(params)
        self.missing: dict[str, str] = {}
        self.through: dict[str, End | None] = {}
        self.order: list[Step] = []
        self.number: dict[str, int] = {}
        self.feeds: dict[str, list[tuple[str, bool, list[End]]]] = {}
        self.slot_of: dict[tuple[str, str], int] = {}
        self.outs: list[list[tuple[str, int]]] = []
        self.statics: list[Statics] = []

    def plan(self, outputs: Collection[str] | None, until: str | None, from_: str | None) -> Plan:
        results = self._results(outputs, until)
        targets = list(dict.fromkeys(wire.node for wire in results.values()))
        self._arrange(targets)
        if self.missing:
            raise GraphError("\n".join(self.missing.values()))
        inputs, sources = self._slots()
        named = {name: self._slot(wire) for name, wire in results.items()}
        widgets = self._widgets()
        wanted = self._demand(widgets)
        known = self._foresee(widgets, wanted)
        keys, recipes, volatile = self._keys(widgets, wanted, known)
        numbers = [self.number[target] for target in targets]
        states = self._states(keys, volatile, sources, numbers, from_)
        steps = tuple(
            Planned(
                i,
                step.id,
                step,
                self.statics[i],
                widgets[i],
                inputs[i],
                tuple(self.outs[i]),
                sources[i],
                wanted.get(i, _NONE),
                known.get(i),
                keys[i],
                recipes[i],
                volatile[i],
                step.device or self.device,
                states[i],
            )
            for i, step in enumerate(self.order)
        )
        given = {self.slot_of["", n]: v for n, v in self.params.items() if ("", n) in self.slot_of}
        return Plan(
            self.graph,
            self.params,
            steps,
            named,
            given,
            len(self.slot_of),
            tuple(numbers),
            self.device,
            self.dtype,
            self.cache,
            from_,
            until,
        )

    # -- parameters and outputs ----------------------------------------------------------------------------

    def _bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of all parameters that have one, checked."""
        known = self.graph.params
        for name in given:
            if name not in known:
                raise GraphError(f"params: no parameter is called {name!r}{did_you_mean(name, known)}")
        out: dict[str, Any] = {}
        for name, param in known.items():
            if name not in given:
                if param.default is not MISSING:
                    out[name] = param.default
            elif param.widget is not None:
                out[name] = param.widget.check("params", given[name])
            elif holds(given[name], param.type):
                out[name] = given[name]
            else:
                got = type_text(type(given[name]))
                raise GraphError(f"params.{name} wants {type_text(param.type)}, got {got}")
        return out

    def _value(self, ref: ParamRef, where: str) -> Any:
        """A parameter's value; a missing one is noted, so that all are reported at once."""
        if ref.name not in self.graph.params:
            self.graph.check()
        if ref.name in self.params:
            return self.params[ref.name]
        param = self.graph.params[ref.name]
        wanted = type_text(param.type) if param.widget is None else param.widget.describe()
        help = f" ({param.help})" if param.help else ""
        self.missing[ref.name] = f"params.{ref.name} has no value; wanted {wanted}{help}, for {where}"
        return MISSING

    def _results(self, outputs: Collection[str] | None, until: str | None) -> dict[str, Wire]:
        """What is wanted, as wires by result name. Without declared outputs: every step nobody takes from."""
        graph = self.graph
        if until is not None:
            if until not in self.steps:
                raise GraphError(f"until: no node is called {until!r}{did_you_mean(until, self.steps)}")
            return {until: Wire(until)}
        if outputs is None and graph.outputs:
            return dict(graph.outputs)
        if outputs is None:
            taken = {source for step in self.steps.values() for source in step.sources}
            found = {name: Wire(name) for name in self.steps if name not in taken}
            if self.steps and not found:
                graph.check()
            return found
        return {name: graph.outputs.get(name) or self._reference(name) for name in outputs}

    def _reference(self, name: str) -> Wire:
        node, _, output = name.partition(".")
        if node not in self.steps or (output and output not in self.steps[node].type.outputs):
            known = [*self.graph.outputs, *self.steps]
            raise GraphError(f"outputs: no output or node is called {name!r}{did_you_mean(name, known)}")
        return Wire(node, output)

    # -- what is needed, in which order --------------------------------------------------------------------

    def _on(self, step: Step) -> bool:
        when = step.when
        return when if isinstance(when, bool) else bool(self._value(when, f"{step.id}.when"))

    def _sender(self, end: End) -> End | None:
        """Where a value really comes from: past the steps that are switched off; None when nowhere."""
        passed: list[str] = []
        found: End | None = end
        while isinstance(found, Wire):
            step = self.steps.get(found.node)
            if step is None or len(passed) > len(self.steps):
                self.graph.check()
                raise GraphError(f"no node is called {found.node!r}{did_you_mean(found.node, self.steps)}")
            if step.when is True or self._on(step):
                break
            passed.append(step.id)
            found = self.through[step.id] if step.id in self.through else self._bypass(step)
        self.through.update(dict.fromkeys(passed, found))
        return found

    def _bypass(self, step: Step) -> End | None:
        """The only input of a switched-off step that can stand for its only output, or None."""
        outputs = step.type.outputs
        if list(outputs) != [""]:
            return None
        ends = [
            end for ends in step.wires.values() for end in ends if fits(self._given_type(end), outputs[""])
        ]
        return ends[0] if len(ends) == 1 else None

    def _given_type(self, end: End) -> Any:
        if isinstance(end, ParamRef):
            return self.graph.params[end.name].type
        return self.steps[end.node].type.outputs.get(end.output, Any)

    def _inputs(self, step: Step, facts: Statics) -> list[tuple[str, bool, list[End]]]:
        """Per socket that is fed: where its values come from."""
        out: list[tuple[str, bool, list[End]]] = []
        for name, variadic, required in facts.sockets:
            ends = step.wires.get(name, ())
            found = [end for e in ends if (end := self._sender(e)) is not None]
            if found:
                out.append((name, variadic, found))
            elif ends and required:
                off = ends[0].node if isinstance(ends[0], Wire) else ends[0].name
                raise GraphError(
                    f"{step.id}.{name}: {off} is switched off, and nothing can stand in for it; "
                    f"switch {step.id} off too, or wire something else to it"
                )
        return out

    def _arrange(self, targets: list[str]) -> None:
        """Depth first from the targets: each step after its sources, in the order of its sockets."""
        feeds, number = self.feeds, self.number
        for target in targets:
            if self._sender(Wire(target)) != Wire(target):
                raise GraphError(f"{target} is wanted as an output, but it is switched off by its `when`")
        for target in targets:
            stack = [target]
            while stack:
                name = stack[-1]
                if name in number:
                    stack.pop()
                elif name in feeds:
                    stack.pop()
                    number[name] = len(self.order)
                    self.order.append(self.steps[name])
                else:
                    stack += reversed(self._open(name))

    def _open(self, name: str) -> list[str]:
        """The sources of a step that are not arranged yet; a source that is still open is a cycle."""
        step = self.steps[name]
        self.feeds[name] = feeds = self._inputs(step, statics(step.type))
        sources = [end.node for _, _, ends in feeds for end in ends if isinstance(end, Wire)]
        for _, _, ends in feeds:
            for end in ends:
                if isinstance(end, ParamRef):
                    self._value(end, name)
        for source in sources:
            if source in self.feeds and source not in self.number:
                self.graph.check()
                raise GraphError(f"{source} and {name} wait for each other")
        return [source for source in sources if source not in self.number]

    def _slot(self, end: End) -> int:
        """The number under which a value is held during a run."""
        key = (end.node, end.output) if isinstance(end, Wire) else ("", end.name)
        slot = self.slot_of.get(key)
        if slot is None:
            slot = self.slot_of[key] = len(self.slot_of)
            if isinstance(end, Wire):
                self.outs[self.number[end.node]].append((end.output, slot))
        return slot

    def _slots(self) -> tuple[list[Any], list[tuple[int, ...]]]:
        self.outs = [[] for _ in self.order]
        self.statics = [statics(step.type) for step in self.order]
        inputs: list[Any] = []
        sources: list[tuple[int, ...]] = []
        for step in self.order:
            feeds = self.feeds[step.id]
            inputs.append(tuple((name, v, tuple([self._slot(e) for e in ends])) for name, v, ends in feeds))
            found = [self.number[e.node] for _, _, ends in feeds for e in ends if isinstance(e, Wire)]
            sources.append(tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found))
        return inputs, sources

    # -- settings, side channels, foresight, keys ----------------------------------------------------------

    def _widgets(self) -> list[Mapping[str, Any]]:
        """Every step's settings, parameters put in, checked, defaults filled in."""
        out: list[Mapping[str, Any]] = []
        for step, facts in zip(self.order, self.statics, strict=True):
            if not step.widgets and facts.defaults is not None:
                out.append(facts.defaults)
                continue
            given = step.widgets
            for value in given.values():
                if type(value) is ParamRef:
                    given = {
                        name: self._value(v, f"{step.id}.{name}") if isinstance(v, ParamRef) else v
                        for name, v in given.items()
                    }
                    break
            if not self.missing:
                try:
                    out.append(step.type.check_widgets(given, step.id))
                except LoomError as error:
                    raise _placed(error, step) from None
        if self.missing:
            raise GraphError("\n".join(self.missing.values()))
        return out

    def _demand(self, widgets: list[Mapping[str, Any]]) -> dict[int, frozenset[Need]]:
        if not any(facts.has_needs for facts in self.statics):
            return {}
        return Demand(self.order, self.number, self.feeds, self.params, widgets).wanted()

    def _foresee(
        self, widgets: list[Mapping[str, Any]], wanted: Mapping[int, frozenset[Need]]
    ) -> dict[int, Any]:
        """What is known of every step's output before it runs; what cannot work is an error here."""
        known: dict[int, Any] = {}
        for i, step in enumerate(self.order):
            foresee = step.type.foresee
            if foresee is None:
                continue
            feeds = {name: [self._known(e, known) for e in ends] for name, _, ends in self.feeds[step.id]}
            args: list[Any] = []
            for name, variadic, _ in self.statics[i].sockets:
                values = feeds.get(name, [])
                args += values if variadic else values or [None]
            context = Context(
                device=step.device or self.device, dtype=self.dtype, wanted=wanted.get(i, _NONE)
            )
            try:
                with use(context):
                    value = foresee(*args, **widgets[i])
            except Exception as error:
                raise _placed(error, step) from None
            if value is not None:
                known[i] = value
        return known

    def _known(self, end: End, known: Mapping[int, Any]) -> Any:
        if isinstance(end, ParamRef):
            return self.params.get(end.name)
        value = known.get(self.number[end.node])
        return value if value is None or not end.output else getattr(value, end.output, None)

    def _keys(
        self,
        widgets: list[Mapping[str, Any]],
        wanted: Mapping[int, frozenset[Need]],
        known: Mapping[int, Any],
    ) -> tuple[list[str], list[Recipe], list[bool]]:
        """Keys in order. An impure step, and all that follows it, has a key of this run's own."""
        keys: list[str] = []
        recipes: list[Recipe] = []
        volatile: list[bool] = []
        number, run = self.number, ""
        values = {
            n: value_key(v)
            for n, v in self.params.items()
            if self.graph.params[n].widget is None and ("", n) in self.slot_of
        }
        device = self.device.partition(":")[0]
        for i, step in enumerate(self.order):
            impure = not step.type.pure
            inputs: list[tuple[str, tuple[str, ...]]] = []
            for name, _, ends in self.feeds[step.id]:
                found: list[str] = []
                for end in ends:
                    if isinstance(end, Wire):
                        source = number[end.node]
                        impure = impure or volatile[source]
                        found.append(f"{keys[source]}:{end.output}" if end.output else keys[source])
                    else:
                        impure = impure or values[end.name] is None
                        found.append(str(values[end.name]))
                inputs.append((name, tuple(found)))
            place = device if step.device is None else step.device.partition(":")[0]
            recipe = Recipe(
                self.statics[i],
                widgets[i],
                tuple(inputs),
                wanted.get(i, _NONE),
                known.get(i),
                place,
                self.dtype,
            )
            if impure:
                run = run or os.urandom(8).hex()
                keys.append(f"run-{run}-{i}")
            else:
                keys.append(recipe.key())
            recipes.append(recipe)
            volatile.append(impure)
        return keys, recipes, volatile

    # -- the cache -----------------------------------------------------------------------------------------

    def _states(
        self,
        keys: list[str],
        volatile: list[bool],
        sources: list[tuple[int, ...]],
        targets: list[int],
        from_: str | None,
    ) -> list[State]:
        """From the targets upstream, as far as the cache does not know the value."""
        fresh = self._fresh(from_, sources)
        before = self._upstream(from_, sources)
        states: list[State] = ["skip"] * len(keys)
        seen = bytearray(len(keys))
        missing: list[str] = []
        stack = list(targets)
        while stack:
            i = stack.pop()
            if seen[i]:
                continue
            seen[i] = 1
            held = None
            if self.cache is not None and not volatile[i] and i not in fresh:
                held = self.cache.where(keys[i])
            if held is not None:
                states[i] = held
                continue
            if i in before:
                missing.append(self.order[i].id)
            states[i] = "run"
            stack += sources[i]
        if missing:
            raise GraphError(
                f"from: {', '.join(sorted(missing))} {'is' if len(missing) == 1 else 'are'} not in the cache, "
                f"and {from_} needs it; run without --from, or --from {missing[-1]}"
            )
        return states

    def _fresh(self, from_: str | None, sources: list[tuple[int, ...]]) -> set[int]:
        """The step `from_` and everything downstream of it."""
        if from_ is None:
            return set()
        if from_ not in self.number:
            known = self.number if from_ not in self.steps else {}
            hint = did_you_mean(from_, known) or "; the wanted outputs do not depend on it"
            raise GraphError(f"from: no node of this run is called {from_!r}{hint}")
        out = {self.number[from_]}
        for i, found in enumerate(sources):
            if any(source in out for source in found):
                out.add(i)
        return out

    def _upstream(self, from_: str | None, sources: list[tuple[int, ...]]) -> set[int]:
        """Everything that `from_` depends on, itself not counted."""
        if from_ is None:
            return set()
        out: set[int] = set()
        stack = list(sources[self.number[from_]])
        while stack:
            i = stack.pop()
            if i not in out:
                out.add(i)
                stack += sources[i]
        return out


def _placed(error: Exception, step: Step) -> Exception:
    """The error with a note that says which step of which file it is about."""
    at = f", {step.at}" if step.at else ""
    error.add_note(f"in node {step.id} ({step.type.name}){at}, while planning")
    return error
