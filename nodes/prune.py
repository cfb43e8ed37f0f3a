"""Prune visual tokens between two layers of the language model: by attention, at random, evenly spaced."""

# S = rows of the state, V = visual rows that may go, G = groups

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from ..runtime.budget import varying
from ..runtime.channels import channel
from ..runtime.errors import GraphError, WiringError
from ..runtime.groups import Groups, Select, Special, visual_groups
from ..runtime.needs import Need, Needs
from ..runtime.node import node
from ..runtime.share import Rounding, Share
from ..runtime.values import Hiding, LLMState
from ..runtime.widgets import Range, Seed
from .prefill import KnownState, known_state

Keep = Annotated[int, Range(0)] | None
Part = Annotated[float, Range(0, 1)] | None
Rows = Literal["text", "last", "all"]
Attention = Literal["pre_rope_full", "post_rope_causal"]
Reduce = Literal["max", "mean"]
Positions = Literal["keep", "repack"]
Mode = Literal["drop", "mask"]

SHARE = ("keep", "ratio", "drop", "rounding", "allow_none")
# what the answer's own tokens go by when they choose, step by step, which visual tokens they see
MASK = {
    "rows": "last",
    "attention": "post_rope_causal",
    "heads": "mean",
    "select": "global",
    "rewrite_cache": False,
    "positions": "keep",
}


def _foreseeing(where: str) -> Callable[..., Any]:
    """What is known of a state stays true; a budget or a mode that cannot work is refused."""

    def foresee(state: Any, **widgets: Any) -> Any:
        share = Share(**{name: widgets[name] for name in SHARE})
        share.check(where)
        known, masks = known_state(state), widgets.get("mode") == "mask"
        left = _left(where, share, known, widgets["select"], widgets["special"])
        if masks:
            _check_mask(**{name: widgets[name] for name in MASK})
        if known is None:
            return None
        if masks:
            _check_unmasked(known.hiding)
            return replace(known, hiding=known.layer)
        how = widgets["rewrite_cache"], widgets["positions"]
        _check_drop(where, known.layer, known.compressed, known.rope_grid, *how)
        return left

    return foresee


def _left(
    where: str, share: Share, known: KnownState | None, select: Select, special: Special
) -> KnownState | None:
    """What is known when these tokens have gone. Errors: BudgetError for a share that cannot be had."""
    if known is not None and known.varies and share.keep:
        raise varying(where, "keep", "set ratio or drop")
    if known is None or known.visual is None:
        return known
    if known.groups is None or special == "count":
        share.of(where, torch.tensor([known.visual]))  # what is too much of all is too much of a group
        return replace(known, groups=None)
    keep = share.of(where, torch.tensor(known.groups if select == "local" else [known.visual])).tolist()
    return replace(known, visual=sum(keep), groups=tuple(keep) if len(keep) == len(known.groups) else None)


