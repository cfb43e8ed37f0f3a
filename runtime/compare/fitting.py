"""Which bundled methods can be asked about what is given, when nobody says which to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ancestry import uncompressed
from ..errors import CompareError, LoomError
from ..layers import builtin_graphs
from ..sweep.identity import graph_name
from ..sweep.items import MEDIA
from ..sweep.problems import Problems
from ..yamlfile import load
from .field import player
from .spec import Entrant, parameter, read_entrants


def fitting(
    inputs: Mapping[str, Any], device: str, dtype: str, problems: Problems
) -> tuple[list[str], tuple[str, ...]]:
    """The names of the largest set of bundled methods that read one model, as one base does.

    And notes on the others. Mixes, graphs with pictures and uncompressed graphs are left out.
    """
    given = [name for name in MEDIA if name in inputs]
    if not given:
        problems.say("nothing to compare: name graphs, or give image=FILE or video=FILE for those that fit")
        return [], ()
    sets: dict[tuple[str, str], list[str]] = {}
    for name in builtin_graphs():
        base = None if "/" in name else _fits(name, inputs, device, dtype)
        if base is not None:
            sets.setdefault(base, []).append(name)
    if not sets:
        problems.say(f"no bundled method takes {', '.join(f'{n}={inputs[n]}' for n in given)}; name graphs")
        return [], ()
    most = max(sets, key=lambda key: len(sets[key]))
    others = [f"{', '.join(names)} ({key[0]})" for key, names in sets.items() if key != most]
    note = f"compared are the methods on {most[0]}; name others to see them: {'; '.join(others)}"
    return sets[most], (note,) if others else ()


def _fits(name: str, inputs: Mapping[str, Any], device: str, dtype: str) -> tuple[str, str] | None:
    """The base of a graph that compresses and can be run on these inputs, and its language model; or None."""
    graph = load(name)
    media = [one for one in MEDIA if one in inputs]
    if not any(parameter(graph, one) == one for one in media):
        return None
    try:
        base = uncompressed(graph)
        if base.steps == graph.steps:
            return None
        quiet = Problems(CompareError)
        [entrant] = read_entrants([name], inputs, quiet)
        quiet.stop()
        llm = player(Entrant(name=name, graph=graph, params=entrant.params), device, dtype).llm
    except LoomError:
        return None
    return None if llm is None else (graph_name(base), llm.fingerprint)
