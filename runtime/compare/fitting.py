"""Which bundled methods can be asked about what is given, when nobody says which to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ancestry import uncompressed
from ..errors import CompareError, LoomError
from ..layers import builtin_graphs
from ..sweep.items import MEDIA
from ..sweep.problems import Problems
from ..yamlfile import load
from .field import Player, player
from .spec import Entrant, parameter, read_entrants


def fitting(
    inputs: Mapping[str, Any], device: str, dtype: str, problems: Problems
) -> tuple[list[str], tuple[str, ...]]:
    """The names of the largest set of bundled methods that read one model and take these inputs.

    And notes on the others. Mixes, graphs with pictures and uncompressed graphs are left out.
    """
    given = [name for name in MEDIA if name in inputs]
    if not given:
        problems.say("nothing to compare: name graphs, or give image=FILE or video=FILE for those that fit")
        return [], ()
    sets: dict[str, list[str]] = {}
    called: dict[str, str] = {}
    for name in builtin_graphs():
        found = None if "/" in name else _fits(name, inputs, device, dtype)
        if found is not None and found.llm is not None:
            sets.setdefault(found.llm.fingerprint, []).append(name)
            called[found.llm.fingerprint] = str(found.entrant.value("checkpoint") or found.llm.folder)
    if not sets:
        problems.say(f"no bundled method takes {', '.join(f'{n}={inputs[n]}' for n in given)}; name graphs")
        return [], ()
    most = max(sets, key=lambda key: len(sets[key]))
    others = [f"{', '.join(names)} (checkpoint={called[key]})" for key, names in sets.items() if key != most]
    note = f"not compared, for they read other models: {'; '.join(others)}" if others else ""
    return sets[most], (note,) if note else ()


def _fits(name: str, inputs: Mapping[str, Any], device: str, dtype: str) -> Player | None:
    """The graph with these inputs, if it compresses something and can be run on them."""
    graph = load(name)
    media = [one for one in MEDIA if one in inputs]
    if not any(parameter(graph, one) == one for one in media):
        return None
    try:
        if uncompressed(graph).steps == graph.steps:
            return None
        quiet = Problems(CompareError)
        [entrant] = read_entrants([name], inputs, quiet)
        quiet.stop()
        return player(Entrant(name=name, graph=graph, params=entrant.params), device, dtype)
    except LoomError:
        return None
