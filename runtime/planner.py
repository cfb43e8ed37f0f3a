"""How an arrangement becomes a plan: settings, side channels, foresight, keys, and what the cache holds.

Every traversal is a loop over lists, linear in steps and wires.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .arrange import Arrangement, placed
from .binding import Values
from .build import ParamRef
from .cache import Cache
from .context import Context, use
from .demand import Demand
from .errors import GraphError, LoomError, did_you_mean
from .ir import Step
from .keys import frozen, value_key
from .needs import Need
from .plan import State
from .recipes import OWN, Recipes
from .widgets import MISSING

_NONE: frozenset[Need] = frozenset()


class Planner:
    """One list per fact, in the order of the steps."""

    def __init__(
        self, made: Arrangement, values: Values, device: str, dtype: str, cache: Cache | None
    ) -> None:
        self.made, self.values, self.device, self.dtype, self.cache = made, values, device, dtype, cache
        self.widgets = self._widgets()
        self.wanted: Mapping[int, frozenset[Need]] = {}
        if any(facts.has_needs for facts in dict.fromkeys(made.statics)):
            self.wanted = Demand(made, values.known, self.widgets).wanted()
        self.known = self._foresee()
        self.volatile = bytearray(len(made.order))
        settings = [
            frozen(widgets) if facts.has_paths else widgets
            for facts, widgets in zip(made.statics, self.widgets, strict=True)
        ]
        self.recipes = Recipes(made, settings, self.wanted, self.known, device, dtype)
        self.keys = self._keys()

    def _widgets(self) -> list[Mapping[str, Any]]:
        """Every step's settings: parameters put in, checked, defaults filled in."""
        out: list[Mapping[str, Any]] = []
        for step, fixed in zip(self.made.order, self.made.fixed, strict=True):
            if fixed is not None:
                out.append(fixed)
                continue
            given = self._filled(step)
            try:
                out.append(given if MISSING in given.values() else step.type.check_widgets(given, step.id))
            except LoomError as error:
                raise placed(error, step) from None
        self.values.complete()
        return out

    def _filled(self, step: Step) -> dict[str, Any]:
        return {
            name: self.values.of(value, f"{step.id}.{name}") if isinstance(value, ParamRef) else value
            for name, value in step.widgets.items()
        }

    def _foresee(self) -> dict[int, Any]:
        """What is known of every step's output before it runs; what cannot work is an error here."""
        known: dict[int, Any] = {}
        for number, step in enumerate(self.made.order):
            foresee = step.type.foresee
            if foresee is None:
                continue
            context = Context(
                device=step.device or self.device, dtype=self.dtype, wanted=self.wanted.get(number, _NONE)
            )
            try:
                with use(context):
                    value = foresee(*self._foreseen(number, known), **self.widgets[number])
            except Exception as error:
                raise placed(error, step) from None
            if value is not None:
                known[number] = value
        return known

    def _foreseen(self, number: int, known: Mapping[int, Any]) -> list[Any]:
        """What is known of a step's inputs, in the order of its sockets; None for what is not."""
        made = self.made
        fed = {name: slots for name, _, slots in made.inputs[number]}
        args: list[Any] = []
        for name, variadic, _ in made.statics[number].sockets:
            found = [self._known(slot, known) for slot in fed.get(name, ())]
            args += found if variadic else found or [None]
        return args

    def _known(self, slot: int, known: Mapping[int, Any]) -> Any:
        maker, field = self.made.makers[slot], self.made.fields[slot]
        if maker < 0:
            return self.values.known.get(field)
        value = known.get(maker)
        return value if value is None or not field else getattr(value, field, None)

    def _keys(self) -> list[str]:
        """Keys in order. An impure step, and all that follows it, has a key of this run's own."""
        made, volatile, recipes = self.made, self.volatile, self.recipes
        slot_keys = recipes.slot_keys
        for slot, maker in enumerate(made.makers):
            if maker < 0:
                slot_keys[slot] = value_key(self.values.known[made.fields[slot]]) or OWN
        keys: list[str] = []
        run = ""
        for number, step in enumerate(made.order):
            inputs = recipes.inputs(number)
            impure = not step.type.pure
            for text in inputs:
                if OWN in text:
                    impure = True
            if impure:
                volatile[number] = 1
                run = run or os.urandom(8).hex()
                key = f"{OWN}{run}-{number}"
            else:
                key = recipes.key(number, inputs)
            keys.append(key)
            for slot in made.outs[number]:
                slot_keys[slot] = f"{key}:{made.fields[slot]}" if made.fields[slot] else key
        return keys

    # -- the cache -----------------------------------------------------------------------------------------

    def states(self, from_: str | None) -> list[State]:
        """From the results upstream, as far as the cache does not know the value."""
        made, keys, cache = self.made, self.keys, self.cache
        fresh, before = (set[int](), set[int]()) if from_ is None else self._around(from_)
        states: list[State] = ["skip"] * len(keys)
        seen = bytearray(len(keys))
        missing: list[str] = []
        stack = list(made.targets)
        while stack:
            number = stack.pop()
            if seen[number]:
                continue
            seen[number] = 1
            if cache is not None and not self.volatile[number] and number not in fresh:
                held = cache.where(keys[number])
                if held is not None:
                    states[number] = held
                    continue
            if number in before:
                missing.append(made.order[number].id)
                continue
            states[number] = "run"
            stack += made.sources(number)
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise GraphError(
                f"from: {', '.join(sorted(missing))} {verb} not in the cache, "
                f"and {from_} goes on from there; run without --from, or from {missing[0]} on"
            )
        return states

    def _around(self, from_: str) -> tuple[set[int], set[int]]:
        """The step `from_` and everything after it; everything that it depends on."""
        made = self.made
        if from_ not in made.number:
            hint = did_you_mean(from_, made.number)
            raise GraphError(f"from: no node of this run is called {from_!r}{hint}")
        after = {made.number[from_]}
        for number in range(len(made.order)):
            if any(source in after for source in made.sources(number)):
                after.add(number)
        before: set[int] = set()
        stack = made.sources(made.number[from_])
        while stack:
            number = stack.pop()
            if number not in before:
                before.add(number)
                stack += made.sources(number)
        return after, before
