"""Training samples: LLaVA's JSON entries, checked, with every picture's mark where the model expects it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PromptError

MARK = "<image>"
IMAGE_WORDS = 128  # what a picture counts for in lengths that are not grouped by modality, as released


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Questions and answers by turns, as many of each, marks first; images: paths exactly as the file says.

    words: of the entry as written, marks and a skipped first answer included.
    """

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    images: tuple[str, ...] = ()
    words: int = 0

    @property
    def signed_words(self) -> int:
        """`words`, negative for a sample without pictures: the released sampler's lengths."""
        return self.words if self.images else -self.words

    @property
    def length(self) -> int:
        """`words`, and 128 for every picture."""
        return self.words + IMAGE_WORDS * len(self.images)


def read_conversation(entry: Mapping[str, Any]) -> Conversation:
    """One entry of a LLaVA file: `{"id", "image" (a path, several, or none), "conversations": [...]}`.

    A first turn by `gpt` is skipped, as released; paths are never rewritten (the released code maps
    `vg/VG_100K` to a folder of its authors). Errors: PromptError for turns out of order, for an entry that
    ends without an answer, for a mark in an answer, and when marks and images are not equally many.
    """
    name = str(entry.get("id", "?"))
    turns = _turns(name, entry.get("conversations"))
    words = sum(len(text.split()) for _, text in turns)
    if turns[0][0] == "gpt":
        turns = turns[1:]
    _check_order(name, [speaker for speaker, _ in turns])
    images = _images(name, entry.get("image"))
    questions = tuple(text for _, text in turns[::2])
    answers = tuple(text for _, text in turns[1::2])
    _check_marks(name, questions, answers, len(images))
    return Conversation(
        name=name,
        questions=tuple(map(mark_first, questions)),
        answers=answers,
        images=images,
        words=words,
    )


def mark_first(question: str) -> str:
    """The question with its `<image>` marks in front, each on its own line; unchanged without any.

    The released code keeps one mark of several, so that the other pictures are lost; here all stay.
    """
    marks = question.count(MARK)
    if not marks:
        return question
    return (f"{MARK}\n" * marks + question.replace(MARK, "").strip()).strip()


def _turns(name: str, given: Any) -> list[tuple[str, str]]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise PromptError(
            f'sample {name}: conversations is {given!r}; wanted a list of {{"from": "human" or "gpt", '
            '"value": text}'
        )
    turns: list[tuple[str, str]] = []
    for i, turn in enumerate(given):
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        text = turn.get("value") if isinstance(turn, Mapping) else None
        if speaker not in ("human", "gpt") or not isinstance(text, str):
            raise PromptError(
                f'sample {name}: turn {i + 1} is {turn!r}; wanted {{"from": "human" or "gpt", "value": text}}'
            )
        turns.append((speaker, text))
    return turns


def _check_order(name: str, speakers: list[str]) -> None:
    for i, speaker in enumerate(speakers):
        if speaker != (wanted := ("human", "gpt")[i % 2]):
            raise PromptError(
                f"sample {name}: question and answer do not take turns: {speaker} speaks where {wanted} "
                f"should (turn {i + 1} after a skipped first answer); mend the file"
            )
    if not speakers or len(speakers) % 2:
        raise PromptError(
            f"sample {name}: it ends with a question, so there is no answer to learn; add the answer, or "
            "leave the sample out"
        )


def _images(name: str, given: Any) -> tuple[str, ...]:
    paths = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if any(not isinstance(path, str) or not path for path in paths):
        raise PromptError(f"sample {name}: image is {given!r}; wanted a path, or a list of paths")
    return paths


def _check_marks(name: str, questions: Sequence[str], answers: Sequence[str], images: int) -> None:
    if any(MARK in answer for answer in answers):
        raise PromptError(
            f"sample {name}: an answer holds {MARK}, which only a question may; remove it there"
        )
    marks = sum(question.count(MARK) for question in questions)
    if marks != images:
        raise PromptError(
            f"sample {name}: its questions have {marks} {MARK}, but it names {images} images; give every "
            "image one mark"
        )
