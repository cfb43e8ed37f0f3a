"""A prompt: tokenised text with open slots for images and videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

IMAGE_TOKEN_INDEX = -200  # the sentinel of LLaVA's released code, accepted by `Prompt.of_ids`


@dataclass(frozen=True)
class Slot:
    """A place for visual tokens: those of one picture, or of a whole video."""

    media: Literal["image", "video"] = "image"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Text pieces (token ids) and slots in order; `text`: what was tokenised; `stop`: strings that end it."""

    pieces: tuple[tuple[int, ...] | Slot, ...]
    text: str = ""
    stop: tuple[str, ...] = ()

    @classmethod
    def of_ids(cls, ids: Sequence[int], media: Literal["image", "video"] = "image") -> Prompt:
        """From token ids in which -200 marks a slot, as LLaVA's `tokenizer_image_token` returns them."""
        pieces: list[tuple[int, ...] | Slot] = []
        run: list[int] = []
        for i in ids:
            if i == IMAGE_TOKEN_INDEX:
                pieces += [tuple(run), Slot(media)] if run else [Slot(media)]
                run = []
            else:
                run.append(int(i))
        return cls(pieces=(*pieces, tuple(run)) if run else tuple(pieces))

    @property
    def ids(self) -> tuple[int, ...]:
        """All token ids, -200 for a slot."""
        out: list[int] = []
        for piece in self.pieces:
            out.extend((IMAGE_TOKEN_INDEX,) if isinstance(piece, Slot) else piece)
        return tuple(out)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Slot))
