"""Values in one short line, for errors, events and reports: `Tokens[54 x 1024, float16, cuda:0]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .models.handle import Model
from .values import Answer, Frames, LLMInput, LLMState, Prompt, Tiles, Tokens

_COUNTED = (Tokens, LLMInput, LLMState)


def describe(value: Any) -> str:
    """Class, shape, dtype and device of a value."""
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"Tensor[{_tensor(value)}]"
    if isinstance(value, Tokens):
        return f"{name}[{_tensor(value.features)}]"
    if isinstance(value, Tiles):
        return f"Tiles[{_tensor(value.pixels)}]"
    if isinstance(value, Frames):
        sizes = " ".join(f"{w}x{h}" for w, h in dict.fromkeys(value.sizes))
        return f"Frames[{len(value)} of {sizes}]"
    if isinstance(value, LLMInput):
        return f"LLMInput[{_tensor(value.embeds)}]"
    if isinstance(value, LLMState):
        return f"LLMState[layer {value.layer}, {_tensor(value.hidden)}]"
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


def _tensor(tensor: Tensor) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    return f"{shape}, {str(tensor.dtype).removeprefix('torch.')}, {tensor.device}"


def token_count(value: Any) -> int | None:
    """How many tokens a value holds: rows of tokens, of a sequence; None for everything else."""
    return len(value) if isinstance(value, _COUNTED) else None
