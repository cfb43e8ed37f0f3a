"""The recipes of all steps of a plan, in columns; one is put together when it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .arrange import Arrangement
from .keys import Recipe, recipe_key, settings_text
from .needs import Need

OWN = "~"  # starts a key that is one run's own: of an impure step, or of what follows it
_NONE: frozenset[Need] = frozenset()


class Recipes:
    """What the keys of a plan's steps are made of. slot_keys: the key of the value in each slot."""

    def __init__(
        self,
        made: Arrangement,
        widgets: Sequence[Mapping[str, Any]],
        wanted: Mapping[int, frozenset[Need]],
        known: Mapping[int, Any],
        device: str,
        dtype: str,
    ) -> None:
        self._made, self._widgets, self._wanted, self._known = made, widgets, wanted, known
        self._device, self._dtype = device.partition(":")[0], dtype
        self.codes = {facts: facts.reread() for facts in made.kinds}
        self.slot_keys: list[str] = [""] * len(made.makers)

    def number(self, name: str) -> int | None:
        """The number of a step; None when it is not there."""
        return self._made.number.get(name)

    def __getitem__(self, number: int) -> Recipe:
        return Recipe(
            (facts := self._made.statics[number]),
            self.codes[facts],
            self._widgets[number],
            self.inputs(number),
            self._wanted.get(number, _NONE),
            self._known.get(number),
            self._place(number),
            self._dtype,
        )

    def key(self, number: int, inputs: tuple[str, ...]) -> str:
        """The key of a step."""
        made = self._made
        settings = made.settings.get(number)
        if settings is None:
            settings = settings_text(self._widgets[number])
            if not made.unsettled[number]:
                made.settings[number] = settings
        return recipe_key(
            made.statics[number],
            settings,
            inputs,
            self._wanted.get(number, _NONE),
            self._known.get(number),
            self._place(number),
            self._dtype,
        )

    def inputs(self, number: int) -> tuple[str, ...]:
        """`socket key key`, for every socket that is fed."""
        keys = self.slot_keys
        return tuple(
            [
                f"{name} {keys[slots[0]] if len(slots) == 1 else ' '.join([keys[slot] for slot in slots])}"
                for name, _, slots in self._made.inputs[number]
            ]
        )

    def _place(self, number: int) -> str:
        device = self._made.order[number].device
        return self._device if device is None else device.partition(":")[0]
