"""Entries of a LLaVA file: pictures, turns, lengths, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tokenloom.runtime.errors import PromptError
from tokenloom.runtime.training.conversation import mark_first, read_conversation

from .made import entry


def test_marks_go_to_the_front() -> None:
    """Wherever a question has its mark, it comes first, on a line of its own."""
    for asked in ("What is this? <image>", "<image>\nWhat is this?", "What <image>is this?"):
        assert mark_first(asked) == "<image>\nWhat is this?"
    assert mark_first("What is this?") == "What is this?"
    assert mark_first("<image>") == "<image>"


def test_every_mark_stays() -> None:
    """Two pictures in one question keep two marks."""
    sample = read_conversation(entry("Compare <image> with <image>.", "Same.", image=["a.png", "b.png"]))
    assert sample.questions == ("<image>\n<image>\nCompare  with .",)
    assert sample.images == ("a.png", "b.png")


def test_paths_stay_as_they_are() -> None:
    """No folder of a data set is rewritten."""
    path = "vg/VG_100K_2/1.jpg"
    assert read_conversation(entry("<image>\nWhat?", "A dog.", image=path)).images == (path,)


def test_a_first_answer_is_skipped_but_counted() -> None:
    """An entry that begins with gpt loses that turn; its words count towards the length."""
    turns = [("gpt", "Hello you"), ("human", "What is it?"), ("gpt", "A dog.")]
    given = {"id": 7, "conversations": [{"from": who, "value": text} for who, text in turns]}
    sample = read_conversation(given)
    assert (sample.name, sample.questions, sample.answers) == ("7", ("What is it?",), ("A dog.",))
    assert (sample.words, sample.signed_words, sample.length) == (7, -7, 7)


def test_lengths_of_a_sample_with_a_picture() -> None:
    """The mark is a word; the signed length is positive; a picture counts 128."""
    sample = read_conversation(entry("<image>\nWhat is it?", "A dog.", image="a.png"))
    assert (sample.words, sample.signed_words, sample.length) == (6, 6, 134)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"id": "a", "conversations": []},
            'sample a: conversations is []; wanted a list of {"from": "human" or "gpt", "value": text}',
        ),
        (
            {"id": "a", "conversations": [{"from": "user", "value": "Hi"}]},
            "sample a: turn 1 is {'from': 'user', 'value': 'Hi'}; wanted "
            '{"from": "human" or "gpt", "value": text}',
        ),
        (
            {"id": "a", "conversations": [{"from": "human", "value": "Hi"}] * 2},
            "sample a: question and answer do not take turns: human speaks where gpt should (turn 2 after a "
            "skipped first answer); mend the file",
        ),
        (
            entry("Hi"),
            "sample s1: it ends with a question, so there is no answer to learn; add the answer, or leave "
            "the sample out",
        ),
        (
            entry("<image>\nWhat?", "A dog."),
            "sample s1: its questions have 1 <image>, but it names 0 images; give every image one mark",
        ),
        (
            entry("What?", "<image> A dog.", image="a.png"),
            "sample s1: an answer holds <image>, which only a question may; remove it there",
        ),
        (
            entry("<image>\nWhat?", "A dog.", image=[7]),
            "sample s1: image is [7]; wanted a path, or a list of paths",
        ),
    ],
)
def test_refused(given: dict[str, Any], said: str) -> None:
    """An entry that cannot be learnt from is named, with what to mend."""
    with pytest.raises(PromptError) as error:
        read_conversation(given)
    assert str(error.value) == said
