"""States of a language model made by hand: text, visual tokens of several wires, text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenloom.runtime.values import (
    Kind,
    KVCache,
    LayerCache,
    LLMInput,
    LLMState,
    Segment,
    Source,
    Tile,
    VisualTokens,
)


@dataclass(frozen=True)
class Run:
    """So many tokens in a row, of this picture and this kind."""

    count: int
    frame: int = 0
    kind: Kind = Kind.PATCH


def visual_tokens(*runs: Run, width: int = 2, seed: int = 0) -> VisualTokens:
    """Tokens without patches of pictures of one tile each, run by run."""
    frames = 1 + max((run.frame for run in runs), default=0)
    tiles = tuple(Tile(frame=i, box=(0, 0, 1, 1)) for i in range(frames))
    source = Source(tiles, 1, 1, ((1, 1),) * frames, (0.0,) * frames)
    n = sum(run.count for run in runs)
    nothing = torch.zeros(0)

    def spread(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers).repeat_interleave(torch.tensor([run.count for run in runs]))

    return VisualTokens(
        torch.randn(n, width, generator=torch.Generator().manual_seed(seed)),
        source,
        torch.zeros(n + 1, dtype=torch.long),
        nothing.long(),
        nothing,
        spread([int(run.kind) for run in runs]).to(torch.uint8),
        spread([run.frame for run in runs]),
    )


def placed(*wires: VisualTokens, before: int = 2, between: int = 1, after: int = 3) -> LLMInput:
    """Text, a wire, text, a wire, ... text; text rows are ones with ids 1, 2, ..."""
    width = wires[0].width if wires else 2
    parts: list[tuple[Segment, int, Tensor]] = [(Segment.TEXT_BEFORE, -1, torch.ones(before, width))]
    for i, tokens in enumerate(wires):
        if i:
            parts.append((Segment.TEXT_BETWEEN, -1, torch.ones(between, width)))
        parts.append((Segment.VISUAL, i, tokens.features))
    parts.append((Segment.TEXT_AFTER, -1, torch.ones(after, width)))
    count = torch.tensor([len(embeds) for _, _, embeds in parts])
    segment = torch.tensor([int(kind) for kind, _, _ in parts], dtype=torch.uint8).repeat_interleave(count)
    wire = torch.tensor([i for _, i, _ in parts]).repeat_interleave(count)
    text = segment != int(Segment.VISUAL)
    token = torch.cat([torch.arange(n) if kind == Segment.VISUAL else torch.full((n,), -1)
                       for (kind, _, _), n in zip(parts, count.tolist(), strict=True)])  # fmt: skip
    ids = torch.where(text, text.cumsum(0), -1)
    embeds = torch.cat([embeds for _, _, embeds in parts])
    return LLMInput(embeds, torch.arange(len(embeds)), segment, wire, token, ids, wires)


def made_state(given: LLMInput, side: Mapping[str, Tensor] | None = None, *, layer: int = 2) -> LLMState:
    """A state after some layers, whose keys are the numbers of their rows."""
    row = torch.arange(len(given))
    keys = row[None, :, None].float()
    caches = tuple(LayerCache(keys, -keys, given.position, row) for _ in range(layer))
    return LLMState(given.embeds, given.position, row, layer, KVCache(caches), given, len(given), side or {})
