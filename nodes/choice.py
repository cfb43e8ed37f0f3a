"""Scoring answers to multiple-choice questions; `render_chat` asks them (options)."""

from __future__ import annotations

from typing import NamedTuple

from ..runtime.choice import gold_text, is_right
from ..runtime.node import node
from ..runtime.values import Answer


class Checked(NamedTuple):
    """Whether the answer is right, what was said, and what is right, e.g. `(C) Took the phone.`"""

    right: bool
    said: str
    gold: str


def _foresee(answer: object, *, options: tuple[str, ...], gold: str, prefix: str) -> None:
    gold_text(options, gold, "check_choice.gold")


@node(version=1, foresee=_foresee)
def check_choice(answer: Answer, *, options: tuple[str, ...], gold: str, prefix: str = "(") -> Checked:
    """Whether an answer picks the right option, by the rule of the MVBench evaluation.

    Only the answer's first word counts, in lower case: it must hold a letter a..g, and be part of `(x)` or
    have it as a part. So `C`, `(c` and `(C) Took` are right for C, and so is `(B)(C)`; `The answer is C` is
    not. Errors: PromptError when `gold` is none of the options.

    answer: as generate gives it, to a prompt with the same options.
    options: what there was to choose from, in the same order.
    gold: the right option: its words, or its letter.
    prefix: what the prompt gave away of the answer's first word; with answer_prefix `Best option:(` it is (.
    """
    said, right = prefix + answer.text, gold_text(options, gold, "check_choice.gold")
    return Checked(is_right(said, right), said, right)
