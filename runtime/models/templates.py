"""Chat templates as data: the strings of LLaVA's released conversation table (golden case `conversation`),
Qwen2.5-VL's, InternVL's, and the modes of PLLaVA's evaluation (golden case `eval_protocol`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Template:
    """How turns become one string. `{s}`, `{q}`, `{a}`: the system text, a question, an answer.

    opening: in front, when there is a system text. bare: in front, when there is none. turn: a question and
    the start of its answer. reply: the answer of an earlier turn, and what leads to the next one. stop: what
    ends an answer. around: what stands before and after a picture's tokens, instead of a line break, or
    (`breaks`) in front of it. numbered: lines for the n-th of several pictures, and for the n-th frame of a
    clip, whose frames are then pictures by themselves; "": as they are.
    """

    system: str = ""
    opening: str = ""
    bare: str = ""
    turn: str
    reply: str
    stop: tuple[str, ...]
    around: tuple[str, str] | None = None
    breaks: bool = False
    numbered: tuple[str, str] = ("", "")

    def pictures(self, count: int) -> str:
        """The marks of this many pictures, a line each."""
        line = self.numbered[0] if count > 1 and self.numbered[0] else "<image>\n"
        return "".join(line.replace("{n}", str(n + 1)) for n in range(count))

    def frames(self, count: int) -> str:
        """The marks of a clip of this many frames."""
        if not self.numbered[1]:
            return "<video>\n"
        return "".join(self.numbered[1].replace("{n}", str(n + 1)) for n in range(count))

    def render(self, questions: Sequence[str], answers: Sequence[str], system: str | None = None) -> str:
        """The prompt up to where the last question's answer begins; `system` None: the template's own."""
        own = self.system if system is None else system
        parts = [self.opening.replace("{s}", own) if own else self.bare]
        for i, question in enumerate(questions):
            parts.append(self.turn.replace("{q}", self._framed(question)))
            if i < len(answers):
                parts.append(self.reply.replace("{a}", answers[i]))
        return "".join(parts)

    def _framed(self, question: str) -> str:
        if self.around is None:
            return question
        before, after = self.around
        end = "" if self.breaks else r"\n?"
        return re.sub(rf"(<image>|<video>){end}", lambda mark: f"{before}{mark[1]}{after}", question)


_POLITE = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions."
)
_USER, _HUMAN = _POLITE.replace("{who}", "user"), _POLITE.replace("{who}", "human")
_LLAMA2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
_MPT = (
    "A conversation between a user and an LLM-based AI assistant. "
    "The assistant gives helpful and honest answers."
)
_INTERNVL = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。"
)
_INTERNVL_25 = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、"
    "清华大学及多家合作单位联合开发的多模态大语言模型。"
)
_WATCH = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and "
    "movement of objects, and the action and pose of persons. Based on your observations, select the best "
    "option that accurately addresses the question.\n"
)
_LETTER = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only "
    "the letter (A, B, C, or D) of the correct option.\n"
)
_VIDEO_CHATGPT = (  # no space between the sentences, as released
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content "
    "that the user provides, and assist the user with a variety of tasks using natural language."
    "Follow the instructions carefully and explain your answers in detail based on the provided video."
)


def _vicuna(system: str) -> Template:
    return Template(
        system=system,
        opening="{s} ",
        turn="USER: {q} ASSISTANT:",
        reply=" {a}</s>",  # no space before the next "USER:", as released
        stop=("</s>",),
    )


def _instruct(system: str, begin: str) -> Template:
    return Template(
        system=system,
        opening="[INST] <<SYS>>\n{s}\n<</SYS>>\n\n",
        bare="[INST] ",
        turn="{q} [/INST]",
        reply=" {a} </s>" + begin + "[INST] ",
        stop=("</s>",),
    )


def _chatml(system: str) -> Template:
    return Template(
        system=system,
        opening="<|im_start|>system\n{s}<|im_end|>",
        turn="<|im_start|>user\n{q}<|im_end|><|im_start|>assistant\n",
        reply="{a}<|im_end|>",
        stop=("<|im_end|>",),
    )


# llava-hf's OneVision too was trained so; its own template (`tokenizer`) has no system turn
def _qwen(around: tuple[str, str] | None = None) -> Template:
    return Template(
        system="You are a helpful assistant.",
        opening="<|im_start|>system\n{s}<|im_end|>\n",
        turn="<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n",
        reply="{a}<|im_end|>\n",
        stop=("<|im_end|>",),
        around=around,
    )


def _pllava(system: str = "", *, user: str = "USER: ", asked: str = "\n USER: ") -> Template:
    """asked: what leads from the picture to the question; in most modes the picture is a turn of its own."""
    return Template(
        system=system,
        opening="{s} ",
        turn=user + "{q} ASSISTANT:",
        reply="{a}</s>",
        # the released evaluation of VCG-Bench also names ### and USER, but ends only when it has seen both
        stop=("</s>",),
        around=("", asked),
    )


TEMPLATES: dict[str, Template] = {
    "vicuna_v1": _vicuna(_USER),
    "v1": _vicuna(_USER),
    "llava_v1": _vicuna(_HUMAN),
    "llava_v0": Template(
        system=_HUMAN, opening="{s}###", turn="Human: {q}###Assistant:", reply=" {a}###", stop=("###",)
    ),
    "llava_llama_2": _instruct(_LLAMA2, "<s>"),
    "mistral_instruct": _instruct("", ""),
    "chatml_direct": _chatml("Answer the questions."),
    "mpt": _chatml(_MPT),
    "qwen_1_5": _qwen(),
    "qwen2_5_vl": _qwen(around=("<|vision_start|>", "<|vision_end|>")),
    "pllava": _pllava(_VIDEO_CHATGPT),
    "pllava_mvbench": _pllava(_WATCH),
    "pllava_videomme": _pllava(_LETTER),
    "pllava_vcgbench": _pllava(_VIDEO_CHATGPT),
    "pllava_videoqa": _pllava(asked="\n "),
    "pllava_plain": _pllava(user="USER:", asked=" "),
    "internlm2-chat": replace(
        _chatml(_INTERNVL),  # no line break between turns, as released
        around=("<img>", "</img>"),
        breaks=True,
        numbered=("Image-{n}: <image>\n", "Frame{n}: <image>\n"),
    ),
    "internvl2_5": replace(
        _qwen(around=("<img>", "</img>")),
        system=_INTERNVL_25,
        breaks=True,
        numbered=("Image-{n}: <image>\n", "Frame{n}: <image>\n"),
    ),
    "plain": Template(turn="{q}\n", reply="{a}\n", stop=()),
}
