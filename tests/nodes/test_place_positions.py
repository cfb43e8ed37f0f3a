"""place_tokens with merged tokens that sit at the mean of their parts' positions."""

from __future__ import annotations

import torch

from tokenloom.nodes.generate import generate
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill
from tokenloom.runtime.values import Prompt, Slot, VisualTokens

from ..runtime.models.tiny import WIDTH, language_handle, tiny_language
from ..towers import square_source

LLM = language_handle(tiny_language("llama"))


def tokens_at(*position: float, frames: int = 1) -> VisualTokens:
    """As many tokens of as many pictures, at these positions of the stage before."""
    n = len(position)
    features = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1))
    tokens = VisualTokens.of_patches(square_source(frames, 1, n // frames), features)
    return tokens.with_side(position=torch.tensor(position))


def prompt(*pieces: int | str) -> Prompt:
    return Prompt(pieces=tuple(Slot("image") if isinstance(p, str) else (p,) for p in pieces), stop=())


def test_gaps_and_the_text_behind() -> None:
    """Rounded, in the order of the rows; text goes on behind the highest."""
    placed = place_tokens(LLM, prompt(3, "i", 4, 5), tokens_at(2.6, 0.0, 7.0))
    assert placed.position.tolist() == [0, 1 + 3, 1 + 0, 1 + 7, 9, 10]
    assert placed.rope is None


def test_pictures_of_a_wire_start_at_their_first() -> None:
    """Each in a slot of its own: no gap for the picture before."""
    placed = place_tokens(LLM, prompt("i", 4, "i"), tokens_at(0.0, 1.5, 4.0, 6.0, frames=2))
    assert placed.position.tolist() == [0, 2, 3, 4, 6]


def test_consecutive_positions_are_the_same_either_way() -> None:
    """Tokens that carry 0, 1, 2, ... get what tokens without the channel get."""
    tokens = tokens_at(0.0, 1.0, 2.0)
    plain = place_tokens(LLM, prompt(3, "i", 4), VisualTokens.of_patches(tokens.source, tokens.features))
    assert place_tokens(LLM, prompt(3, "i", 4), tokens).position.equal(plain.position)


def test_decoding_goes_on_behind() -> None:
    """The state counts from the last position, not from the number of rows."""
    placed = place_tokens(LLM, prompt(3, "i", 4), tokens_at(0.0, 9.0))
    assert prefill(LLM, placed).next_position == 12
    assert len(generate(LLM, placed, max_new_tokens=2).answer.ids) == 2
