"""One pass of a vision tower for graphs that read it differently: with [CLS] or without, by its number or by
the checkpoint's, each with its own side channels."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import cost
from ..foreseen import KnownTokens
from ..models.handle import Model, TowerFacts
from ..models.tower import layer_number
from ..plan import Plan, Planned

ENCODE = "encode_vision"


class Reading(NamedTuple):
    """How a step reads the tower: settings that equal steps share, and whether it keeps [CLS]."""

    widgets: dict[str, Any]
    cls_token: bool


def reading(plan: Plan, planned: Planned) -> Reading | None:
    """How a step reads the tower, with what the checkpoint decides spelled out; None for other steps.

    A tower that has no [CLS] is read in one way.
    """
    if planned.statics.type.name != ENCODE:
        return None
    facts = _tower(plan, planned)
    if facts is None or not facts.has_cls:
        return None
    widgets = dict(planned.widgets)
    layer = facts.select_layer if widgets["layer"] is None else widgets["layer"]
    features = facts.select_feature if widgets["features"] == "auto" else widgets["features"]
    widgets |= {"layer": layer_number(f"{planned.id}.layer", facts, layer), "features": ""}
    return Reading(widgets, features == "cls_patch")


def own_flops(plan: Plan, planned: Planned, tokens: int) -> int | None:
    """FLOPs of a tower that runs no further than this graph needs; None where they are not known.

    tokens: what the step gives. A pass that is shared may go on to a layer that only another graph reads.
    """
    facts, known = _tower(plan, planned), planned.known
    found = reading(plan, planned)
    if found is None or facts is None or not isinstance(known, KnownTokens) or not known.per_tile:
        return None
    layers = [found.widgets["layer"]]
    layers += [layer_number("", facts, need.layer) for need in planned.wanted if need.layer is not None]
    extra = int(found.cls_token)
    tiles = tokens // known.per_tile
    return cost.tower(facts, tiles, known.per_tile - extra, max(layers), extra=int(facts.has_cls))


def _tower(plan: Plan, planned: Planned) -> TowerFacts | None:
    """What is known of the tower that a step is given."""
    for name, _, slots in planned.inputs:
        for slot in slots if name == "vision" else ():
            value = plan.given.get(slot)
            if value is None:
                value = known_of(plan, slot)
            if isinstance(value, Model):
                return value.facts.tower
    return None


def known_of(plan: Plan, slot: int) -> Any:
    """What is known, before a run, of the value in a slot."""
    maker = next((step for step in plan.steps if slot in step.outs), None)
    if maker is None or maker.known is None:
        return None
    return getattr(maker.known, plan.fields[slot], None) if plan.fields[slot] else maker.known
