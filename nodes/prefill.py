"""The prompt through the decoder's layers, all of them or up to one; and the scores it then gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ..runtime import context
from ..runtime.errors import GraphError
from ..runtime.models.handle import Model
from ..runtime.models.language import LanguageModel, start
from ..runtime.node import node
from ..runtime.values import LLMInput, LLMState, Logits
from ..runtime.widgets import Range


@dataclass(frozen=True)
class KnownState:
    """What a plan knows of a state before it is computed: how many layers will have run."""

    layer: int


def _foresee(llm: Model[LanguageModel] | None, inputs: object, *, until: int | None) -> KnownState | None:
    facts = llm.facts.language if llm is not None else None
    if facts is None:
        return None
    _check_until(facts.depth, inputs.layer if isinstance(inputs, KnownState) else 0, until)
    return KnownState(facts.depth if until is None else until)


def _foresee_logits(llm: Model[LanguageModel] | None, state: object, *, rows: str) -> None:
    if llm is not None and llm.facts.language is not None and isinstance(state, KnownState):
        _check_done(state.layer, llm.facts.language.depth)


def _together(
    llm: list[Model[LanguageModel]], inputs: list[LLMInput | LLMState], *, until: int | None
) -> list[LLMState]:
    return through(llm, inputs, until)


@node(lane="gpu", foresee=_foresee, batch=_together)
def prefill(
    llm: Model[LanguageModel], inputs: LLMInput | LLMState, *, until: Annotated[int, Range(0)] | None = None
) -> LLMState:
    """The state after the layers before `until`, from a placed prompt or from an earlier state.

    until: the first layer that does not run; default none, the state is then ready for generate.
    """
    return through([llm], [inputs], until)[0]


@node(lane="gpu", foresee=_foresee_logits)
def read_logits(
    llm: Model[LanguageModel], state: LLMState, *, rows: Literal["last", "all"] = "last"
) -> Logits:
    """The scores of the next token after the prompt's last row, or after each of its rows.

    rows: last gives [1, V], all [S, V].
    """
    model = llm.load()
    _check_done(state.layer, model.depth)
    first = len(state) - 1 if rows == "last" else 0
    hidden = state.hidden[first:].to(model.device, model.dtype)
    return Logits(model.logits(hidden[None])[0], state.row[first:].to(model.device))


def through(
    handles: Sequence[Model[LanguageModel]], inputs: Sequence[LLMInput | LLMState], until: int | None = None
) -> list[LLMState]:
    """Each input after the layers before `until`; those of one model at one layer run side by side."""
    models = [handle.load() for handle in handles]
    states = [start(x) if isinstance(x, LLMInput) else x for x in inputs]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (model, state) in enumerate(zip(models, states, strict=True)):
        _check_until(model.depth, state.layer, until)
        if state.hidden.shape[1] != model.facts.hidden:
            raise GraphError(
                f"prefill.inputs: rows of width {state.hidden.shape[1]}, the language model's width is "
                f"{model.facts.hidden}; use the same checkpoint in place_tokens and here"
            )
        if (state.input.rope is not None) != bool(model.facts.rope_grid):
            raise GraphError(
                "prefill.inputs: positions of another kind than the language model's (M-RoPE or plain); use "
                "the same checkpoint in place_tokens and here"
            )
        groups.setdefault((id(model), state.layer), []).append(i)
    out: dict[int, LLMState] = {}
    for items in groups.values():
        model = models[items[0]]
        end = model.depth if until is None else until
        after = model.run(
            [states[i] for i in items], end, lambda done, total: context.progress(done, total, "layers")
        )
        out.update(zip(items, after, strict=True))
    return [out[i] for i in range(len(states))]


def _check_done(layer: int, depth: int) -> None:
    if layer != depth:
        raise GraphError(
            f"read_logits.state: {layer} of the model's {depth} layers have run; "
            "put a prefill without `until` before it"
        )


def _check_until(depth: int, done: int, until: int | None) -> None:
    if until is not None and not done <= until <= depth:
        hint = f"wanted {done}..{depth}" + (f"; {done} layers have run already" if done else "")
        raise GraphError(f"prefill.until: {until} of a model with {depth} layers; {hint}")
