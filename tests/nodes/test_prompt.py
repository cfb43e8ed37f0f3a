"""render_chat: the words around a question, and where the pictures go."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.prompt import KnownPrompt, render_chat
from tokenloom.runtime.errors import CheckpointError, PromptError
from tokenloom.runtime.values import Frames, Prompt, Slot

from ..runtime.models.tiny import Held, chat_handle, tiny_tokenizer


@pytest.fixture(scope="module")
def chat() -> Held:
    return chat_handle(tiny_tokenizer(), "mistral_instruct")


def spoken(prompt: Prompt) -> list[str]:
    """The pieces as text; slots in brackets."""
    tokenizer = tiny_tokenizer()
    return [f"[{p.media}]" if isinstance(p, Slot) else tokenizer.decode(p) for p in prompt.pieces]


def test_the_picture_stands_before_the_question(chat: Held) -> None:
    """One slot, a line break, then the question, in the checkpoint's own template."""
    prompt = render_chat(chat, question="Why?")
    assert prompt.text == "[INST] <image>\nWhy? [/INST]"
    assert spoken(prompt) == ["<s>[INST] ", "[image]", "\nWhy? [/INST]"]
    assert prompt.stop == ("</s>",)


def test_pictures_belong_to_the_first_question(chat: Held) -> None:
    """In a longer conversation the slots stay in the first turn."""
    prompt = render_chat(chat, question="Why?", history=("What?", "A cat."), images=2)
    assert prompt.text == "[INST] <image>\n<image>\nWhat? [/INST] A cat. </s>[INST] Why? [/INST]"
    assert len(prompt.slots) == 2


def test_a_question_may_say_where_pictures_go(chat: Held) -> None:
    """With a mark in any question nothing is added."""
    prompt = render_chat(chat, question="Is <image> like <image>?", template="plain")
    assert spoken(prompt) == ["<s>Is ", "[image]", " like ", "[image]", "?\n"]


def test_a_clip_takes_one_slot(chat: Held) -> None:
    """media: video asks for a whole clip's tokens."""
    prompt = render_chat(chat, question="Why?", media="video", template="plain")
    assert spoken(prompt) == ["<s>", "[video]", "\nWhy?\n"]


def test_wired_frames_say_how_many_slots(chat: Held) -> None:
    """One slot for every picture, one for a whole clip, in the order of the wires."""
    pictures = Frames((torch.zeros(4, 4, 3, dtype=torch.uint8),) * 2, torch.zeros(2))
    clip = Frames.of_video(torch.zeros(5, 4, 4, 3, dtype=torch.uint8), torch.arange(5) / 5)
    prompt = render_chat(chat, pictures, clip, question="Why?", template="plain")
    assert spoken(prompt) == ["<s>", "[image]", "\n", "[image]", "\n", "[video]", "\nWhy?\n"]


def test_a_plan_counts_no_wired_frames(chat: Held) -> None:
    """Before the pictures are there nothing is claimed; marks in the question are known."""
    known = {"template": "plain", "history": (), "images": None, "media": "image"}
    assert render_chat.foresee is not None
    assert render_chat.foresee(chat, None, question="Why?", **known) is None
    marked = render_chat.foresee(chat, None, question="<image> Why?", **known)
    assert marked == KnownPrompt((Slot("image"),))


def test_text_alone(chat: Held) -> None:
    """images: 0 leaves no slot."""
    assert render_chat(chat, question="Hello", images=0).text == "[INST] Hello [/INST]"


def test_system_text_can_be_replaced_and_left_out(chat: Held) -> None:
    """A text of one's own in the template's place for it, or none at all."""
    mine = render_chat(chat, question="Q", images=0, template="vicuna_v1", system="Be brief.")
    assert mine.text == "Be brief. USER: Q ASSISTANT:"
    none = render_chat(chat, question="Q", images=0, template="vicuna_v1", system="")
    assert none.text == "USER: Q ASSISTANT:"
    wrapped = render_chat(chat, question="Q", images=0, system="Be brief.")
    assert wrapped.text == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nQ [/INST]"


