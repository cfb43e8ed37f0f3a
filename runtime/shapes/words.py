"""What counts as the right answer: the option itself, or another word for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from .questions import OPTIONS

Rule = Literal["exact", "option"]
RULES: tuple[Rule, ...] = ("exact", "option")

_MARKS = " \t\r\n.,:;!\"'`*()"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS)}

ALTERNATIVES: Mapping[str, Mapping[str, str]] = {
    "colour": {"violet": "purple", "turquoise": "cyan", "aqua": "cyan"},
    "shape": {"disk": "circle", "disc": "circle", "plus": "cross", "plus sign": "cross", "donut": "ring"},
    "digit": _NUMBERS,
    "count": _NUMBERS,
    "size": {"big": "large", "little": "small"},
    "exist": {},
    "where": {
        f"{said} {side}": f"{meant} {side}"
        for said, meant in (("upper", "top"), ("lower", "bottom"))
        for side in ("left", "right")
    },
    "event": {
        **{"move": "moves", "moving": "moves", "stay": "stays", "stays still": "stays", "nothing": "stays"},
        **{"appear": "appears", "disappear": "disappears", "vanishes": "disappears"},
        **{"flash": "flashes", "appears and disappears": "flashes"},
    },
    "motion": {
        **{"leftward": "left", "leftwards": "left", "rightward": "right", "rightwards": "right"},
        **{"upward": "up", "upwards": "up", "downward": "down", "downwards": "down"},
        **{"to the left": "left", "to the right": "right", "stays": "nowhere", "does not move": "nowhere"},
    },
    "mover": {"violet": "purple", "turquoise": "cyan", "aqua": "cyan"},
}
"""Other words that count as an option, by kind of question."""


def plain(said: str) -> str:
    """The answer in lower case, hyphens as blanks, single blanks, without marks and quotes around it."""
    return " ".join(said.lower().replace("-", " ").split()).strip(_MARKS)


def chosen(kind: str, said: str, rule: Rule = "exact") -> str | None:
    """The option of that kind which an answer means, or None.

    `exact`: the answer is the option, or one of `ALTERNATIVES`. `option`: it is the only option that is named
    as words of the answer, longer names first: `The star is in the top left.` means `top left`.
    """
    words = {**{option: option for option in OPTIONS[kind]}, **ALTERNATIVES[kind]}
    text = plain(said)
    if text in words:
        return words[text]
    return None if rule == "exact" else _only_one(words, text)


def _only_one(words: Mapping[str, str], text: str) -> str | None:
    left = f" {' '.join(part.strip(_MARKS) for part in text.split())} "
    named = set[str]()
    for word in sorted(words, key=len, reverse=True):
        if f" {word} " in left:
            named.add(words[word])
            left = left.replace(f" {word} ", " | ")
    return named.pop() if len(named) == 1 else None
