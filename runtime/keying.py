"""The keys of all steps of a plan, made anew only where something may have changed since the last plan.

A step is looked at in every plan if a parameter sets it or is wired to it, if it names files, foresees, or is
impure; any other step, when a key that is wired to it or the side channels asked of it have changed. Another
device or dtype, or a reloaded module, and everything is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .arrange import Arrangement
from .keys import value_key
from .needs import Need
from .recipes import OWN, Recipes


class Kept(NamedTuple):
    """What an arrangement's latest plan found, for the next one. slots: the keys of the values in them."""

    place: tuple[str, str, list[str]]  # device, dtype, code of the node types
    wanted: Mapping[int, frozenset[Need]]
    keys: list[str]
    slots: list[str]
    volatile: bytearray


def keep_keys(
    made: Arrangement,
    recipes: Recipes,
    known: Mapping[str, Any],
    wanted: Mapping[int, frozenset[Need]],
    device: str,
    dtype: str,
    *,
    cached: bool,
) -> Kept:
    """The keys of every step; `recipes.slot_keys` is filled in. known: the values of the run's parameters.

    An impure step, and all that follows it, has a key of this run's own. cached: False for a run that looks
    nothing up: large values that it is given, such as pictures, are then not read through for a key.
    """
    place = (device, dtype, [code.digest for code in recipes.codes.values()])
    old: Kept | None = made.kept
    look = bytearray(b"\1" * len(made.order))
    kept = Kept(place, wanted, [""] * len(look), recipes.slot_keys, bytearray(len(look)))
    if old is not None and old.place == place:
        look = bytearray(made.unsettled)
        kept = Kept(place, wanted, old.keys.copy(), recipes.slot_keys, old.volatile.copy())
        recipes.slot_keys[:] = old.slots
        for number in old.wanted.keys() | wanted.keys() if old.wanted or wanted else ():
            look[number] |= old.wanted.get(number) != wanted.get(number)
    for slot, name in made.given:
        recipes.slot_keys[slot] = (value_key(known[name]) if cached else None) or OWN
    _look(made, recipes, kept, look)
    made.kept = kept
    return kept


def _look(made: Arrangement, recipes: Recipes, kept: Kept, look: bytearray) -> None:
    """Make the keys of the steps that are marked, and mark those that take a value with a changed key."""
    _, _, keys, slots, volatile = kept
    own = ""
    number = look.find(1)
    while number >= 0:
        inputs = recipes.inputs(number)
        impure = not made.order[number].type.pure
        for text in inputs:
            impure = impure or OWN in text
        volatile[number] = impure
        if impure:
            own = own or os.urandom(8).hex()
            key = f"{OWN}{own}-{number}"
        else:
            key = recipes.key(number, inputs)
        if key != keys[number]:
            keys[number] = key
            for slot in made.outs[number]:
                field = made.fields[slot]
                slots[slot] = f"{key}:{field}" if field else key
                for taker in made.takers[slot]:
                    look[taker] = 1
        number = look.find(1, number + 1)
