"""What enters the language model, its state at a layer, and the answer.

S = rows of the sequence, D = width, H = key-value heads, C = rows in a layer's cache, d = head width
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from torch import Tensor

from .brief import brief
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


@dataclass(frozen=True, eq=False)
class KVCache:
    """The caches of the layers done so far; their lengths may differ."""

    layers: tuple[LayerCache, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """C of every layer."""
        return tuple(layer.length for layer in self.layers)


@dataclass(frozen=True, eq=False)
class LLMState:
    """One sequence after `layer` layers have run (layer == depth: ready for the final norm and head).

    hidden: [S, D]. position: [S] long. row: [S] long, row of the original `input`. cache: of layers
    0..layer-1. input: where everything started (segments, ids, tokens are looked up through `row`).
    next_position: rotary position of the first generated token. side: demanded channels by `Need.key`, each
    [S, ...]. Immutable: two branches may go on from one state.
    """

    hidden: Tensor
    position: Tensor
    row: Tensor
    layer: int
    cache: KVCache
    input: LLMInput
    next_position: int
    side: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        _check_rows("LLMState", len(self.hidden), self, ("position", "row"))
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
    """The generated text, its token ids (end token included), why it ended, and token counts and seconds."""

    text: str
    ids: tuple[int, ...]
    finish: str  # "stop" or "length"
    prompt_tokens: int
    visual_tokens: int
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    note: str = ""


def _check_rows(name: str, rows: int, value: object, fields: tuple[str, ...]) -> None:
    wrong = [f"{f} {tuple(getattr(value, f).shape)}" for f in fields if getattr(value, f).shape != (rows,)]
    if wrong:
        raise ValueError(f"{name}: {rows} rows, but {', '.join(wrong)}")