def test_braces_are_just_text(chat: Held) -> None:
    """Questions and answers with template marks inside come out as they went in."""
    prompt = render_chat(chat, question="{a} {s}", history=("{q}", "{a}"), images=0, template="plain")
    assert prompt.text == "{q}\n{a}\n{a} {s}\n"


def test_the_tokenizers_own_template() -> None:
    """template: tokenizer renders its jinja template, and does not double the first token."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    prompt = render_chat(
        chat_handle(tokenizer), question="Why?", history=("A?", "B."), template="tokenizer", system="S"
    )
    assert prompt.text == "<s>system: S\nuser: <image>\nA?\nassistant: B.\nuser: Why?\nassistant:"
    assert prompt.stop == ()
    assert prompt.slots == (Slot("image"),)


def test_the_first_token_is_added_to_a_template_without_it() -> None:
    """llava-hf's templates leave the first token to the tokeniser, as stock processors do."""
    tokenizer = tiny_tokenizer()
    bos = tokenizer.bos_token_id
    for opening in ("", "{{ bos_token }}"):
        tokenizer.chat_template = opening + "{% for m in messages %}{{ m.content }}{% endfor %}"
        prompt = render_chat(chat_handle(tokenizer), question="Why?", images=0, template="tokenizer")
        (ids,) = prompt.pieces
        assert isinstance(ids, tuple)
        assert ids == tuple(tokenizer("Why?").input_ids)
        assert ids.count(bos) == 1


def test_a_tokenizer_without_a_template(chat: Held) -> None:
    """Asking for a template that is not there names another way."""
    with pytest.raises(PromptError) as e:
        render_chat(chat, question="Why?", template="tokenizer")
    assert str(e.value) == (
        "render_chat.template: the checkpoint's tokenizer has no chat template of its own; "
        "choose one by name, e.g. vicuna_v1"
    )


def test_an_unfinished_history(chat: Held) -> None:
    """The history ends with an answer."""
    with pytest.raises(PromptError) as e:
        render_chat(chat, question="Why?", history=("What?", "A cat.", "Really?"))
    assert str(e.value) == (
        "render_chat.history: 3 turns; wanted questions and answers by turns, ending with an answer; "
        "the open question goes into `question`"
    )


def test_an_answer_holds_no_picture(chat: Held) -> None:
    """A slot inside an earlier answer is refused, not filled."""
    with pytest.raises(PromptError) as e:
        render_chat(chat, question="Why?", history=("What?", "An <image>."))
    assert str(e.value) == (
        "render_chat.history: answer 1 holds <image>, which only a question may; remove it there"
    )


def test_an_unknown_template_of_a_checkpoint() -> None:
    """The template that a checkpoint names must exist here."""
    with pytest.raises(PromptError) as e:
        render_chat(chat_handle(tiny_tokenizer(), "vicuna_v2"), question="Why?")
    assert str(e.value) == (
        "render_chat.template: tiny names the chat template 'vicuna_v2', which is not known here; "
        "did you mean 'vicuna_v1'?; set template"
    )


def test_parts_for_templates_that_want_them() -> None:
    """A template written for lists of parts gets them, and puts its own picture marks."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% for p in m.content if p.type %}"
        "{% if p.type == 'text' %} {{ p.text }}{% else %}<{{ p.type }}>{% endif %}{% endfor %} {% endfor %}"
    )
    prompt = render_chat(chat_handle(tokenizer), question="Why?", history=("A?", "B."), template="tokenizer")
    assert prompt.text == "user:<image> A? assistant: B. user: Why? "


def test_a_template_that_refuses_or_forgets() -> None:
    """Jinja's own complaint is passed on, and a question that is left out is noticed."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(PromptError) as e:
        render_chat(chat_handle(tokenizer), question="Why?", template="tokenizer")
    assert str(e.value) == (
        "render_chat.template: the tokenizer's own chat template refuses these turns: no system role; choose "
        "one by name, e.g. vicuna_v1"
    )
    tokenizer.chat_template = "hello"
    with pytest.raises(PromptError) as e:
        render_chat(chat_handle(tokenizer), question="Why?", template="tokenizer")
    assert str(e.value) == (
        "render_chat.template: the tokenizer's own chat template leaves the question out; choose one by "
        "name, e.g. vicuna_v1"
    )


