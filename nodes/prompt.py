"""A question, asked in the words a model was trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from ..runtime.choice import question_text
from ..runtime.errors import PromptError, did_you_mean
from ..runtime.models.chat import MARK, SLOTS, ChatFormat
from ..runtime.models.handle import Model
from ..runtime.models.templates import TEMPLATES
from ..runtime.node import node
from ..runtime.values import Frames, Prompt, Slot
from ..runtime.widgets import Range

TemplateName = Literal[
    "auto",
    "vicuna_v1",
    "v1",
    "llava_v1",
    "llava_v0",
    "llava_llama_2",
    "mistral_instruct",
    "chatml_direct",
    "mpt",
    "qwen_1_5",
    "qwen2_5_vl",
    "pllava",
    "pllava_mvbench",
    "pllava_videomme",
    "pllava_vcgbench",
    "pllava_videoqa",
    "pllava_plain",
    "internlm2-chat",
    "internvl2_5",
    "plain",
    "tokenizer",
]
Media = Literal["image", "video", "frame"]
LEADING = re.compile(rf"(?:(?:{MARK.pattern}|<image-placeholder>)\n?)*")


@dataclass(frozen=True)
class KnownPrompt:
    """What a plan knows of a prompt before it is tokenised: its slots."""

    slots: tuple[Slot, ...]


def _foresee(
    chat: Model[ChatFormat] | None,
    *frames: object,
    question: str,
    template: str,
    history: tuple[str, ...],
    images: int | None,
    media: Media,
    options: tuple[str, ...] = (),
    preface: str = "",
    instruction: str = "",
    answer_prefix: str = "",
    **_: Any,
) -> KnownPrompt | None:
    name = template if chat is None else _template_name(chat, template)
    _check_prefix(answer_prefix)
    counted = not frames or images is not None
    asked = worded(question, options, preface, instruction)
    questions, _answers = _turns(asked, history, _marks((), images, media, name) if counted else "")
    marks = [mark for q in questions for mark in MARK.findall(q)]
    if not counted and not marks:
        return None  # the pictures are counted when they are there
    return KnownPrompt(tuple(SLOTS[mark] for mark in marks))


@node(version=1, foresee=_foresee)
def render_chat(
    chat: Model[ChatFormat],
    *frames: Frames,
    question: str,
    template: TemplateName = "auto",
    system: str | None = None,
    history: tuple[str, ...] = (),
    images: Annotated[int, Range(0)] | None = None,
    media: Media = "image",
    options: tuple[str, ...] = (),
    preface: str = "",
    instruction: str = "",
    answer_prefix: str = "",
) -> Prompt:
    """The conversation as a tokenised prompt, open where the answer begins, with slots for the visual tokens.

    A question, this or an earlier one, may say where its pictures go with `<image>` and `<video>`; if none
    does, one mark for every picture and clip is put in front of the first question, each on its own line
    (InternVL: several pictures are numbered, and so are the frames of a clip, which are pictures there).

    frames: what is asked about; says how many pictures and clips there are.
    question: what is asked now.
    template: how turns are written; auto is the checkpoint's own, tokenizer the tokeniser's jinja template.
    system: replaces the template's system text; "" leaves it out.
    history: earlier turns, question and answer by turns.
    images: pictures (or clips) in the prompt, if not those of `frames` (without any: 1); 0 for text alone.
    media: what `images` counts: pictures, whole clips, or the frames of one clip.
    options: answers to choose from; the question becomes `Question: ...` and a list (A), (B), ...
    preface: text in front of the question, a space between.
    instruction: text after the question, a space between, e.g. `Answer briefly.`
    answer_prefix: the first words of the answer, which the model has to go on from; e.g. `Best option:(`
    """
    _check_prefix(answer_prefix)
    asked = worded(question, options, preface, instruction)
    name, model = _template_name(chat, template), chat.load()
    questions, answers = _turns(asked, history, _marks(frames, images, media, name))
    if name == "tokenizer":
        text = model.render_own(questions, answers, system) + answer_prefix
        return Prompt(pieces=model.encode(text, special=not model.opened(text)), text=text)
    text = TEMPLATES[name].render(questions, answers, system) + answer_prefix
    return Prompt(pieces=model.encode(text), text=text, stop=TEMPLATES[name].stop)


def worded(question: str, options: tuple[str, ...], preface: str, instruction: str) -> str:
    """The question with its options between two texts; pictures that stand in front of it stay in front."""
    marks = LEADING.match(question)
    start = marks.end() if marks else 0
    asked = question_text(question[start:], options) if options else question[start:]
    return question[:start] + " ".join(text for text in (preface, asked, instruction) if text)


def _marks(frames: tuple[Frames, ...], images: int | None, media: Media, template: str) -> str:
    """The marks to put in front of the first question, a line each, as this template has them."""
    lines = TEMPLATES.get(template, TEMPLATES["plain"])  # `tokenizer` is none
    if images is not None or not frames:
        count = 1 if images is None else images
        if media == "video":
            return "<video>\n" * count
        return lines.frames(count) if media == "frame" else lines.pictures(count)
    pictures = iter(lines.pictures(sum(len(f) for f in frames if not f.clip)).splitlines(keepends=True))
    return "".join(lines.frames(len(f)) if f.clip else "".join(islice(pictures, len(f))) for f in frames)


def _turns(question: str, history: tuple[str, ...], marks: str) -> tuple[list[str], list[str]]:
    """Questions and answers, with the pictures in their places: `marks` in front unless they have some."""
    _check_history(history)
    asked = [*history[::2], question]
    asked = [q.replace("<image-placeholder>", "<image>") for q in asked]  # run_llava.py's other spelling
    if not any(MARK.search(q) for q in asked):
        asked[0] = marks + asked[0]
    return asked, list(history[1::2])


def _check_history(history: tuple[str, ...]) -> None:
    if len(history) % 2:
        raise PromptError(
            f"render_chat.history: {len(history)} turns; wanted questions and answers by turns, ending with "
            "an answer; the open question goes into `question`"
        )
    for i, answer in enumerate(history[1::2]):
        if mark := MARK.search(answer):
            raise PromptError(
                f"render_chat.history: answer {i + 1} holds {mark[0]}, which only a question may; "
                "remove it there"
            )


def _check_prefix(answer_prefix: str) -> None:
    if mark := MARK.search(answer_prefix):
        raise PromptError(
            f"render_chat.answer_prefix: it holds {mark[0]}, which only a question may; remove it there"
        )


def _template_name(chat: Model[ChatFormat], template: str) -> str:
    """The template to use; `auto` is looked up in the checkpoint's facts."""
    if template != "auto":
        return template
    name = chat.facts.chat.template if chat.facts.chat else ""
    if name not in TEMPLATES and name != "tokenizer":
        raise PromptError(
            f"render_chat.template: {chat.facts.name} names the chat template {name!r}, which is not known "
            f"here{did_you_mean(name, TEMPLATES)}; set template"
        )
    return name