@node(version=1, lane="gpu", foresee=_foreseeing("prune_by_attention"))
def prune_by_attention(
    state: Annotated[LLMState, Needs("attention", rows="rows", form=("attention", "heads", "over"))],
    *,
    keep: Keep = None,
    ratio: Part = None,
    drop: Part = None,
    rows: Rows = "text",
    attention: Attention = "pre_rope_full",
    heads: Reduce = "max",
    over: Reduce = "max",
    select: Select = "local",
    rounding: Rounding = "floor",
    rewrite_cache: bool = True,
    positions: Positions = "keep",
    mode: Mode = "drop",
    special: Special = "stay",
    allow_none: bool = False,
) -> LLMState:
    """The state with the visual tokens that the text attends to most, and all text.

    Attention is that of the last layer that has run. As it is: PruneVid's stage 2, after prefill with
    through 10, ratio its alpha. FastV, after prefill with until 2: drop 0.5, rows last, attention
    post_rope_causal, heads mean, select global, rounding round, rewrite_cache false. Ties go to the lower
    position. Errors: BudgetError for a budget that does not fit, GraphError for scores that are not
    numbers. A part that rounds to no token keeps one, with a notice; a plan that knows refuses it.

    keep: visual tokens that stay, of each group.
    ratio: part of each group that stays, instead of `keep`; 0.4 when none of the three is given.
    drop: part of each group that goes, instead of `keep` (FastV's R).
    rows: whose attention counts: `text` after the last visual token, with a newline that ends these; the
        `last` row; or `all` rows.
    attention: `pre_rope_full`: before rotary positions, over all keys, no causal mask, as PruneVid's released
        code has it; `post_rope_causal`: the layer's true attention.
    heads: of the attention heads, the greatest or the mean.
    over: then of the rows, the greatest or the mean.
    select: `local`: within each frame or picture, static tokens apart from the others, so that every
        frame and segment keeps its part; `global`: among all visual tokens.
    rounding: of ratio and drop: down, to the nearest (half to even), or down but at least 1 of each group.
    rewrite_cache: also drop them from the caches of the layers that have run; else those go on seeing them.
    positions: of the rows that stay: `keep` leaves gaps; `repack` counts 0, 1, 2, ... from here on.
    mode: `drop`; or `mask` (FastV's first code): all rows stay, but later layers see only the chosen ones,
        and every new token of the answer chooses again, as many.
    special: newlines and separators `stay`, uncounted like text, or `count` as visual tokens.
    allow_none: no visual token has to stay, or to be there at all.
    """
    share = Share(keep=keep, ratio=ratio, drop=drop, rounding=rounding, allow_none=allow_none)
    if mode == "mask":
        _check_mask(
            rows=rows,
            attention=attention,
            heads=heads,
            select=select,
            rewrite_cache=rewrite_cache,
            positions=positions,
        )
    groups = visual_groups(state, select, special)
    keep_G = share.taken("prune_by_attention", groups.size)
    score_S = channel(
        "prune_by_attention", state, Need("attention", None, rows, f"{attention},{heads},{over}")
    )
    score_V = score_S[groups.row]
    _check_scores(score_V)
    kept_V = groups.best(score_V, keep_G)
    if mode == "mask":
        return _masked(state, groups, kept_V, int(keep_G.sum()))
    return _dropped("prune_by_attention", state, groups, kept_V, rewrite_cache, positions)


@node(version=1, lane="gpu", foresee=_foreseeing("prune_random"))
def prune_random(
    state: LLMState,
    *,
    keep: Keep = None,
    ratio: Part = None,
    drop: Part = None,
    seed: Seed = 0,
    select: Select = "local",
    rounding: Rounding = "floor",
    rewrite_cache: bool = True,
    positions: Positions = "keep",
    special: Special = "stay",
    allow_none: bool = False,
) -> LLMState:
    """The state with visual tokens drawn at random, and all text: what any method has to beat.

    Errors: BudgetError for a budget that does not fit. A part that rounds to no token keeps one, with a
    notice; a plan that knows refuses it.

    keep: visual tokens that stay, of each group.
    ratio: part of each group that stays, instead of `keep`; 0.4 when none of the three is given.
    drop: part of each group that goes, instead of `keep`.
    seed: of the draw; equal seeds draw the same on every device.
    select: `local`: within each frame or picture, static tokens apart; `global`: among all.
    rounding: of ratio and drop: down, to the nearest (half to even), or down but at least 1 of each group.
    rewrite_cache: also drop them from the caches of the layers that have run; else those go on seeing them.
    positions: of the rows that stay: `keep` leaves gaps; `repack` counts 0, 1, 2, ... from here on.
    special: newlines and separators `stay`, uncounted like text, or `count` as visual tokens.
    allow_none: no visual token has to stay, or to be there at all.
    """
    share = Share(keep=keep, ratio=ratio, drop=drop, rounding=rounding, allow_none=allow_none)
    groups = visual_groups(state, select, special)
    keep_G = share.taken("prune_random", groups.size)
    # drawn on the CPU, whose generator is the same everywhere
    drawn_V = torch.randperm(len(groups.row), generator=torch.Generator().manual_seed(seed))
    kept_V = groups.best(drawn_V.to(groups.row.device), keep_G)
    return _dropped("prune_random", state, groups, kept_V, rewrite_cache, positions)


