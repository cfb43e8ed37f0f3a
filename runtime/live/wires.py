"""One graph for several pictures and clips: its steps before the prompt once for each wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..build import ParamRef
from ..graph import Graph
from ..ir import Param, Step, Wire
from ..values import Tiles
from .graft import TILES, End, Form, place_sources


def wired(forms: Sequence[Form]) -> tuple[Graph, list[str]]:
    """A graph with a wire of visual tokens for every form, and the parameters that hold their tiles.

    The first form gives the steps behind the prompt; of the others only those before it are taken.
    """
    first = forms[0]
    if len(forms) == 1:
        return first.graph, [TILES]
    made = Graph(first.graph.title, at=first.graph.at)
    made.params, made.outputs = dict(first.graph.params), dict(first.graph.outputs)
    made.steps, names = dict(first.graph.steps), [TILES]
    ends = list(made.steps[first.place].wires["visual"])
    for number, form in enumerate(forms[1:], 2):
        tiles = f"{TILES}{number}"
        names.append(tiles)
        made.params = {**form.graph.params, **made.params, tiles: Param(tiles, Tiles, default=None)}
        for name in form.branch:
            step = _moved(form.graph.steps[name], number, tiles)
            made.steps[step.id] = step
        place = form.graph.steps[form.place]
        ends += [Wire(_name(w.node, number), w.output) for w in place.wires["visual"] if isinstance(w, Wire)]
        assert place_sources(place)
    made.steps[first.place] = replace(
        made.steps[first.place], wires={**made.steps[first.place].wires, "visual": tuple(ends)}
    )
    made.check()
    return made, names


def _moved(step: Step, number: int, tiles: str) -> Step:
    """The step of another wire: it takes from the steps of its own, and from its own tiles."""

    def end(one: End) -> End:
        if isinstance(one, Wire):
            return Wire(_name(one.node, number), one.output)
        return ParamRef(tiles) if one.name == TILES else one

    wires = {name: tuple(map(end, ends)) for name, ends in step.wires.items()}
    return replace(step, id=_name(step.id, number), wires=wires)


def _name(step: str, number: int) -> str:
    return f"wire{number}/{step}"
