"""Rules by which answers are right."""

from __future__ import annotations

import pytest

from tokenloom.runtime.scoring import right, words


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("A red ball.", "red ball"),
        ("  The  CAT, the dog!", "cat dog"),
        ("3.5 of 1,000", "3.5 of 1,000"),
        ("well-known -- yes", "well-known yes"),
        ("", ""),
    ],
)
def test_words(text: str, plain: str) -> None:
    """Case, articles, marks and blanks do not count; points inside numbers do."""
    assert words(text) == plain


@pytest.mark.parametrize(
    ("rule", "said", "expected", "verdict"),
    [
        ("exact", "Red.", ["red"], True),
        ("exact", "It is red.", ["red"], False),
        ("exact", "kitten", ["cat", "kitten"], True),
        ("exact", "red", [], False),
        ("contains", "It is a red ball.", ["red ball"], True),
        ("contains", "It is reddish.", ["red"], False),
        ("contains", "anything", [""], False),
        ("choice", "C", ["(C) Took the phone."], True),
        ("choice", "(c) Took", ["C"], True),
        ("choice", "B", ["(C) Took the phone."], False),
        ("choice", "The answer is C", ["C"], False),
    ],
)
def test_rules(rule: str, said: str, expected: list[str], verdict: bool) -> None:
    """Each rule's yes and no; any of several answers will do."""
    assert right(said, expected, rule) is verdict
