"""Visual tokens into the prompt's slots: what the language model reads.

S = rows of the sequence, D = width of the language model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from ..runtime.errors import BudgetError, PromptError, WiringError
from ..runtime.foreseen import KnownState, KnownTokens
from ..runtime.models.handle import Model
from ..runtime.models.language import LanguageModel
from ..runtime.mrope import Places, joined, mean_places, text_places, visual_places
from ..runtime.node import node
from ..runtime.values import LLMInput, Prompt, Segment, Slot, VisualTokens
from ..runtime.widgets import Range
from .prompt import KnownPrompt


def _foresee(
    llm: Model[LanguageModel] | None,
    prompt: KnownPrompt | None,
    *visual: KnownTokens | VisualTokens | None,
    max_length: int | None,
    truncate: bool,
) -> KnownState | None:
    facts = llm.facts.language if llm is not None else None
    for i, tokens in enumerate(visual):
        if facts is not None and isinstance(tokens, KnownTokens) and tokens.width is not None:
            _check_width(i, tokens.width, facts.hidden)
    if prompt is not None and (not prompt.slots) != (not visual):
        wires = f"{len(visual)} {'wire' if len(visual) == 1 else 'wires'} of visual tokens"
        raise _uneven(prompt.slots, wires)
    if prompt is not None and len(prompt.slots) != len(visual):
        tiles = [t.tiles if isinstance(t, KnownTokens) else None for t in visual]
        most = sum(tile for tile in tiles if tile is not None)
        if None not in tiles and len(prompt.slots) > most:  # a picture has one tile or more
            exact = "" if most == len(visual) else "at most "
            raise _uneven(prompt.slots, exact + _pictures(most, len(visual)))
    limit = max_length or (facts.max_length if facts is not None else None)
    counts = [t.total if isinstance(t, KnownTokens) else len(t) for t in visual if t is not None]
    tokens_known = sum(count for count in counts if count is not None)
    if limit is not None and tokens_known >= limit and not truncate:
        raise _too_long(f"{tokens_known} visual tokens and the text", limit)
    if llm is None:
        return None
    total = None if len(counts) < len(visual) or None in counts else tokens_known
    return KnownState(
        layer=0,
        model=llm.fingerprint,
        visual=total,
        groups=None if truncate else _each(visual),
        varies=any(isinstance(tokens, KnownTokens) and tokens.varies for tokens in visual),
        wires=len(visual),
        rope_grid=facts is not None and bool(facts.rope_grid),
    )


def _each(visual: Sequence[KnownTokens | VisualTokens | None]) -> tuple[int, ...] | None:
    """Visual tokens of each picture of all wires; None where one is not known."""
    each = [tokens.each if isinstance(tokens, KnownTokens) else None for tokens in visual]
    known = [some for some in each if some is not None]
    return tuple(count for some in known for count in some) if len(known) == len(each) else None


@node(lane="gpu", foresee=_foresee)
def place_tokens(
    llm: Model[LanguageModel],
    prompt: Prompt,
    *visual: VisualTokens,
    max_length: Annotated[int, Range(1)] | None = None,
    truncate: bool = False,
) -> LLMInput:
    """The prompt's embeddings with the visual tokens in its slots, in order.

    With as many slots as wires, each slot takes all tokens of its wire (a clip in one slot, as LLaVA does).
    Otherwise an image slot takes the next picture of the wires, and a video slot the next whole wire. Rows
    are numbered one by one; tokens that carry `position` (merged with positions: mean) sit there instead.

    visual: visual tokens of the language model's width; one wire may hold several pictures.
    max_length: rows that the sequence may have; default the model's own context.
    truncate: cut a longer sequence on the right, text included, in silence, as LLaVA's released code does.
    """
    model = llm.load()
    _check(model, prompt, visual)
    fills = iter(_fill(prompt, visual))
    rows = [
        _visual(visual, next(fills), model.facts.rope_grid) if isinstance(p, Slot) else _text(p, model)
        for p in prompt.pieces
    ]
    if not sum(len(r.ids) for r in rows):
        raise PromptError("place_tokens: the prompt is empty; write a question")
    limit = max_length or model.facts.max_length
    length = _kept_length(sum(len(r.ids) for r in rows), limit, visual, truncate)
    return replace(_join(rows, length, model, visual, prompt), model=llm.fingerprint)


@dataclass(frozen=True)
class _Rows:
    """Rows of one piece: embeds [n, D], wire, token and ids [n] long, and their rotary places."""

    embeds: Tensor
    wire: Tensor
    token: Tensor
    ids: Tensor
    places: Places


@dataclass(frozen=True)
class _Part:
    """Tokens of one wire that go into one slot: all of them, or those of one picture."""

    wire: int
    frame: int | None = None


def _check(model: LanguageModel, prompt: Prompt, visual: tuple[VisualTokens, ...]) -> None:
    for i, tokens in enumerate(visual):
        _check_width(i, tokens.width, model.facts.hidden)
    for piece in prompt.pieces:
        if not isinstance(piece, Slot) and any(not 0 <= t < model.facts.vocab for t in piece):
            wrong = next(t for t in piece if not 0 <= t < model.facts.vocab)
            raise PromptError(
                f"place_tokens.prompt: token id {wrong} is outside the model's vocabulary of "
                f"{model.facts.vocab}; use the tokenizer of the same checkpoint"
            )


def _check_width(wire: int, width: int, wanted: int) -> None:
    if width != wanted:
        raise WiringError(
            f"place_tokens.visual: wire {wire + 1} holds tokens of width {width}, the language "
            f"model's width is {wanted}; project them with this checkpoint's projector first"
        )


def _fill(prompt: Prompt, visual: tuple[VisualTokens, ...]) -> list[_Part]:
    """What goes into each slot. Raises PromptError unless slots and visual tokens come out even."""
    slots = prompt.slots
    if len(slots) == len(visual):
        return [_Part(wire) for wire in range(len(visual))]
    parts: list[_Part] = []
    pictures = [_Part(w, f) for w, tokens in enumerate(visual) for f in range(tokens.source.frames)]
    for slot in slots:
        if not pictures:
            raise _uneven(slots, _counted(visual))
        head = pictures[0]
        if slot.media == "video":
            if head.frame != 0:
                raise _uneven(slots, _counted(visual))
            parts.append(_Part(head.wire))
            pictures = [p for p in pictures if p.wire != head.wire]
        else:
            parts.append(pictures.pop(0))
    if pictures:
        raise _uneven(slots, _counted(visual))
    return parts


def _counted(visual: tuple[VisualTokens, ...]) -> str:
    return _pictures(sum(tokens.source.frames for tokens in visual), len(visual))


def _pictures(pictures: int, wired: int) -> str:
    wires = f"{wired} {'wire' if wired == 1 else 'wires'}"
    return f"{pictures} {'picture' if pictures == 1 else 'pictures'} on {wires}"


def _uneven(slots: tuple[Slot, ...], came: str) -> PromptError:
    images = sum(slot.media == "image" for slot in slots)
    wanted = [f"{images} <image>"] * bool(images) + [f"{len(slots) - images} <video>"] * (images < len(slots))
    return PromptError(
        f"place_tokens: the prompt has {' and '.join(wanted) or 'no <image>'}, but {came} came; give every "
        "picture one <image>, or every wire one slot (render_chat: question, images, media)"
    )


def _text(piece: tuple[int, ...], model: LanguageModel) -> _Rows:
    ids = torch.tensor(piece, dtype=torch.long, device=model.device)
    none = torch.full_like(ids, -1)
    return _Rows(model.embed(ids), none, none, ids, text_places(len(ids)))


def _visual(visual: tuple[VisualTokens, ...], part: _Part, rope_grid: int) -> _Rows:
    tokens = visual[part.wire]
    token = torch.arange(len(tokens), device=tokens.device)
    if part.frame is not None:
        token = token[tokens.frame == part.frame]
    features = tokens.features if part.frame is None else tokens.features[token]
    if rope_grid:
        places = visual_places(tokens.select(token), rope_grid)
    elif "position" in tokens.side:  # merge_static and cluster_spatial with positions: mean
        places = mean_places(tokens.side["position"][token], whole=part.frame is None)
    else:
        places = text_places(len(token))
    return _Rows(features, torch.full_like(token, part.wire), token, torch.full_like(token, -1), places)


def _kept_length(length: int, limit: int, visual: tuple[VisualTokens, ...], truncate: bool) -> int:
    if length <= limit or truncate:
        return min(length, limit)
    tokens = sum(map(len, visual))
    raise _too_long(f"{length} rows ({tokens} visual tokens, {length - tokens} of text)", limit)


def _too_long(rows: str, limit: int) -> BudgetError:
    return BudgetError(
        f"place_tokens: the prompt has {rows}, the limit is {limit}; keep fewer visual tokens, use fewer "
        "frames or tiles, or set truncate: true"
    )


def _join(
    rows: list[_Rows], length: int, model: LanguageModel, visual: tuple[VisualTokens, ...], prompt: Prompt
) -> LLMInput:
    device, dtype = model.device, model.dtype
    wire = torch.cat([r.wire.to(device) for r in rows])[:length]
    places = joined([r.places for r in rows])[:length].to(device)
    return LLMInput(
        embeds=torch.cat([r.embeds.to(device, dtype) for r in rows])[:length],
        position=places.amax(1),
        segment=_segments(wire),
        wire=wire,
        token=torch.cat([r.token.to(device) for r in rows])[:length],
        ids=torch.cat([r.ids.to(device) for r in rows])[:length],
        tokens=visual,
        stop=prompt.stop,
        rope=places if model.facts.rope_grid else None,
    )


def _segments(wire: Tensor) -> Tensor:
    """[S] uint8: text before the first visual row, visual, text between, text after the last."""
    seen = wire >= 0
    before, after = seen.cumsum(0) == 0, seen.flip(0).cumsum(0).flip(0) == 0
    out = torch.full(wire.shape, int(Segment.TEXT_BETWEEN), dtype=torch.uint8, device=wire.device)
    out[before] = int(Segment.TEXT_BEFORE)
    out[after] = int(Segment.TEXT_AFTER)
    out[seen] = int(Segment.VISUAL)
    return out
