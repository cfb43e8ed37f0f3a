"""The prompt through the decoder's layers, all of them or up to one; and the scores it then gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from ..runtime import context
from ..runtime.errors import GraphError
from ..runtime.foreseen import KnownState as KnownState
from ..runtime.models.capture import CHANNELS, check_layers, offered, own_needs
from ..runtime.models.handle import Model
from ..runtime.models.language import LanguageModel, start
from ..runtime.needs import Need
from ..runtime.node import node
from ..runtime.values import LLMInput, LLMState, Logits
from ..runtime.widgets import Range


def _foresee(
    llm: Model[LanguageModel] | None,
    inputs: object,
    *,
    until: int | None,
    through: int | None = None,
    part: float | None = None,
) -> KnownState | None:
    _check_one(until, through)
    if llm is None or llm.facts.language is None:
        return None
    known = known_state(inputs) or KnownState(layer=0)
    depth = llm.facts.language.depth
    if until is None and through is None and part is not None:
        until = in_part(depth, part)
        text = f"{until} of the {depth} layers run (part {part:g}), the last is layer {until - 1}"
        known = replace(known, notes=(*known.notes, text))
    end = _end(depth, known.layer, until, through)
    check_model("prefill.inputs", llm, known.model)
    check_layers(own_needs(context.wanted() or ()), known.layer, end)
    return replace(known, layer=end, model=llm.fingerprint)


def _foresee_logits(llm: Model[LanguageModel] | None, state: object, *, rows: str) -> None:
    known = known_state(state)
    if llm is not None and llm.facts.language is not None and known is not None:
        check_model("read_logits.state", llm, known.model)
        _check_done(known.layer, llm.facts.language.depth)


def _together(
    llm: list[Model[LanguageModel]],
    inputs: list[LLMInput | LLMState],
    *,
    until: int | None,
    through: int | None,
    part: float | None = None,
) -> list[LLMState]:
    wanted = context.wanted()
    whole = until is None and through is None and part is None

    def needs_of(state: LLMState, end: int) -> tuple[Need, ...]:
        if wanted is not None:
            return own_needs(wanted)
        return offered(state) if state.layer < end and not whole else ()

    return run_layers(llm, inputs, until, through, needs_of, part=part)


@node(lane="gpu", foresee=_foresee, batch=_together, provides=CHANNELS, adds_to=("cache_attention",))
def prefill(
    llm: Model[LanguageModel],
    inputs: LLMInput | LLMState,
    *,
    until: Annotated[int, Range(0)] | None = None,
    through: Annotated[int, Range(0)] | None = None,
    part: Annotated[float, Range(0, 1)] | None = None,
) -> LLMState:
    """The state after some or all of the layers, from a placed prompt or from an earlier state.

    Side channels, of the layers that this prefill runs: `attention` [S], how much the last rows attend to
    each row, read at the last layer unless the need names one (rows `text`, `last` or `all`; form
    `KIND,HEADS,OVER`, see runtime/models/capture.py); `cache_attention`, the `received` of every layer's
    cache. An eager call that stops between layers gives `attention` as PruneVid and as FastV read it.

    until: the first layer that does not run; default none, the state is then ready for generate.
    through: the last layer that runs (PruneVid's selected layer); instead of `until`.
    part: where neither is given, the part of the model's layers that runs, to the nearest number, halves up,
        one at least; 0.34375 is through layer 10 of 32.
    """
    return _together([llm], [inputs], until=until, through=through, part=part)[0]


@node(lane="gpu", foresee=_foresee_logits)
def read_logits(
    llm: Model[LanguageModel], state: LLMState, *, rows: Literal["last", "all"] = "last"
) -> Logits:
    """The scores of the next token after the prompt's last row, or after each of its rows.

    rows: last gives [1, V], all [S, V].
    """
    check_model("read_logits.state", llm, state.input.model)
    model = llm.load()
    _check_done(state.layer, model.depth)
    first = len(state) - 1 if rows == "last" else 0
    hidden = state.hidden[first:].to(model.device, model.dtype)
    return Logits(model.logits(hidden[None])[0], state.row[first:].to(model.device))


def run_layers(
    handles: Sequence[Model[LanguageModel]],
    inputs: Sequence[LLMInput | LLMState],
    until: int | None = None,
    through: int | None = None,
    needs_of: Callable[[LLMState, int], tuple[Need, ...]] = lambda state, end: (),
    where: str = "prefill.inputs",
    *,
    part: float | None = None,
) -> list[LLMState]:
    """Each input after the layers before `until`; those of one model at one layer run side by side.

    part: of the layers, where neither `until` nor `through` is given. needs_of: the side channels that a
    state gets on its way to layer `end`.
    """
    models = [handle.load() for handle in handles]
    states = [start(x) if isinstance(x, LLMInput) else x for x in inputs]
    groups: dict[tuple[int, int, int, tuple[Need, ...]], list[int]] = {}
    for i, (handle, model, state) in enumerate(zip(handles, models, states, strict=True)):
        end = _end(model.depth, state.layer, until, through, part)
        _check_fits(where, handle, model, state)
        groups.setdefault((id(model), state.layer, end, needs_of(state, end)), []).append(i)
    out: dict[int, LLMState] = {}
    for (_, _, end, needs), items in groups.items():
        after = models[items[0]].run(
            [states[i] for i in items],
            end,
            lambda done, total: context.progress(done, total, "layers"),
            needs,
        )
        out.update(zip(items, after, strict=True))
    return [out[i] for i in range(len(states))]


def known_state(value: object) -> KnownState | None:
    """What a plan knows of a prompt or a state, foreseen or given as a parameter; None: nothing yet."""
    if isinstance(value, LLMInput):
        return KnownState(
            layer=0,
            model=value.model,
            visual=int(value.visual.sum()),
            wires=len(value.tokens),
            rope_grid=value.rope is not None,
        )
    if isinstance(value, LLMState):
        return KnownState(
            layer=value.layer,
            model=value.input.model,
            visual=int(value.visual.sum()),
            wires=len(value.input.tokens),
            rope_grid=value.input.rope is not None,
            compressed=sum(layer.per_head for layer in value.cache.layers),
            hiding=None if value.hiding is None else value.hiding.layer,
        )
    return value if isinstance(value, KnownState) else None


def check_model(where: str, handle: Model[LanguageModel], model: str) -> None:
    """A GraphError for a prompt that was placed for another language model than this one."""
    if model and model != handle.fingerprint:
        raise GraphError(
            f"{where}: the prompt was placed for another language model (fingerprint {model[:12]}) than "
            f"{handle.facts.name} ({handle.fingerprint[:12]}); give place_tokens and this node the same llm"
        )


def _check_fits(where: str, handle: Model[LanguageModel], model: LanguageModel, state: LLMState) -> None:
    if state.hidden.shape[1] != model.facts.hidden:
        raise GraphError(
            f"{where}: rows of width {state.hidden.shape[1]}, the language model's width is "
            f"{model.facts.hidden}; use the same checkpoint in place_tokens and here"
        )
    if (state.input.rope is not None) != bool(model.facts.rope_grid):
        raise GraphError(
            f"{where}: positions of another kind than the language model's (M-RoPE or plain); use "
            "the same checkpoint in place_tokens and here"
        )
    check_model(where, handle, state.input.model)


def _check_done(layer: int, depth: int) -> None:
    if layer != depth:
        raise GraphError(
            f"read_logits.state: {layer} of the model's {depth} layers have run; "
            "put a prefill without `until` before it"
        )


def _check_one(until: int | None, through: int | None) -> None:
    if until is not None and through is not None:
        raise GraphError(
            f"prefill: until {until} and through {through} are both given; wanted one of them (through "
            f"{through} is until {through + 1})"
        )


def in_part(depth: int, part: float) -> int:
    """How many of `depth` layers that part is: the nearest number, halves up, 1 at least."""
    return max(int(depth * part + 0.5), 1)


def _end(depth: int, done: int, until: int | None, through: int | None, part: float | None = None) -> int:
    """How many layers will have run. Errors: GraphError for layers that are not there or have run already."""
    _check_one(until, through)
    if until is None and through is None:
        if part is None:
            return depth
        until = in_part(depth, part)
    last = depth if through is None else depth - 1
    layer = until if through is None else through
    assert layer is not None
    if not done <= layer <= last:
        name, what = ("until", "") if through is None else ("through", "layer ")
        wanted = f"wanted {done}..{last}" if done <= last else "nothing is left to run"
        ran = f"; {done} layers have run already" if done else ""
        raise GraphError(f"prefill.{name}: {what}{layer} of a model with {depth} layers; {wanted}{ran}")
    return layer if through is None else layer + 1
