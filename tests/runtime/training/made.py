"""Samples made here: entries of a LLaVA file, tiles, and a chat format with a tokeniser of letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ChatFacts
from tokenloom.runtime.training.batch import Batch, Grid, Pictures, collate
from tokenloom.runtime.training.labels import Example
from tokenloom.runtime.values import Tile, Tiles

from ..models.tiny import tiny_tokenizer


def chat() -> ChatFormat:
    """One token per letter; <unk> is 0, <s> 1, </s> 2."""
    return ChatFormat(tiny_tokenizer(), ChatFacts(template="v1"))


def entry(*turns: str, image: Any = None, name: str = "s1") -> dict[str, Any]:
    """Question, answer, question, ..."""
    speakers = ("human", "gpt") * len(turns)
    said = [{"from": who, "value": text} for who, text in zip(speakers, turns, strict=False)]
    return {"id": name, "conversations": said} | ({} if image is None else {"image": image})


def tiles(grids: Sequence[Grid | None], side: int = 2) -> Tiles:
    """The tiles of pictures on these grids, with a global view of each that has more than one crop."""
    layout: list[Tile] = []
    for frame, grid in enumerate(grids):
        rows, cols = grid or (1, 1)
        cells = [(r, c) for r in range(rows) for c in range(cols)]
        layout += (Tile(frame=frame, row=r, col=c, box=(0, 0, 1, 1)) for r, c in cells)
        if len(cells) > 1:
            layout.append(Tile(frame=frame, box=(0, 0, 1, 1), whole=True))
    pixels = torch.arange(len(layout)).reshape(-1, 1, 1, 1).expand(-1, 3, side, side).float()
    return Tiles(pixels, tuple(layout), ((1, 1),) * len(grids), (0.0,) * len(grids))


def pictures(*grids: Grid | None) -> Pictures:
    """The pictures of one sample."""
    return Pictures(tiles=tiles(grids), grids=grids)


def example(*ids: int) -> Example:
    """Everything is learnt but the marks."""
    made = torch.tensor(ids)
    return Example(ids=made, labels=made.where(made != -200, -100))


def batch(*samples: tuple[Sequence[int], Sequence[Grid | None]], pad: int = 0) -> Batch:
    """Samples of ids and of their pictures' grids."""
    return collate(
        [example(*ids) for ids, _ in samples],
        [pictures(*grids) if grids else None for _, grids in samples],
        pad=pad,
    )
