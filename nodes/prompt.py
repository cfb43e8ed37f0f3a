"""A question, asked in the words a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..runtime.errors import PromptError, did_you_mean
from ..runtime.models.chat import MARK, SLOTS, ChatFormat
from ..runtime.models.handle import Model
from ..runtime.models.templates import TEMPLATES
from ..runtime.node import node
from ..runtime.values import Prompt, Slot
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
    "plain",
    "tokenizer",
]


@dataclass(frozen=True)
class KnownPrompt:
    """What a plan knows of a prompt before it is tokenised: its slots."""

    slots: tuple[Slot, ...]


def _foresee(
    chat: Model[ChatFormat] | None,
    *,
    question: str,
    template: str,
    history: tuple[str, ...],
    images: int,
    media: Literal["image", "video"],
    **_: Any,
) -> KnownPrompt:
    if chat is not None:
        _template_name(chat, template)
    questions, _answers = _turns(question, history, images, media)
    return KnownPrompt(tuple(SLOTS[mark] for q in questions for mark in MARK.findall(q)))


@node(foresee=_foresee)
def render_chat(
    chat: Model[ChatFormat],
    *,
    question: str,
    template: TemplateName = "auto",
    system: str | None = None,
    history: tuple[str, ...] = (),
    images: Annotated[int, Range(0)] = 1,
    media: Literal["image", "video"] = "image",
) -> Prompt:
    """The conversation as a tokenised prompt, open where the answer begins, with slots for the visual tokens.

    A question, this or an earlier one, may say where its pictures go with `<image>` and `<video>`; if none
    does, `images` of them are put in front of the first question, each on a line of its own.

    question: what is asked now.
    template: how turns are written; auto is the checkpoint's own, tokenizer the tokeniser's jinja template.
    system: replaces the template's system text; "" leaves it out.
    history: earlier turns, question and answer by turns.
    images: pictures (or clips) in the prompt; 0 for text alone.
    media: what the slots are for: one picture each, or a whole clip each.
    """
    questions, answers = _turns(question, history, images, media)
    name, model = _template_name(chat, template), chat.load()
    if name == "tokenizer":
        text = model.render_own(questions, answers, system)
        return Prompt(pieces=model.encode(text, special=False), text=text)
    text = TEMPLATES[name].render(questions, answers, system)
    return Prompt(pieces=model.encode(text), text=text, stop=TEMPLATES[name].stop)


def _turns(question: str, history: tuple[str, ...], images: int, media: str) -> tuple[list[str], list[str]]:
    """Questions and answers, with the pictures in their places."""
    _check_history(history)
    asked = [*history[::2], question]
    asked = [q.replace("<image-placeholder>", "<image>") for q in asked]  # run_llava.py's other spelling
    if not any(MARK.search(q) for q in asked):
        asked[0] = f"<{media}>\n" * images + asked[0]
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