def test_the_other_spelling_of_a_picture(chat: Held) -> None:
    """<image-placeholder> is what LLaVA's command line calls <image>."""
    prompt = render_chat(chat, question="On <image-placeholder>?", template="plain")
    assert prompt.text == "On <image>?\n"


def test_planning_finds_the_same_faults() -> None:
    """History and template are checked before any weight is read."""
    assert render_chat.foresee is not None
    with pytest.raises(PromptError, match="1 turns"):
        render_chat.foresee(None, **render_chat.check_widgets({"question": "Q", "history": ("a",)}))
    with pytest.raises(PromptError, match="names the chat template 'no'"):
        render_chat.foresee(chat_handle(None, "no"), **render_chat.check_widgets({"question": "Q"}))
    known = render_chat.foresee(None, **render_chat.check_widgets({"question": "Q", "media": "video"}))
    assert known == KnownPrompt((Slot("video"),))


def test_a_checkpoint_without_a_tokenizer() -> None:
    """The error says what is missing, and how to go without."""
    with pytest.raises(CheckpointError) as e:
        render_chat(chat_handle(None), question="Why?")
    assert str(e.value) == (
        "the checkpoint has no tokenizer files (tokenizer.json), and text is asked of it; add them, or build "
        "the prompt from token ids with Prompt.of_ids and leave chat unwired in generate"
    )


def test_ids_round_trip(chat: Held) -> None:
    """The pieces of a prompt are those of its -200 form."""
    prompt = render_chat(chat, question="A <image> b <image>")
    assert Prompt.of_ids(prompt.ids).pieces == prompt.pieces


def test_words_around_the_question(chat: Held) -> None:
    """A text before it and one after it, a space between, after the picture."""
    prompt = render_chat(chat, question="Why?", preface="Look.", instruction="\nBriefly.")
    assert prompt.text == "[INST] <image>\nLook. Why? \nBriefly. [/INST]"


def test_words_around_a_question_that_begins_with_its_picture(chat: Held) -> None:
    """The picture that the question names itself stays in front."""
    prompt = render_chat(chat, question="<image>\nWhy?", preface="Look.")
    assert prompt.text == "[INST] <image>\nLook. Why? [/INST]"


def test_the_first_words_of_the_answer(chat: Held) -> None:
    """The prompt ends within the answer."""
    prompt = render_chat(chat, question="Why?", template="pllava_mvbench", answer_prefix="Best option:(")
    assert prompt.text.endswith("question.\n USER: <image>\n USER: Why? ASSISTANT:Best option:(")
    assert spoken(prompt)[1:] == ["[image]", "\n USER: Why? ASSISTANT:Best option:("]


def test_no_picture_in_the_answer(chat: Held) -> None:
    """An answer's first words are words."""
    with pytest.raises(PromptError) as error:
        render_chat(chat, question="Why?", answer_prefix="<image>")
    assert str(error.value) == (
        "render_chat.answer_prefix: it holds <image>, which only a question may; remove it there"
    )


def test_a_question_with_options(chat: Held) -> None:
    """Lettered, after the picture, before the instruction."""
    prompt = render_chat(chat, question="<image>\nWhy?", options=("x", "y z"), instruction="\nOne letter.")
    assert prompt.text == ("[INST] <image>\nQuestion: Why?\nOptions:\n(A) x\n(B) y z \nOne letter. [/INST]")
