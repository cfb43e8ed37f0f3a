"""check_choice: right or wrong, and what was said."""

from __future__ import annotations

import pytest

from tokenloom.nodes.choice import check_choice
from tokenloom.runtime.errors import PromptError
from tokenloom.runtime.values import Answer

OPTIONS = ("Sat on the bed.", "Opened the door")


def answer(text: str) -> Answer:
    return Answer(text=text, ids=(), finish="stop", prompt_tokens=0, visual_tokens=0)


def test_an_answer_that_goes_on_from_the_prompt() -> None:
    """The bracket that the prompt gave away is put back."""
    checked = check_choice(answer("B) Opened"), options=OPTIONS, gold="Opened the door")
    assert checked == (True, "(B) Opened", "(B) Opened the door")


def test_an_answer_of_its_own() -> None:
    """Without a prefix in the prompt there is nothing to put back."""
    checked = check_choice(answer("A."), options=OPTIONS, gold="B", prefix="")
    assert checked == (False, "A.", "(B) Opened the door")


def test_a_plan_refuses_what_is_no_option() -> None:
    """Before any model is loaded."""
    assert check_choice.foresee is not None
    with pytest.raises(PromptError) as error:
        check_choice.foresee(None, options=OPTIONS, gold="C", prefix="(")
    assert str(error.value) == (
        "check_choice.gold: 'C' is none of the options ('Sat on the bed.', 'Opened the door'); give the "
        "right one's words or its letter"
    )
