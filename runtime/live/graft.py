"""A graph with its beginning cut off: models, tiles and prompt are given to it, in place of files.

What is left are the very steps of the graph, from the tower to the state that the answer is generated from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from ..build import ParamRef
from ..check import unused_params
from ..errors import GraphError, did_you_mean
from ..fit import bare
from ..graph import Graph
from ..ir import Param, Step, Wire
from ..models.chat import ChatFormat
from ..models.handle import Model
from ..models.language import LanguageModel
from ..models.projector import Projector
from ..models.tower import VisionTower
from ..values import Frames, Image, Prompt, Tiles, Video

Media = Literal["image", "video"]
End = Wire | ParamRef

STATE = "given/state"  # the output that the answer is generated from
HANDLES = {VisionTower: "given/vision", Projector: "given/projector", LanguageModel: "given/llm"}
PROMPT, TILES = "given/prompt", "given/tiles"
LOADERS: Mapping[str, frozenset[Media]] = {
    "load_image": frozenset({"image"}),
    "load_video": frozenset({"video"}),
}
BOTH: frozenset[Media] = frozenset({"image", "video"})
PLURAL: Mapping[Media, str] = {"image": "pictures", "video": "clips"}


@dataclass(frozen=True)
class Form:
    """A graph that begins with what is given.

    place: the step that puts visual tokens into the prompt. branch: the steps before it, of one picture or
    clip. media: what the graph is made for. gone: parameters of the steps that were cut off, and why.
    """

    graph: Graph
    place: str
    branch: frozenset[str]
    media: frozenset[Media]
    gone: Mapping[str, str]

    @property
    def params(self) -> list[str]:
        """The parameters that a person may give."""
        return [name for name in self.graph.params if not name.startswith("given/")]


def graft(graph: Graph) -> Form:
    """The graph from the tower to the state that `generate` takes; `generate` itself is cut off, too.

    Errors: GraphError for a graph without an answer, or one that needs files or a tokenizer on its way there.
    """
    graph.check()
    front, given = _front(graph)
    answer = _one(graph, "generate", "it gives no answer")
    [state] = _only(answer.wires.get("state", ()), f"{answer.id}.state")
    steps = {step.id: _given(step, given) for step in graph.steps.values() if step.id not in front}
    steps = {name: step for name, step in steps.items() if name != answer.id}
    blocked = _blocked(steps, {*front, answer.id})
    if state.node in blocked:
        raise GraphError(f"compress.graph: {blocked[state.node]}")
    outputs = {n: w for n, w in graph.outputs.items() if w.node in steps and w.node not in blocked}
    outputs[STATE] = state
    reached = _upstream(steps, [wire.node for wire in outputs.values()])
    made = _built(graph, [step for name, step in steps.items() if name in reached], outputs)
    place = _one(made, "place_tokens", "its visual tokens are placed into no prompt")
    branch = _upstream(made.steps, place_sources(place))
    tilers = [name for (name, _), param in given.items() if param.name == TILES]
    return Form(made, place.id, frozenset(branch), _media(graph, tilers), _gone(graph, made, answer))


def place_sources(place: Step) -> list[str]:
    """The steps whose visual tokens are placed."""
    return [end.node for end in place.wires.get("visual", ()) if isinstance(end, Wire)]


def _front(graph: Graph) -> tuple[set[str], dict[tuple[str, str], ParamRef]]:
    """The steps that read files or make prompts, and what is given in place of their outputs."""
    front, given = set[str](), dict[tuple[str, str], ParamRef]()
    for step in graph.steps.values():
        outputs = {name: bare(t) for name, t in step.type.outputs.items()}
        found = {name: param for name, t in outputs.items() if (param := _param_for(step, t))}
        if any(_model_of(t) is LanguageModel for t in outputs.values()):
            found |= {n: HANDLES[k] for n, t in outputs.items() if (k := _model_of(t)) in HANDLES}
        given |= {(step.id, name): ParamRef(param) for name, param in found.items()}
        if found or any(t in (Frames, Image, Video) for t in outputs.values()):
            front.add(step.id)
    return front, given


def _param_for(step: Step, output: Any) -> str | None:
    """Prompts are given, and tiles, unless they are made of other tiles."""
    takes_tiles = any(bare(socket.type) is Tiles for socket in step.type.sockets.values())
    if output is Tiles and not takes_tiles:
        return TILES
    return PROMPT if output is Prompt else None


def _model_of(t: Any) -> Any:
    return get_args(t)[0] if get_origin(t) is Model else None


def _given(step: Step, given: Mapping[tuple[str, str], ParamRef]) -> Step:
    """The step, wired to what is given; a chat format that it can do without is left out."""
    wires: dict[str, tuple[End, ...]] = {}
    for name, ends in step.wires.items():
        socket = step.type.sockets[name]
        if not socket.required and not socket.variadic and _wants_chat(socket.type):
            continue
        wires[name] = tuple(
            given.get((end.node, end.output), end) if isinstance(end, Wire) else end for end in ends
        )
    return replace(step, wires=wires)


def _wants_chat(t: Any) -> bool:
    return any(_model_of(one) is ChatFormat for one in (bare(t), *get_args(bare(t))))


def _blocked(steps: Mapping[str, Step], missing: Collection[str]) -> dict[str, str]:
    """Steps that take what only files or a tokenizer can give, or follow such a step; and why."""
    takers: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for step in steps.values():
        for source in step.sources:
            takers.setdefault(source, []).append(step.id)
        for name, ends in step.wires.items():
            lost = [str(end) for end in ends if isinstance(end, Wire) and end.node in missing]
            if lost:
                why[step.id] = (
                    f"{step.id}.{name} takes ${lost[0]}, but behind a model in memory there are no files, "
                    "only tiles and token ids; take the wire off, or run the graph with a checkpoint"
                )
    stack = list(why)
    while stack:
        name = stack.pop()
        for taker in takers.get(name, ()):
            if taker not in why:
                why[taker] = why[name]
                stack.append(taker)
    return why


def _upstream(steps: Mapping[str, Step], targets: Iterable[str]) -> set[str]:
    seen, stack = set[str](), list(targets)
    while stack:
        name = stack.pop()
        if name not in seen:
            seen.add(name)
            stack += steps[name].sources
    return seen


def _built(graph: Graph, steps: Iterable[Step], outputs: Mapping[str, Wire]) -> Graph:
    """A graph of these steps with the parameters that they use, and those that are given."""
    made = Graph(graph.title, at=graph.at)
    made.steps = {step.id: step for step in steps}
    made.params = dict(graph.params)
    made.params = {n: p for n, p in made.params.items() if n not in unused_params(made)}
    for kind, name in HANDLES.items():
        made.params[name] = Param(name, Model[kind])  # type: ignore[valid-type]
    for name, value in ((PROMPT, Prompt), (TILES, Tiles)):
        made.params[name] = Param(name, value, default=None)  # null: not known yet, when it is planned
    made.outputs = dict(outputs)
    return made


def _one(graph: Graph, kind: str, otherwise: str) -> Step:
    """The step of this type; if there are several, the one that the output `answer` comes from."""
    found = [step for step in graph.steps.values() if step.type.name == kind]
    answers = {wire.node for name, wire in graph.outputs.items() if name == "answer"}
    if len(found) > 1:
        found = [step for step in found if step.id in answers] or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise GraphError(f"compress.graph: {otherwise}; wanted a graph with a {kind} step")
    names = " and ".join(step.id for step in found)
    raise GraphError(
        f"compress.graph: {names} are all {kind} steps, and none of them gives the output answer; wanted one"
    )


def _only(ends: tuple[End, ...], where: str) -> tuple[Wire]:
    wires = [end for end in ends if isinstance(end, Wire)]
    if len(wires) != 1:
        raise GraphError(f"compress.graph: {where} is a parameter; wanted the output of a step")
    return (wires[0],)


def _media(graph: Graph, tilers: Iterable[str]) -> frozenset[Media]:
    """What the steps before the tiles load; both, when nobody says."""
    names = {graph.steps[name].type.name for name in _upstream(graph.steps, tilers)}
    found = [media for name, media in LOADERS.items() if name in names]
    return frozenset.union(*found) if found else BOTH


def _gone(graph: Graph, made: Graph, answer: Step) -> dict[str, str]:
    """Parameters that are there no more, and what stands in their place."""
    decoding = {value.name for value in answer.widgets.values() if isinstance(value, ParamRef)}
    return {
        name: "says how the answer is decoded; give it to generate()"
        if name in decoding
        else "belongs to the files, the prompt or the tiles, which come from the model and its "
        "processor; leave it out"
        for name in graph.params
        if name not in made.params
    }


def unknown_param(name: str, forms: Collection[Form]) -> GraphError:
    """For a parameter that none of the forms of a graph has."""
    for form in forms:
        if name in form.gone:
            return GraphError(f"compress.{name}: it {form.gone[name]}")
    known = {param for form in forms for param in form.params}
    if not known:
        return GraphError(f"compress.{name}: this graph has no parameters")
    return GraphError(f"compress.{name}: the graph has no such parameter{did_you_mean(name, known)}")
