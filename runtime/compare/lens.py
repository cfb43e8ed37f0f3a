"""A graph with what a comparison reads off it: the first token's scores, rows per layer, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import registry
from ..errors import CompareError
from ..graph import Graph
from ..ir import Wire
from ..sweep.gauge import generating, source_of
from ..values import Frames, LLMState, Tiles
from .steps import LAYER_TABLE

STATE, LEFT, KEPT, LOGITS, LAYERS = (f"compare_{n}" for n in ("state", "tokens", "kept", "logits", "layers"))
ADDED = frozenset((STATE, LEFT, KEPT, LOGITS, LAYERS))  # steps whose cost no graph is charged for


@dataclass(frozen=True, kw_only=True)
class Lens:
    """graph: what is run. outputs: of it, by what they are to a comparison. seen: the graph as it was, with
    its picture among the outputs, for recipes."""

    graph: Graph
    outputs: Mapping[str, str]
    seen: Graph

    @classmethod
    def of(cls, graph: Graph) -> Lens:
        """A lens on a copy of the graph. Errors: CompareError for one that answers nothing."""
        seen = graph.copy()
        last = generating(seen)
        wires = (None, None) if last is None else (source_of(last, "llm"), source_of(last, "state"))
        llm, state = wires
        if last is None or llm is None or state is None:
            raise CompareError(
                "has no `generate` that a prompt or a state is wired to, so there is no answer to compare"
            )
        outputs = {"answer": f"{last.id}.answer"}
        if seen.steps[state.node].type.outputs.get(state.output) is not LLMState:
            seen.add(registry.find("prefill"), (seen[str(llm)], seen[str(state)]), id=STATE)
            state = Wire(STATE)
        frames = pictures(seen, state.node)
        if frames:
            seen.add(registry.find("read_tokens"), (seen[str(state)],), id=LEFT)
            edges = (seen[str(wire)] for wire in frames)
            seen.add(registry.find("overlay_tokens"), (seen[LEFT], *edges), id=KEPT)
            seen.output(**{KEPT: seen[KEPT]})
            outputs["kept"] = KEPT
        made = seen.copy()
        if STATE not in made.steps:  # the layers that it has left, if there are any
            made.add(registry.find("prefill"), (made[str(llm)], made[str(state)]), id=STATE)
        made.add(registry.find("read_logits"), (made[str(llm)], made[STATE]), id=LOGITS)
        made.add(LAYER_TABLE, (made[STATE],), id=LAYERS)
        return cls(graph=made, outputs={**outputs, "logits": LOGITS, "layers": LAYERS}, seen=seen)


def pictures(graph: Graph, id: str) -> list[Wire]:
    """The frames that the tiles upstream of a step are made of, in order, each once."""
    found: dict[Wire, None] = {}
    seen = {id}
    stack = [id]
    while stack:
        step = graph.steps[stack.pop()]
        if Tiles in step.type.outputs.values():
            ends = [(name, end) for name, ends in step.wires.items() for end in ends]
            found |= {
                end: None
                for name, end in ends
                if isinstance(end, Wire) and step.type.sockets[name].type is Frames
            }
        fresh = [source for source in reversed(step.sources) if source not in seen]
        seen.update(fresh)
        stack += fresh
    return list(found)
