"""What holds of every combination that runs: provenance, numbers, budgets, and what the plan had said."""

from __future__ import annotations

import math

import torch

from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.plan import Plan
from tokenloom.runtime.result import Result
from tokenloom.runtime.values import Kind, LLMInput, LLMState, Tokens

from .stages import PART, Rows


def check_tokens(tokens: Tokens) -> None:
    """Every token stands for patches that are there, each once, with shares that sum to 1."""
    assert len(tokens), "no token is left"
    assert tokens.features.isfinite().all(), "vectors that are not finite"
    total = torch.zeros(len(tokens)).index_add_(0, tokens.owner, tokens.share)
    torch.testing.assert_close(total, (tokens.count > 0).float(), atol=1e-4, rtol=0)
    pair = tokens.owner * len(tokens.source) + tokens.member
    assert len(pair.unique()) == len(pair), "a patch twice in one token"
    assert bool(((tokens.member >= 0) & (tokens.member < len(tokens.source))).all())
    assert bool(((tokens.home >= 0) & (tokens.home < len(tokens.source.tiles))).all())


def check_stage(keeps: int | None, after: Tokens, before: Tokens) -> None:
    """The budget is kept in every tile, and no token speaks for a patch that was gone before."""
    check_tokens(after)
    gone = before.coverage() == 0
    assert not bool(after.coverage()[gone].any()), "a patch that was dropped before is back"
    if keeps is not None:
        tiles = len(after.source.tiles)
        assert after.home.bincount(minlength=tiles).tolist() == [keeps] * tiles


def check_plan(plan: Plan, result: Result) -> None:
    """What was foreseen of tokens is what came: tiles, tokens of each, width, [CLS], whole grids."""
    known = {slot: (step.known, plan.fields[slot]) for step in plan.steps for slot in step.outs}
    for name, slot in plan.outputs.items():
        foreseen, field = known[slot]
        foreseen = getattr(foreseen, field, None) if field else foreseen
        value = result[name]
        if isinstance(foreseen, KnownTokens) and isinstance(value, Tokens):
            _check_known(name, foreseen, value)


def _check_known(name: str, known: KnownTokens, tokens: Tokens) -> None:
    tiles = len(tokens.source.tiles)
    counts = tokens.source.frame_of_tile.bincount().tolist()
    assert known.tiles in (None, tiles), f"{name}: {known.tiles} tiles were foreseen, {tiles} came"
    assert known.pictures is None or list(known.pictures) == counts, name
    assert known.width in (None, tokens.width), name
    assert known.cls_token in (None, bool((tokens.kind == int(Kind.CLS)).any())), name
    body = tokens.select(tokens.kind != int(Kind.NEWLINE))  # which belong to no tile
    if known.per_tile is not None:
        assert body.home.bincount(minlength=tiles).tolist() == [known.per_tile] * tiles, name
    if known.grid:
        patches = tokens.select(tokens.kind != int(Kind.CLS))
        assert patches.member.equal(torch.arange(len(tokens.source))), name
        assert bool((patches.count == 1).all()), name
    if known.complete:
        assert bool((tokens.coverage() > 0).all()), name


def check_language(rows: Rows, result: Result) -> None:
    """All text is there, the budget is kept, caches hold rows that exist, scores and answer are numbers."""
    placed, state, left = result["placed"], result["state"], result["left"]
    assert isinstance(placed, LLMInput)
    assert isinstance(state, LLMState)
    assert bool(torch.isin((~placed.visual).nonzero()[:, 0], state.row).all()), "a row of text is gone"
    assert state.hidden.isfinite().all()
    assert result["logits"].values.isfinite().all()
    assert len(result["answer"].ids) == 2
    assert len(state.cache.layers) == state.layer
    for layer in state.cache.layers:
        assert layer.keys.isfinite().all()
        assert bool((layer.row < len(placed)).all())
    counted = int((placed.visual & ~placed.special).sum())
    most = counted
    for _ in range(rows.drops):
        most = max(math.ceil(most * PART), 1)
    here = len(left) - int(placed.special.sum())
    assert here == counted if not rows.drops else 0 < here <= most, (
        f"{here} of {counted} tokens, wanted {most}"
    )
