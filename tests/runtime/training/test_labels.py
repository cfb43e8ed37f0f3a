"""Which tokens are learnt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.errors import CheckpointError, PromptError
from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ChatFacts
from tokenloom.runtime.training.conversation import read_conversation
from tokenloom.runtime.training.labels import IGNORE, Example, Mismatch, label, pad_id

from ..models.tiny import tiny_tokenizer
from .made import chat, entry


def learnt(made: Example) -> str:
    """The text of the tokens that have a label; labels are the ids there."""
    counts = made.labels != IGNORE
    assert made.labels[counts].equal(made.ids[counts])
    text: str = chat().tokenizer.decode(made.ids[counts].tolist())
    return text


def test_plain_learns_the_caption_and_a_line_break() -> None:
    """Of a caption: begin, picture, caption, line break; the question is dropped."""
    sample = read_conversation(entry("<image>\nDescribe it.", "a dog", image="a.png"))
    made = label(chat(), sample, version="plain")
    assert made.ids[:2].tolist() == [1, -200]
    assert learnt(made) == "a dog\n"
    assert made.labels[:2].tolist() == [IGNORE, IGNORE]
    assert len(made) == 8


def test_v1_learns_answers_and_their_ends() -> None:
    """Of every round the answer and the end token, and nothing of questions, names and the system text."""
    sample = read_conversation(entry("<image>\nWhat?", "A dog.", "Where?", "Here.", image="a.png"))
    made = label(chat(), sample, version="v1")
    assert made.mismatch is None
    # this tokeniser has a token for the space, which SentencePiece joins with the word that follows it
    assert learnt(made) == " A dog.</s> Here.</s>"
    assert int((made.ids == -200).sum()) == 1
    assert made.ids[-1] == made.labels[-1] == 2


WORDS = st.text(alphabet="abc .,?", min_size=1, max_size=12)


@given(rounds=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), seen=st.booleans())
def test_v1_learns_just_the_answers(rounds: list[tuple[str, str]], seen: bool) -> None:
    """Whatever is said: the learnt text is that of the answers."""
    turns = [text for pair in rounds for text in pair]
    turns[0] = "<image>\n" * seen + turns[0]
    sample = read_conversation(entry(*turns, image="a.png" if seen else None))
    made = label(chat(), sample, version="v1")
    assert made.mismatch is None
    assert learnt(made) == "".join(f" {answer}</s>" for _, answer in rounds)


def test_an_answer_with_the_word_that_parts_a_round() -> None:
    """Such a sample teaches nothing, and says why."""
    sample = read_conversation(entry("Read this.", "It says ASSISTANT: hello."))
    made = label(chat(), sample, version="v1")
    assert made.mismatch == Mismatch(1, len(made))
    assert str(made.mismatch) == f"tokenization mismatch: 1 vs. {len(made)}"
    assert bool((made.labels == IGNORE).all())


def test_an_unknown_token_is_taken_for_padding() -> None:
    """One <unk> in the text makes the counts differ by one, as in the released code."""
    made = label(chat(), read_conversation(entry("What?", "A caf\u00e9.")), version="v1")
    assert made.mismatch == Mismatch(len(made), len(made) - 1)
    assert bool((made.labels == IGNORE).all())


def test_only_texts_are_cut_here() -> None:
    """A sample without pictures is cut to max_length and stays good; one with a picture keeps its length."""
    turns = ("Where?", "Here and there.")
    whole = label(chat(), read_conversation(entry(*turns)), version="v1")
    most = len(whole) - 5
    text = label(chat(), read_conversation(entry(*turns)), version="v1", max_length=most)
    assert text.ids.equal(whole.ids[:most])
    assert text.mismatch is None
    assert learnt(text) == " Here and th"
    seen = read_conversation(entry("<image>\n" + turns[0], turns[1], image="a.png"))
    assert len(label(chat(), seen, version="v1", max_length=most)) == len(whole) + 2


def test_plain_wants_a_caption() -> None:
    """A conversation is no caption."""
    with pytest.raises(PromptError) as error:
        label(chat(), read_conversation(entry("Hi", "Ho", "Hi", "Ho")), version="plain")
    assert str(error.value) == (
        "sample s1: version plain wants one picture and one caption, this has 0 pictures and 2 answers; set "
        "version: v1"
    )


def test_padding_is_the_tokenizers_or_unknown() -> None:
    """pad_token if there is one, else <unk>, else an error."""
    tokenizer = tiny_tokenizer()
    assert pad_id(ChatFormat(tokenizer, ChatFacts(template="v1"))) == 0
    tokenizer.pad_token = "</s>"
    assert pad_id(ChatFormat(tokenizer, ChatFacts(template="v1"))) == 2
    tokenizer.pad_token = tokenizer.unk_token = None
    with pytest.raises(CheckpointError) as error:
        pad_id(ChatFormat(tokenizer, ChatFacts(template="v1")))
    assert str(error.value) == (
        "the tokenizer has no padding and no unknown token, and rows of a batch must be filled; set "
        "pad_token in its tokenizer_config.json"
    )
