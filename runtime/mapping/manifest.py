"""What all rows of a folder were made of, and in what a second run differs from that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import ndiff
from typing import Any

from ..describe import describe
from ..errors import MapError
from ..keys import value_key
from ..plan import Plan
from ..report.recipe import recipe_of
from ..sweep.identity import graph_hash, graph_name, graph_text

FORMAT = 1
MARK = "tokenloom_map"
LINES = 6  # of a graph's differences that are told
# kept apart name by name, and how a difference is told
_NAMED = {
    "params": "the parameter {}",
    "files": "the file of {}",
    "models": "the checkpoint of step {}",
    "nodes": "the code of node {}",
    "versions": "the version of {}",
}
_PLAIN = ("device", "dtype", "save")


def manifest_of(
    made: Plan, common: Mapping[str, Any], own: Mapping[str, Any], save: Sequence[str]
) -> dict[str, Any]:
    """The manifest. made: the plan of one item. common: parameters that all items share; own: its own."""
    recipe = recipe_of(made)
    widgets = {name: made.graph.params[name].widget for name in common}
    live = {n: value_key(common[n]) or describe(common[n]) for n, widget in widgets.items() if widget is None}
    facts = {
        MARK: FORMAT,
        "graph": graph_name(made.graph),
        "graph_hash": graph_hash(made.graph),
        "graph_yaml": graph_text(made.graph),
        "params": {**{n: recipe.params[n] for n, widget in widgets.items() if widget is not None}, **live},
        "files": {one.at: one.fingerprint for one in recipe.files if one.at not in own},
        "models": {step: list(prints) for step, prints in recipe.models.items()},
        "nodes": {name: asdict(one) for name, one in recipe.nodes.items()},
        "versions": dict(recipe.versions),
        "device": made.device.partition(":")[0],
        "dtype": made.dtype,
        "save": sorted(save),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return found


def check_resumed(old: Mapping[str, Any], new: Mapping[str, Any], folder: object) -> None:
    """Errors: MapError that names everything in which a run is not the one that a folder was begun with."""
    if old.get(MARK) != FORMAT:
        raise MapError(
            f"{folder}: its manifest is of format {old.get(MARK)}, wanted {FORMAT}; choose another folder"
        )
    if found := list(_differences(old, new)):
        raise MapError(
            "\n".join(
                [
                    f"{folder}: was begun with something else, and its rows would not fit together; choose "
                    "another folder, or undo:",
                    *(f"  {text}" for text in found),
                ]
            )
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old.get("graph_hash") != new["graph_hash"]:
        yield f"the graph ({old.get('graph')}, now {new['graph']})"
        yield from (f"  {line}" for line in _lines(str(old.get("graph_yaml")), new["graph_yaml"]))
    for part, told in _NAMED.items():
        before, now = old.get(part, {}), new[part]
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name):
                values = f": {_text(before.get(name))}, now {_text(now.get(name))}"
                yield told.format(name) + (values if part in ("params", "versions") else "")
    for part in _PLAIN:
        if old.get(part) != new[part]:
            yield f"{part}: {_text(old.get(part))}, now {_text(new[part])}"


def _lines(old: str, new: str) -> list[str]:
    found = [line for line in ndiff(old.splitlines(), new.splitlines()) if line[0] in "+-"]
    return found if len(found) <= LINES else [*found[:LINES], f"and {len(found) - LINES} more lines"]


def _text(value: Any) -> str:
    return "not given" if value is None else json.dumps(value, ensure_ascii=False)
