"""Words about the benchmark: the table of kinds and baselines, and the card of a written folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..version import __version__
from .items import Settings
from .questions import OPTIONS
from .scene import HELD_OUT
from .score import MOVING, OVERALL, Row, majority_baseline

ABOUT: dict[str, str] = {
    "colour": "What colour is the circle?",
    "shape": "What shape is the red object?",
    "digit": "Which digit is shown?",
    "count": "How many objects are there?",
    "size": "Is the red circle small or large?",
    "exist": "Is there a red circle?",
    "where": "Where is the red circle?",
    "event": "What happens to the red circle?",
    "motion": "Where does the red circle move?",
    "mover": "What colour is the object that moves?",
    MOVING: "`motion`, of objects that do move",
    OVERALL: "all questions",
}


def table(questions: Sequence[Row]) -> list[tuple[str, str, str, int, str, float]]:
    """Rows of: kind, an example, options, questions asked, commonest answer, its share (0 to 1)."""
    counted = Counter(str(row["kind"]) for row in questions)
    counted[OVERALL] = len(questions)
    counted[MOVING] = sum(row["kind"] == "motion" and row["answer"] != "nowhere" for row in questions)
    return [
        (kind, ABOUT[kind], _options(kind), counted[kind], base.answer, base.share)
        for kind, base in majority_baseline(questions).items()
    ]


def markdown_table(questions: Sequence[Row]) -> str:
    """The table as markdown, shares in percent."""
    lines = [
        "| kind | for example | answers | questions | commonest answer | its share |",
        "|---|---|---|--:|---|--:|",
    ]
    for kind, example, options, asked, answer, share in table(questions):
        lines.append(f"| {kind} | {example} | {options} | {asked} | {answer} | {share:.1%} |")
    return "\n".join(lines)


def card(settings: Settings, questions: Sequence[Row]) -> str:
    """The README of a folder that was written with these settings."""
    clips = settings.frames is not None
    what = f"clips of {settings.frames} frames at {settings.fps:g} per second" if clips else "pictures"
    pairs = ", ".join(f"{colour} {shape}" for colour, shape in sorted(HELD_OUT))
    held = "shows in every scene" if settings.split == "pairs" else "never shows"
    return f"""---
license: apache-2.0
task_categories: [visual-question-answering]
language: [en]
configs:
- config_name: default
  data_files: [{{split: {settings.split}, path: questions.jsonl}}]
---

# Coloured shapes: {settings.number} {what}, split `{settings.split}`

Procedural scenes of 112 x 112 pixels with questions that have exactly one right answer, made by tokenloom
{__version__}; no file of anybody else went into them. To write the same folder again:

    {command(settings)}

![samples](preview.png)

`questions.jsonl` has one JSON object per question: `id`, `{settings.medium}` (a path in this folder),
`question`, `answer`, `kind`, `options` (every possible answer of that kind), `split`, and `scene`: objects
and digit with a box for every frame, `[left, top, right, bottom]` in pixels, null where hidden.

{markdown_table(questions)}

This split {held} the pairs {pairs}.

Scoring: an answer is right if it is the option, in any case, with marks around it or none; number words and
a few synonyms count (tokenloom's `runtime/shapes/words.py`). Write answers as JSON lines
`{{"id": ..., "answer": ...}}`, then: `tokenloom shapes score . answers.jsonl`
"""


def command(settings: Settings) -> str:
    """The command line that makes the same folder."""
    words = f"tokenloom shapes make DIR --split {settings.split} --n {settings.number} --seed {settings.seed}"
    if settings.frames is not None:
        words += f" --clips --frames {settings.frames} --fps {settings.fps:g}"
    return words + (f" --questions {settings.questions}" if settings.questions is not None else "")


def _options(kind: str) -> str:
    if kind not in OPTIONS:
        return ""
    options = OPTIONS[kind]
    return f"{options[0]} to {options[-1]}" if options[-1].isdigit() else ", ".join(options)
