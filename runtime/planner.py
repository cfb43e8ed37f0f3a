"""How an arrangement becomes a plan: settings, side channels, foresight, keys, and what the cache holds.

Every traversal is a loop over lists, linear in steps and wires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .arrange import Arrangement
from .binding import Values
from .blame import placed
from .build import ParamRef
from .cache import SLOW, Cache
from .context import Context, current, use
from .demand import Demand
from .errors import GraphError, LoomError, did_you_mean
from .ir import Step
from .keying import keep_keys
from .keys import frozen
from .needs import Need
from .plan import State
from .recipes import Recipes
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
        if made.has_needs:
            self.wanted = Demand(made, values.known, self.widgets).wanted()
        self.known = self._foresee()
        self.recipes = Recipes(made, self._settings(), self.wanted, self.known, device, dtype)
        kept = keep_keys(
            made, self.recipes, values.known, self.wanted, device, dtype, cached=cache is not None
        )
        self.keys, self.volatile = kept.keys, kept.volatile

    def _widgets(self) -> Sequence[Mapping[str, Any]]:
        """Every step's settings: parameters put in, checked, defaults filled in."""
        out = self.made.fixed.copy()
        for number in self.made.open:
            step = self.made.order[number]
            given = self._filled(step)
            try:
                out[number] = given if MISSING in given.values() else step.type.check_widgets(given, step.id)
            except LoomError as error:
                raise placed(error, step, self.values.known) from None
        self.values.complete()
        return out

    def _settings(self) -> Sequence[Mapping[str, Any]]:
        """The settings, with what lies at their paths now."""
        out = self.widgets
        if self.made.naming_files:
            out = list(out)
            for number in self.made.naming_files:
                out[number] = frozen(out[number])
        return out

    def _filled(self, step: Step) -> dict[str, Any]:
        return {
            name: self.values.of(value, f"{step.id}.{name}") if isinstance(value, ParamRef) else value
            for name, value in step.widgets.items()
        }

    def _foresee(self) -> dict[int, Any]:
        """What is known of every step's output before it runs; what cannot work is an error here."""
        known: dict[int, Any] = {}
        for number in self.made.foreseeing:
            step = self.made.order[number]
            foresee = step.type.foresee
            assert foresee is not None
            context = Context(
                device=step.device or self.device,
                dtype=self.dtype,
                wanted=self.wanted.get(number, _NONE),
                wired=frozenset(name for name, _, slots in self.made.inputs[number] if slots),
                decoder=current().decoder,
            )
            try:
                with use(context):
                    value = foresee(*self._foreseen(number, known), **self.widgets[number])
            except Exception as error:
                raise placed(error, step, self.values.known) from None
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
            stack += made.sources[number]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise GraphError(
                f"from: {', '.join(sorted(missing))} {verb} not in the cache, "
                f"and {from_} goes on from there; run without --from, or from {missing[0]} on"
                f"{self._not_on_disk(missing)}"
            )
        return states

    def _not_on_disk(self, missing: list[str]) -> str:
        """Why the disk tier may not have what an earlier process made; "" without one."""
        if self.cache is None or self.cache.disk is None:
            return ""
        verb = "was" if len(missing) == 1 else "were"
        return (
            f" (if {', '.join(sorted(missing))} {verb} made by another process: values of 1 MB and more that "
            f"took less than {SLOW * 1000:.0f} ms are put on disk only when a run fails; making them again "
            "is as quick as reading them)"
        )

    def _around(self, from_: str) -> tuple[set[int], set[int]]:
        """The step `from_` and everything after it; everything that it depends on."""
        made = self.made
        if from_ not in made.number:
            hint = did_you_mean(from_, made.number)
            raise GraphError(f"from: no node of this run is called {from_!r}{hint}")
        after = {made.number[from_]}
        for number in range(len(made.order)):
            if any(source in after for source in made.sources[number]):
                after.add(number)
        before: set[int] = set()
        stack = [*made.sources[made.number[from_]]]
        while stack:
            number = stack.pop()
            if number not in before:
                before.add(number)
                stack += made.sources[number]
        return after, before
