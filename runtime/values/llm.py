"""What enters the language model, its state at a layer, and the answer.

S = rows of the sequence, D = width, H = key-value heads, C = rows in a layer's cache, d = head width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

import torch
from torch import Tensor

from ..errors import BudgetError, GraphError
from .brief import brief
from .source import Kind
from .tokens import VisualTokens


class Segment(IntEnum):
    """Which part of the prompt a row belongs to."""

    TEXT_BEFORE = 0  # before the first visual token
    VISUAL = 1
    TEXT_BETWEEN = 2  # between two images
    TEXT_AFTER = 3  # after the last visual token; all rows of a prompt without images


@dataclass(frozen=True, eq=False)
class LLMInput:
    """One sequence, ready for the first layer.

    embeds: [S, D]. position: [S] long rotary positions, with M-RoPE the greatest of each row's three.
    segment: [S] uint8, a `Segment`. wire: [S] long, which of `tokens` a visual row comes from (-1: text).
    token: [S] long, its row there (-1: text). ids: [S] long, text token ids (-1: visual). stop: strings that
    end the answer. rope: [S, 3] long, M-RoPE's time, row and column; None: the model has plain positions.
    model: fingerprint of the language model it was placed for; "": made by hand, for whatever model.
    """

    embeds: Tensor
    position: Tensor
    segment: Tensor
    wire: Tensor
    token: Tensor
    ids: Tensor
    tokens: tuple[VisualTokens, ...] = ()
    stop: tuple[str, ...] = ()
    rope: Tensor | None = None
    model: str = ""

    def __post_init__(self) -> None:
        _check_rows("LLMInput", len(self.embeds), self, ("position", "segment", "wire", "token", "ids"))
        if self.rope is not None and self.rope.shape != (len(self.embeds), 3):
            raise ValueError(f"LLMInput: {len(self.embeds)} rows, but rope {tuple(self.rope.shape)}")

    def __len__(self) -> int:
        return len(self.embeds)

    @property
    def text_after(self) -> Tensor:
        """[S] bool: the text after the visual tokens; newlines and separators that end these belong to it."""
        after = self.segment == int(Segment.TEXT_AFTER)
        seen = self.visual & ~self.special
        behind = seen.flip(0).cumsum(0).flip(0) == 0
        return behind & after.any() if bool(seen.any()) else after

    @property
    def number(self) -> Tensor:
        """[S] long: the row's token among those of all wires, one after another; -1: text."""
        first = torch.tensor([0, *map(len, self.tokens)], device=self.wire.device).cumsum(0)
        return torch.where(self.wire < 0, -1, first[self.wire] + self.token)

    @property
    def special(self) -> Tensor:
        """[S] bool: newlines and separators among the visual tokens."""
        out = torch.zeros_like(self.visual)
        if self.tokens:
            kind = torch.cat([tokens.kind.to(out.device) for tokens in self.tokens])
            mine = kind[self.number[self.visual]]
            out[self.visual] = (mine == int(Kind.NEWLINE)) | (mine == int(Kind.SEPARATOR))
        return out

    @property
    def visual(self) -> Tensor:
        """[S] bool: which rows are visual tokens."""
        return self.segment == int(Segment.VISUAL)

    def __repr__(self) -> str:
        return f"LLMInput[{brief(self.embeds)}]"


