"""Values in one short line, for errors, events and reports: `Tokens[54 x 1024, float16, cuda:0]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .models.handle import Model
from .values import Answer, Frames, LLMInput, LLMState, Logits, Picture, Prompt, Tiles, Tokens
from .values.brief import brief

_COUNTED = (Tokens, LLMInput, LLMState)


def describe(value: Any) -> str:
    """Class, shape, dtype and device of a value."""
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"Tensor[{brief(value)}]"
    if isinstance(value, Tokens | Tiles | Frames | LLMInput | LLMState | Logits | Picture):
        return repr(value)
    if isinstance(value, Model):
        return f"Model[{value.kind.__name__}] of {value.facts.name}"
    if isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
        return ", ".join(f"{k}: {describe(v)}" for k, v in zip(names, value, strict=True))
    if isinstance(value, Prompt | Answer):
        return name
    if isinstance(value, int | float | bool | None | str | Path):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return name


def token_count(value: Any) -> int | None:
    """How many tokens a value holds: rows of tokens, of a sequence; None for everything else."""
    return len(value) if isinstance(value, _COUNTED) else None
