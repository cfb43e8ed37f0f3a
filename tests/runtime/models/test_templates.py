"""Chat templates, to the letter."""

from __future__ import annotations

import pytest

from tokenloom.runtime.models.templates import TEMPLATES

ONE = {
    "vicuna_v1": "A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions. USER: Q ASSISTANT:",
    "v1": "A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions. USER: Q ASSISTANT:",
    "llava_v1": "A chat between a curious human and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the human's questions. USER: Q ASSISTANT:",
    "llava_v0": "A chat between a curious human and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the human's questions.###Human: Q###Assistant:",
    "llava_llama_2": "[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to "
    "understand the visual content that the user provides, and assist the user with a variety of tasks using "
    "natural language.\n<</SYS>>\n\nQ [/INST]",
    "mistral_instruct": "[INST] Q [/INST]",
    "chatml_direct": "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\nQ<|im_end|>"
    "<|im_start|>assistant\n",
    "mpt": "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant "
    "gives helpful and honest answers.<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\n",
    "plain": "Q\n",
    "qwen_1_5": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
    "qwen2_5_vl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
    "internlm2-chat": "<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
    "英文名叫InternVL, 是一个有用无害的人工智能助手。<|im_end|><|im_start|>user\nQ<|im_end|>"
    "<|im_start|>assistant\n",
}
ONE["internvl2_5"] = (
    "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合"
    "开发的多模态大语言模型。<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
)
VIDEO_CHATGPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content "
    "that the user provides, and assist the user with a variety of tasks using natural language.Follow the "
    "instructions carefully and explain your answers in detail based on the provided video. USER: Q "
    "ASSISTANT:"
)
ONE |= {
    "pllava": VIDEO_CHATGPT,
    "pllava_mvbench": "Carefully watch the video and pay attention to the cause and sequence of events, the "
    "detail and movement of objects, and the action and pose of persons. Based on your observations, select "
    "the best option that accurately addresses the question.\n USER: Q ASSISTANT:",
    "pllava_videomme": "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n USER: Q ASSISTANT:",
    "pllava_vcgbench": VIDEO_CHATGPT,
    "pllava_videoqa": "USER: Q ASSISTANT:",
    "pllava_plain": "USER:Q ASSISTANT:",
}
TWO = {
    "vicuna_v1": "S USER: Q ASSISTANT: A</s>USER: R ASSISTANT:",
    "v1": "S USER: Q ASSISTANT: A</s>USER: R ASSISTANT:",
    "llava_v1": "S USER: Q ASSISTANT: A</s>USER: R ASSISTANT:",
    "llava_v0": "S###Human: Q###Assistant: A###Human: R###Assistant:",
    "llava_llama_2": "[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s><s>[INST] R [/INST]",
    "mistral_instruct": "[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s>[INST] R [/INST]",
    "chatml_direct": "<|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\nA"
    "<|im_end|><|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "mpt": "<|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|><|im_start|>assistant\nA"
    "<|im_end|><|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "plain": "Q\nA\nR\n",
    "qwen_1_5": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA"
    "<|im_end|>\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
    "qwen2_5_vl": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA"
    "<|im_end|>\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
}
TWO |= {"internlm2-chat": TWO["mpt"], "internvl2_5": TWO["qwen_1_5"]}
PLLAVA = ("pllava", "pllava_mvbench", "pllava_videomme", "pllava_vcgbench", "pllava_videoqa")
TWO |= dict.fromkeys(PLLAVA, "S USER: Q ASSISTANT:A</s>USER: R ASSISTANT:")
TWO["pllava_plain"] = "S USER:Q ASSISTANT:A</s>USER:R ASSISTANT:"
STOP = {
    "llava_v0": ("###",),
    **dict.fromkeys(
        ("chatml_direct", "mpt", "qwen_1_5", "qwen2_5_vl", "internlm2-chat", "internvl2_5"), ("<|im_end|>",)
    ),
    "plain": (),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_turn_with_its_own_system_text(name: str) -> None:
    """An open question, as the released conversation table writes it."""
    assert TEMPLATES[name].render(["Q"], []) == ONE[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_two_turns_with_a_given_system_text(name: str) -> None:
    """An answered question, then an open one."""
    assert TEMPLATES[name].render(["Q", "R"], ["A"], "S") == TWO[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_stop_strings(name: str) -> None:
    """What ends an answer."""
    assert TEMPLATES[name].stop == STOP.get(name, ("</s>",))


def test_pictures_between_their_own_tokens() -> None:
    """Qwen2.5-VL frames a picture's tokens, and breaks no line after them."""
    text = TEMPLATES["qwen2_5_vl"].render(["<image>\n<image>\nQ", "R <video> S"], ["A"], "")
    framed = "<|vision_start|><image><|vision_end|>"
    assert text == (
        f"<|im_start|>user\n{framed}{framed}Q<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR <|vision_start|><video><|vision_end|> S<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("pllava", "USER: <image>\n USER: Q ASSISTANT:"),
        ("pllava_videoqa", "USER: <image>\n Q ASSISTANT:"),
        ("pllava_plain", "USER:<image> Q ASSISTANT:"),
    ],
)
def test_a_picture_in_pllavas_modes(name: str, begin: str) -> None:
    """A turn of its own, a line of its own, or in front of the question."""
    assert TEMPLATES[name].render(["<image>\nQ"], [], "") == begin


def test_internvl_keeps_the_line_break_after_a_picture() -> None:
    """`<img>` and `</img>` around its tokens, and nothing else changes."""
    text = TEMPLATES["internlm2-chat"].render(["Image-1: <image>\nQ <image>R"], [], "")
    assert text == (
        "<|im_start|>user\nImage-1: <img><image></img>\nQ <img><image></img>R<|im_end|>"
        "<|im_start|>assistant\n"
    )


def test_internvl_numbers_several_pictures_and_all_frames() -> None:
    """One picture goes without a number, one frame does not."""
    template = TEMPLATES["internlm2-chat"]
    assert template.pictures(1) == "<image>\n"
    assert template.pictures(2) == "Image-1: <image>\nImage-2: <image>\n"
    assert template.frames(1) == "Frame1: <image>\n"
    assert template.frames(2) == "Frame1: <image>\nFrame2: <image>\n"


def test_other_templates_number_nothing() -> None:
    """A mark per picture, one for a clip."""
    assert TEMPLATES["vicuna_v1"].pictures(2) == "<image>\n<image>\n"
    assert TEMPLATES["vicuna_v1"].frames(8) == "<video>\n"