@dataclass(frozen=True, eq=False)
class LayerCache:
    """Keys and values of one layer: [H, C, d] each; position [C] rotary positions; row [C] original rows.

    After a compression that chooses per head, position and row are [H, C]. received: [H, C] float32, how much
    attention each key got from all rows of the prompt, summed over them and over the query heads that share
    it; None: nobody asked.
    """

    keys: Tensor
    values: Tensor
    position: Tensor
    row: Tensor
    received: Tensor | None = None

    @property
    def per_head(self) -> bool:
        """Whether the heads hold different rows."""
        return self.row.ndim == 2

    @property
    def length(self) -> int:
        """C."""
        return self.keys.shape[1]

    def __repr__(self) -> str:
        return f"LayerCache[{brief(self.keys)}]"

    def keep(self, row: Tensor) -> LayerCache:
        """Only the keys and values of the original rows `row` [n] long. Refuses rows chosen per head."""
        if self.per_head:
            raise GraphError(
                "keep(rewrite_cache=True): the heads of this cache hold different rows, so rows cannot be "
                "dropped from all of them; compress the cache after the last prune"
            )
        stays = torch.isin(self.row, row.to(self.row.device)).nonzero()[:, 0]
        received = None if self.received is None else self.received[:, stays]
        return LayerCache(
            self.keys[:, stays], self.values[:, stays], self.position[stays], self.row[stays], received
        )