@node(version=1, lane="gpu", foresee=_foreseeing("prune_uniform"))
def prune_uniform(
    state: LLMState,
    *,
    keep: Keep = None,
    ratio: Part = None,
    drop: Part = None,
    select: Select = "local",
    rounding: Rounding = "floor",
    rewrite_cache: bool = True,
    positions: Positions = "keep",
    special: Special = "stay",
    allow_none: bool = False,
) -> LLMState:
    """The state with evenly spaced visual tokens, the middles of equal stretches, and all text.

    Errors: BudgetError for a budget that does not fit. A part that rounds to no token keeps one, with a
    notice; a plan that knows refuses it.

    keep: visual tokens that stay, of each group.
    ratio: part of each group that stays, instead of `keep`; 0.4 when none of the three is given.
    drop: part of each group that goes, instead of `keep`.
    select: `local`: within each frame or picture, static tokens apart; `global`: among all.
    rounding: of ratio and drop: down, to the nearest (half to even), or down but at least 1 of each group.
    rewrite_cache: also drop them from the caches of the layers that have run; else those go on seeing them.
    positions: of the rows that stay: `keep` leaves gaps; `repack` counts 0, 1, 2, ... from here on.
    special: newlines and separators `stay`, uncounted like text, or `count` as visual tokens.
    allow_none: no visual token has to stay, or to be there at all.
    """
    share = Share(keep=keep, ratio=ratio, drop=drop, rounding=rounding, allow_none=allow_none)
    groups = visual_groups(state, select, special)
    kept_V = groups.spaced(share.taken("prune_uniform", groups.size))
    return _dropped("prune_uniform", state, groups, kept_V, rewrite_cache, positions)


def _dropped(
    where: str,
    state: LLMState,
    groups: Groups,
    kept_V: Tensor,
    rewrite_cache: bool,
    positions: Positions,
) -> LLMState:
    compressed = sum(layer.per_head for layer in state.cache.layers)
    _check_drop(where, state.layer, compressed, state.input.rope is not None, rewrite_cache, positions)
    out = state.keep(_seen(state, groups, kept_V), rewrite_cache=rewrite_cache)
    return out.repacked() if positions == "repack" else out


def _masked(state: LLMState, groups: Groups, kept_V: Tensor, keep: int) -> LLMState:
    _check_unmasked(None if state.hiding is None else state.hiding.layer)
    if len(groups.row) < int(state.visual.sum()):
        raise GraphError(
            "prune_by_attention.special: with mode: mask, the answer's tokens choose among newlines and "
            "separators too; set special: count, or mode: drop"
        )
    return replace(state, hiding=Hiding(state.layer, _seen(state, groups, kept_V), keep))


def _seen(state: LLMState, groups: Groups, kept_V: Tensor) -> Tensor:
    """[S] bool: every row but the visual ones that go."""
    seen_S = torch.ones(len(state), dtype=torch.bool, device=groups.row.device)
    return seen_S.scatter_(0, groups.row, kept_V)


def _check_scores(score_V: Tensor) -> None:
    nan_V = score_V.isnan()
    if bool(nan_V.any()):
        raise GraphError(
            f"prune_by_attention: {int(nan_V.sum())} of {len(score_V)} attention scores are not numbers "
            "(nan); look for nan in the checkpoint and in the tokens that are placed, or set dtype: float32"
        )


def _check_mask(**widgets: object) -> None:
    wrong = [f"{name}: {value}" for name, value in MASK.items() if widgets[name] != value]
    if wrong:
        raise WiringError(
            "prune_by_attention.mode: mask is there only as FastV has it; set "
            f"{', '.join(wrong).replace('False', 'false')}, or mode: drop"
        )


def _check_unmasked(hiding: int | None) -> None:
    if hiding is not None:
        raise GraphError(
            f"prune_by_attention.mode: mask, but rows are hidden already from layer {hiding} on; mask once, "
            "or set mode: drop"
        )


def _check_drop(
    where: str, layers: int, compressed: int, rope_grid: bool, rewrite_cache: bool, positions: Positions
) -> None:
    """A GraphError for caches that hold different rows per head, and positions that are no single number."""
    if rewrite_cache and compressed:
        raise GraphError(
            f"{where}.rewrite_cache: compress_kv left different rows in the heads of {compressed} of the "
            f"{layers} layers that have run, so rows cannot be dropped from all; compress after the last "
            "prune, or set rewrite_cache: false"
        )
    if positions == "repack" and rope_grid:
        raise GraphError(
            f"{where}.positions: repack, but this model has M-RoPE positions (time, row, column), which "
            "cannot be numbered 0, 1, 2, ...; set positions: keep"
        )
