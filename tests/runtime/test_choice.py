"""Multiple-choice questions: how they are written, and the released rule of scoring with its quirks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenloom.runtime.choice import gold_text, is_right, letter_index, question_text, scores
from tokenloom.runtime.errors import PromptError

OPTIONS = ("Sat down.", "Opened the door", "B")


def test_a_question_lists_its_options() -> None:
    """One line each, lettered."""
    assert question_text("Why?", OPTIONS) == (
        "Question: Why?\nOptions:\n(A) Sat down.\n(B) Opened the door\n(C) B"
    )


@pytest.mark.parametrize("gold", ["Opened the door", "(B)", "b"])
def test_the_right_option_by_words_or_letter(gold: str) -> None:
    """Both name the same one."""
    assert gold_text(OPTIONS, gold, "x") == "(B) Opened the door"


def test_words_come_before_letters() -> None:
    """An option that reads B is meant by B, wherever it stands."""
    assert gold_text(OPTIONS, "B", "x") == "(C) B"


@pytest.mark.parametrize("gold", ["D", "Opened", "", "()"])
def test_what_names_no_option(gold: str) -> None:
    """Neither words of one nor its letter."""
    with pytest.raises(PromptError) as error:
        gold_text(OPTIONS, gold, "node.gold")
    assert str(error.value) == (
        f"node.gold: {gold!r} is none of the options ('Sat down.', 'Opened the door', 'B'); give the right "
        "one's words or its letter"
    )


def test_more_options_than_letters() -> None:
    """The alphabet ends."""
    with pytest.raises(PromptError) as error:
        question_text("Why?", ("x",) * 27)
    assert str(error.value) == "27 options, but the alphabet has 26 letters"


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("(B) y", True),
        ("b", True),
        ("B.", True),
        ("(B", True),
        ("(A)(B) both", True),  # quirk: the right letter is a part of the word
        ("(A) y", False),
        ("The answer is (B)", False),  # quirk: only the first word counts
        ("", False),
        ("(", False),
        (" (B)", False),  # quirk: the first word ends at the first blank
    ],
)
def test_the_released_rule(said: str, right: bool) -> None:
    """Against gold (B)."""
    assert is_right(said, "(B) y") is right


@given(letter=st.sampled_from("ABCDEFG"), words=st.text(), gold=st.sampled_from("ABCDEFG"))
def test_a_plain_answer_is_right_for_its_own_letter_alone(letter: str, words: str, gold: str) -> None:
    """Whatever follows it."""
    assert is_right(f"({letter}) {words}", f"({gold}) something") == (letter == gold)


def test_index_of_an_answer() -> None:
    """EgoSchema counts from 0."""
    assert [letter_index(said) for said in ("(A) x", "(E", "(C) y")] == [0, 4, 2]


@pytest.mark.parametrize("said", ["", "(", "A", "(F) x", "(c)"])
def test_answers_without_an_index(said: str) -> None:
    """The second character is no letter of an option."""
    with pytest.raises(PromptError) as error:
        letter_index(said)
    assert str(error.value) == (
        f"EgoSchema: the answer {said!r} does not begin with a bracket and one of ABCDE; ask with "
        "answer_prefix: Best option:( and score '(' + the text"
    )


def test_both_means() -> None:
    """Over questions, as the released evaluation has it, and over tasks, as the leaderboard."""
    table = scores([("sit", True), ("sit", False), ("sit", False), ("run", True)])
    assert table.columns == ("task", "questions", "right", "percent")
    assert table.rows == (
        ("sit", 3, 1, 100 / 3),
        ("run", 1, 1, 100.0),
        ("mean over questions", 4, 2, 50.0),
        ("mean over tasks", 4, 2, (100 / 3 + 100) / 2),
    )


def test_no_results() -> None:
    """No percent of nothing."""
    assert [row[3] for row in scores([]).rows] == [None, None]