@dataclass(frozen=True, eq=False)
class KVCache:
    """The caches of the layers done so far; their lengths may differ."""

    layers: tuple[LayerCache, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """C of every layer."""
        return tuple(layer.length for layer in self.layers)

    def keep(self, row: Tensor) -> KVCache:
        """Every layer's cache with only the original rows `row` [n] long."""
        return KVCache(tuple(layer.keep(row) for layer in self.layers))


@dataclass(frozen=True, eq=False)
class Hiding:
    """Rows that stay in the sequence but are not seen (FastV's mask mode), from layer `layer` on.

    visible: [S] bool; a row that is not visible is a key for nobody (one that would see nothing sees itself).
    keep: at every decode step, the visual rows that the new row sees from `layer` on: those to which it
    attends most at layer `layer` - 1, heads averaged.
    """

    layer: int
    visible: Tensor
    keep: int

    def __post_init__(self) -> None:
        if self.layer < 1 or self.keep < 0:
            raise ValueError(
                f"Hiding: from layer {self.layer}, keep {self.keep}; wanted layer 1 or more (the one before "
                "it chooses), and 0 or more rows"
            )

    def __repr__(self) -> str:
        return f"Hiding[from layer {self.layer}, {brief(self.visible)}, keep {self.keep}]"


@dataclass(frozen=True, eq=False)
class LLMState:
    """One sequence after `layer` layers have run (layer == depth: ready for the final norm and head).

    hidden: [S, D]. position: [S] long. row: [S] long, row of the original `input`. cache: of layers
    0..layer-1. input: where everything started (segments, ids, tokens are looked up through `row`).
    next_position: rotary position of the first generated token. side: demanded channels by `Need.key`, each
    [S, ...]. hiding: rows that later layers do not see; None: they see all. ran: per layer done, the rows [n]
    of `input` that it ran on, whatever its cache holds now; empty for a state made by hand. Immutable: two
    branches may go on from one state.
    """

    hidden: Tensor
    position: Tensor
    row: Tensor
    layer: int
    cache: KVCache
    input: LLMInput
    next_position: int
    side: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    hiding: Hiding | None = None
    ran: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        _check_rows("LLMState", len(self.hidden), self, ("position", "row"))
        if self.ran and len(self.ran) != self.layer:
            raise ValueError(f"LLMState: {self.layer} layers have run, but ran tells of {len(self.ran)}")
        if self.hiding is not None:
            _check_rows("LLMState.hiding", len(self.hidden), self.hiding, ("visible",))
        if len(self.cache.layers) != self.layer:
            raise ValueError(
                f"LLMState: {self.layer} layers have run, but {len(self.cache.layers)} are cached"
            )

    def __len__(self) -> int:
        return len(self.hidden)

    def __repr__(self) -> str:
        return f"LLMState[layer {self.layer}, {brief(self.hidden)}]"

    @property
    def segment(self) -> Tensor:
        """[S] uint8: the `Segment` of every row."""
        return self.input.segment[self.row]

    @property
    def place(self) -> Tensor:
        """[S] positions, or with M-RoPE [S, 3]: what the rotary embedding takes."""
        return self.position if self.input.rope is None else self.input.rope[self.row]

    @property
    def visual(self) -> Tensor:
        """[S] bool: which rows are visual tokens."""
        return self.segment == int(Segment.VISUAL)

    @property
    def carried(self) -> frozenset[str]:
        """The channels that it has: those of `side`, and `cache_attention` where every whole cache has it."""
        whole = [layer for layer in self.cache.layers if not layer.per_head]
        heard = {"cache_attention"} if all(layer.received is not None for layer in whole) else set[str]()
        return frozenset(self.side) | heard

    def keep(self, rows: Tensor, *, rewrite_cache: bool = False) -> LLMState:
        """Only these rows: [n] long, ascending, or [S] bool; side channels and hidden rows go along.

        Positions and next_position stay, with gaps. rewrite_cache: the caches of the layers done lose the
        dropped rows, too (PruneVid, stage 3); else those layers go on seeing them (FastV).
        Errors: BudgetError for rows that are none of the state's, GraphError for caches chosen per head.
        """
        index = _index(rows.to(self.hidden.device), len(self))
        row = self.row[index]
        return replace(
            self,
            hidden=self.hidden[index],
            position=self.position[index],
            row=row,
            cache=self.cache.keep(row) if rewrite_cache else self.cache,
            side={key: channel[index] for key, channel in self.side.items()},
            hiding=None if self.hiding is None else replace(self.hiding, visible=self.hiding.visible[index]),
        )

    def repacked(self) -> LLMState:
        """Positions without gaps for the layers to come: 0..S-1, and S for the first generated token.

        Layers that have run keep the positions of their keys. Errors: GraphError with M-RoPE, where a row's
        place is three numbers.
        """
        if self.input.rope is not None:
            raise GraphError(
                "repacked: this model has M-RoPE positions (time, row, column), which cannot be numbered "
                "0, 1, 2, ...; keep the original positions"
            )
        position = torch.arange(len(self), device=self.position.device)
        return replace(self, position=position, next_position=len(self))


@dataclass(frozen=True, eq=False)
class Logits:
    """Scores of the next token, [n, V], after the rows `row` [n] long of the original sequence."""

    values: Tensor
    row: Tensor

    def __repr__(self) -> str:
        return f"Logits[{brief(self.values)}]"

    def __post_init__(self) -> None:
        _check_rows("Logits", len(self.values), self, ("row",))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The generated text, its token ids (end token included), why it ended, and token counts and seconds.

    visual_tokens: placed in the prompt. kept_visual_tokens: of these, seen by the last layer when the answer
    began; None: not counted.
    """

    text: str
    ids: tuple[int, ...]
    finish: str  # "stop" or "length"
    prompt_tokens: int
    visual_tokens: int
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    note: str = ""
    kept_visual_tokens: int | None = None


def _check_rows(name: str, rows: int, value: object, fields: tuple[str, ...]) -> None:
    wrong = [f"{f} {tuple(getattr(value, f).shape)}" for f in fields if getattr(value, f).shape != (rows,)]
    if wrong:
        raise ValueError(f"{name}: {rows} rows, but {', '.join(wrong)}")


def _index(rows: Tensor, length: int) -> Tensor:
    """[n] long from a mask or an index of a state's rows."""
    if rows.dtype == torch.bool:
        if rows.shape != (length,):
            raise BudgetError(f"keep.rows: a mask {tuple(rows.shape)} for a state of {length} rows")
        return rows.nonzero()[:, 0]
    if rows.ndim != 1 or rows.is_floating_point():
        raise BudgetError(
            f"keep.rows: [{brief(rows)}] is no index; give [n] long row numbers, ascending, or [{length}] "
            "bool"
        )
    rows = rows.long()
    wrong = (rows < 0) | (rows >= length)
    wrong[1:] |= rows[1:] <= rows[:-1]
    if bool(wrong.any()):
        raise BudgetError(
            f"keep.rows: wanted row numbers of 0..{length - 1}, each once and ascending; sort them, or give "
            f"a mask [{length}] bool"
        )
    return rows
