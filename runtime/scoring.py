"""Whether an answer is right: compared with what was expected, by one of few rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from .choice import is_right

ARTICLES = re.compile(r"\b(a|an|the)\b")
MARKS = re.compile(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d)[.,](?=\d)|[^\w\s.,+\-]|(?<!\w)-|-(?!\w)")


def words(text: str) -> str:
    """The text in lower case, without marks and articles, one blank apart: `red ball` for `A red ball.`

    Points and commas inside numbers stay.
    """
    plain = MARKS.sub(" ", text.casefold())
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact(said: str, expected: str) -> bool:
    """The same words."""
    return words(said) == words(expected)


def contains(said: str, expected: str) -> bool:
    """The expected words, one after another, somewhere in the answer."""
    wanted = words(expected)
    return bool(wanted) and f" {wanted} " in f" {words(said)} "


def choice(said: str, expected: str) -> bool:
    """The right option of a multiple-choice question, `(C) ...` or its letter, by MVBench's released rule.

    An answer that goes on after `Best option:(` may lack the bracket.
    """
    gold = expected if expected.startswith("(") else f"({expected.strip()[:1]})"
    return is_right(said.strip(), gold)


RULES: Mapping[str, Callable[[str, str], bool]] = {"exact": exact, "contains": contains, "choice": choice}


def right(said: str, expected: Sequence[str], rule: str = "exact") -> bool:
    """Whether the answer is one of those expected, by the rule: exact, contains or choice."""
    return any(RULES[rule](said, one) for one in expected)
