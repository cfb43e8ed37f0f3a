"""Shorten the key-value cache of the layers done, per head (LOOK-M); what the prompt computed stays."""

# H = key-value heads, C = keys of a layer, R = keys that stay

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from ..runtime.channels import channel
from ..runtime.errors import BudgetError, GraphError
from ..runtime.kv_merge import (
    SINKS,
    Budget,
    Mode,
    Pairing,
    budget,
    kept_keys,
    merged,
    nearest,
    others,
    rows,
    shares,
)
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.values import KVCache, LayerCache, LLMState, Segment
from ..runtime.widgets import Range
from .prefill import KnownState, known_state


def _foresee(
    state: object, *, mode: Mode, hh_ratio: float, recent_ratio: float, text_prior: bool, avg_pairing: Pairing
) -> KnownState | None:
    known = known_state(state)
    if known is not None and known.hiding is not None:
        raise _hidden()
    if known is not None and known.layer and known.compressed == known.layer:
        raise _twice(known.layer)
    if hh_ratio == recent_ratio == 0 and not text_prior:
        raise _nothing_left(hh_ratio, recent_ratio, "a layer's")
    if known is None or known.visual == 0 or hh_ratio + recent_ratio >= 1:
        return known  # the caches stay as they are
    return replace(known, compressed=known.layer)


@node(version=1, lane="gpu", foresee=_foresee)
def compress_kv(
    state: Annotated[LLMState, Needs("cache_attention")],
    *,
    mode: Mode = "pivot",
    hh_ratio: Annotated[float, Range(0, 1)] = 0.1,
    recent_ratio: Annotated[float, Range(0, 1)] = 0.1,
    text_prior: bool = True,
    avg_pairing: Pairing = "own",
) -> LLMState:
    """The state with fewer keys and values in each layer's cache: those most attended to and the latest stay.

    Every layer is compressed by itself, and each key-value head chooses by the attention that its keys got
    from the whole prompt; with grouped heads, summed over the query heads that share it. Hidden rows and
    positions stay: the first token does not change, and decoding goes on behind the uncompressed prompt. A
    layer whose keys would all stay is left as it is, and so are layers compressed before and prompts without
    visual tokens. Layers that run later keep all of their keys.
    Errors: NeedError for a cache without the attention it received; GraphError when every layer is compressed
    already; BudgetError when no key would stay. Source: LOOK-M, sec. 3; H2O.

    mode: what becomes of the keys that go: `h2o`: they are lost; the others merge each into the kept key most
        similar to it, by `pivot`: the mean of the kept key and its halfway points to them; `weighted`: times
        their similarity, if it is above average; `avg`: the plain mean.
    hh_ratio: part of the keys that stays by attention ("heavy hitters"), rounded down.
    recent_ratio: part of the keys that stays at the end, rounded down.
    text_prior: every text key stays and counts towards hh_ratio; visual keys share what it leaves over. Off:
        all keys alike, but the merging modes take the first 4 first.
    avg_pairing: of avg: `own`: every key goes into the one most similar to it; `released`: as the released
        code has it: targets of the keys that are above average, with the first so many of all keys.
    """
    if state.hiding is not None:
        raise _hidden()
    if state.layer and all(layer.per_head for layer in state.cache.layers):
        raise _twice(state.layer)
    if not bool((state.input.segment == int(Segment.VISUAL)).any()):
        return state  # as released: text alone is not compressed
    budgets: dict[int, Budget] = {}  # layers of one prefill share their rows
    for number, layer in enumerate(state.cache.layers):
        if not layer.per_head and id(layer.row) not in budgets:
            text_C = state.input.segment[layer.row] != int(Segment.VISUAL)
            sinks = 0 if mode == "h2o" else SINKS
            budgets[id(layer.row)] = budget(
                text_C, hh_ratio, recent_ratio, text_prior=text_prior, sinks=sinks
            )
            if layer.length and not budgets[id(layer.row)].keys:
                raise _nothing_left(hh_ratio, recent_ratio, f"layer {number}'s {layer.length}")
    return replace(
        state,
        cache=KVCache(
            tuple(
                layer if layer.per_head else _shorter(state, layer, budgets[id(layer.row)], mode, avg_pairing)
                for layer in state.cache.layers
            )
        ),
    )


def _shorter(state: LLMState, layer: LayerCache, allowed: Budget, mode: Mode, pairing: Pairing) -> LayerCache:
    """One layer's cache after compression; the same one when nothing has to go."""
    received_HC = layer.received
    if received_HC is None:
        received_HC = channel("compress_kv", state, Need("cache_attention"))
    if allowed.keys >= layer.length:
        return layer
    kept_HR = kept_keys(received_HC, allowed)
    position_HR, row_HR = layer.position[kept_HR], layer.row[kept_HR]
    if mode == "h2o":
        return LayerCache(rows(layer.keys, kept_HR), rows(layer.values, kept_HR), position_HR, row_HR)
    gone_HP = others(kept_HR, layer.length)
    share = shares(nearest(layer.keys, kept_HR, gone_HP), mode, pairing)
    keys_HRd, values_HRd = (merged(x, kept_HR, gone_HP, share) for x in (layer.keys, layer.values))
    return LayerCache(keys_HRd, values_HRd, position_HR, row_HR)


def _hidden() -> GraphError:
    return GraphError(
        "compress_kv.state: rows are hidden instead of dropped, and chosen anew at every step, for which "
        "all keys are needed; drop the rows when pruning"
    )


def _twice(layers: int) -> GraphError:
    return GraphError(
        f"compress_kv.state: all {layers} layers that have run are compressed already; compress once, or "
        "after a prefill that runs more layers"
    )


def _nothing_left(hh_ratio: float, recent_ratio: float, of: str) -> BudgetError:
    return BudgetError(
        f"compress_kv: hh_ratio {hh_ratio:g} and recent_ratio {recent_ratio:g} keep none of {of} keys; raise "
        "one of them"
    )
