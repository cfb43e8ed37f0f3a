"""ChatFormat: text to pieces, ids to text."""

from __future__ import annotations

import pytest

from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ChatFacts
from tokenloom.runtime.values import Slot

from .tiny import tiny_tokenizer

FACTS = ChatFacts(template="plain")
IMAGE, VIDEO = Slot("image"), Slot("video")


def ids(text: str) -> tuple[int, ...]:
    return tuple(tiny_tokenizer(bos=False)(text).input_ids)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("ab", ((1, *ids("ab")),)),
        ("<image>ab", ((1,), IMAGE, ids("ab"))),
        ("a<image><image>", ((1, *ids("a")), IMAGE, IMAGE)),
        ("<video>\na <image>", ((1,), VIDEO, ids("\na "), IMAGE)),
        ("", ((1,),)),
        ("< image>", ((1, *ids("< image>")),)),
    ],
)
def test_chunks_between_slots_are_tokenised_alone(text: str, pieces: tuple[object, ...]) -> None:
    """Only the first chunk keeps the beginning-of-sequence token."""
    assert ChatFormat(tiny_tokenizer(), FACTS).encode(text) == pieces


def test_a_tokenizer_without_a_first_token() -> None:
    """No token is invented, and none is taken away."""
    chat = ChatFormat(tiny_tokenizer(bos=False), FACTS)
    assert chat.encode("<image>ab") == (IMAGE, ids("ab"))
    assert chat.encode("") == ()


def test_text_that_spells_its_own_first_token() -> None:
    """special: False adds nothing."""
    assert ChatFormat(tiny_tokenizer(), FACTS).encode("ab", special=False) == (ids("ab"),)


def test_decoding_leaves_special_tokens_out() -> None:
    """Ids of <s> and </s> are no text."""
    assert ChatFormat(tiny_tokenizer(), FACTS).decode([1, *ids("Hi"), 2]) == "Hi"


def test_texts_that_are_one_token() -> None:
    """Known ones by id; unknown ones are left out."""
    chat = ChatFormat(tiny_tokenizer(), FACTS)
    assert chat.single(["</s>", "###", "A"]) == (2, *ids("A"))


def test_no_tokenizer_is_an_error_only_when_text_is_needed() -> None:
    """The format exists without one; asking for text names what is missing."""
    chat = ChatFormat(None, FACTS)
    with pytest.raises(CheckpointError, match=r"^the checkpoint has no tokenizer files \(tokenizer.json\)"):
        chat.decode([1])
