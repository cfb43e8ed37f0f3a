"""Multiple-choice questions as the video benchmarks ask and score them (specs/prunevid.md, 1.7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from .errors import PromptError
from .values import Table

SCORED = "abcdefg"  # letters that the released scoring knows


def question_text(question: str, options: Sequence[str]) -> str:
    """`Question: ...`, `Options:`, and a line `(A) ...` for each option."""
    lines = [f"({letter}) {option}" for letter, option in zip(_letters(options), options, strict=True)]
    return "\n".join([f"Question: {question}", "Options:", *lines])


def gold_text(options: Sequence[str], gold: str, where: str) -> str:
    """`(C) ...` of the right option, which is named by its words or, if no option reads so, by its letter.

    Errors: PromptError, beginning with `where`, for anything else.
    """
    letters = _letters(options)
    named = gold.strip().strip("()").upper()
    if gold in options:
        place = options.index(gold)
    elif len(named) == 1 and named in letters:
        place = letters.index(named)
    else:
        shown = ", ".join(map(repr, options)) or "none"
        raise PromptError(
            f"{where}: {gold!r} is none of the options ({shown}); give the right one's words or its letter"
        )
    return f"({letters[place]}) {options[place]}"


def is_right(said: str, gold: str) -> bool:
    """Whether an answer picks the option `(X) ...`, exactly as the released evaluation has it.

    Only the first words, up to a blank, count, in lower case: the answer's must hold a letter a..g, and be
    part of `(x)` without its full stops, or have `(x)` as a part. So `(A)(B)` is right for B.
    """
    word, letter = said.lower().split(" ")[0], gold.lower().split(" ")[0]
    if not any(known in word for known in SCORED):
        return False
    return word.replace(".", "") in letter or letter in word


def letter_index(said: str, options: int = 5) -> int:
    """0 for `(A) ...`, 1 for `(B`, ...: what EgoSchema's server takes, read off the second character.

    Errors: PromptError for an answer whose second character is no letter of an option.
    """
    letters = ascii_uppercase[:options]
    if said[1:2] and said[1] in letters:
        return letters.index(said[1])
    raise PromptError(
        f"EgoSchema: the answer {said!r} does not begin with a bracket and one of {letters}; "
        "ask with answer_prefix: Best option:( and score '(' + the text"
    )


def scores(results: Iterable[tuple[str, bool]]) -> Table:
    """Per task: questions, right answers, percent; then the mean over all questions, and that over tasks.

    results: (task, whether the answer was right). The released evaluation reports the first mean,
    MVBench's leaderboard the second.
    """
    counts: dict[str, list[int]] = {}
    for task, correct in results:
        count = counts.setdefault(task, [0, 0])
        count[0] += 1
        count[1] += correct
    lines = [(task, asked, right, 100 * right / asked) for task, (asked, right) in counts.items()]
    asked, right = sum(line[1] for line in lines), sum(line[2] for line in lines)
    means = (
        ("mean over questions", asked, right, 100 * right / asked if asked else None),
        ("mean over tasks", asked, right, sum(line[3] for line in lines) / len(lines) if lines else None),
    )
    return Table(("task", "questions", "right", "percent"), (*lines, *means))


def _letters(options: Sequence[str]) -> str:
    if len(options) > len(ascii_uppercase):
        raise PromptError(f"{len(options)} options, but the alphabet has {len(ascii_uppercase)} letters")
    return ascii_uppercase[: len(options)]
