"""The text side of a checkpoint: tokeniser and chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import CheckpointError, PromptError
from ..values import Slot
from .handle import ChatFacts

SLOTS = {"<image>": Slot("image"), "<video>": Slot("video")}
MARK = re.compile("|".join(SLOTS))


class ChatFormat:
    """Text to prompt pieces and token ids to text. `tokenizer` is None for a checkpoint without one."""

    def __init__(self, tokenizer: Any, facts: ChatFacts) -> None:
        self._tokenizer, self.facts = tokenizer, facts

    @property
    def tokenizer(self) -> Any:
        """The transformers tokeniser. Raises CheckpointError if the checkpoint has none."""
        if self._tokenizer is None:
            raise CheckpointError(
                "the checkpoint has no tokenizer files (tokenizer.json), and text is asked of it; add them, "
                "or build the prompt from token ids with Prompt.of_ids and leave chat unwired in generate"
            )
        return self._tokenizer

    def encode(self, text: str, *, special: bool = True) -> tuple[tuple[int, ...] | Slot, ...]:
        """Pieces of token ids, with a slot for every `<image>` and `<video>` in the text.

        Each chunk between the slots is tokenised alone, and only the first keeps the beginning-of-sequence
        token, as LLaVA's released `tokenizer_image_token` does. special: False when the text spells that
        token out itself.
        """
        pieces: list[tuple[int, ...] | Slot] = []
        bos = self.tokenizer.bos_token_id
        marks = [SLOTS[mark] for mark in MARK.findall(text)]
        for i, chunk in enumerate(MARK.split(text)):
            pieces += marks[i - 1 : i] if i else ()
            ids = list(self.tokenizer(chunk, add_special_tokens=special).input_ids)
            if i and special and ids and ids[0] == bos:
                ids = ids[1:]
            pieces += [tuple(ids)] if ids else ()
        return tuple(pieces)

    def opened(self, text: str) -> bool:
        """Whether a text spells out the first token itself; stock processors add it only if not."""
        bos = self.tokenizer.bos_token
        return bool(bos) and text.startswith(bos)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def single(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Ids of those texts that are one token of the vocabulary, such as `</s>` or `<|im_end|>`."""
        found = ((text, self.tokenizer.convert_tokens_to_ids(text)) for text in texts)
        unknown = self.tokenizer.unk_token_id
        return tuple(
            i for text, i in found if i is not None and (i != unknown or text == self.tokenizer.unk_token)
        )

    def render_own(self, questions: Sequence[str], answers: Sequence[str], system: str | None) -> str:
        """The prompt by the tokeniser's own chat template. Raises PromptError if it has none."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise PromptError(
                "render_chat.template: the checkpoint's tokenizer has no chat template of its own; "
                "choose one by name, e.g. vicuna_v1"
            )
        said = [("system", system)] if system else []
        for i, question in enumerate(questions):
            said.append(("user", question))
            said += [("assistant", answers[i])] if i < len(answers) else ()
        last = MARK.split(questions[-1])[-1].strip()
        for content in (str, _parts):  # templates of text models want strings, llava-hf's want parts
            text = self._apply([{"role": role, "content": content(words)} for role, words in said])
            if last in text:
                return text
        raise PromptError(
            "render_chat.template: the tokenizer's own chat template leaves the question out; choose one by "
            "name, e.g. vicuna_v1"
        )

    def _apply(self, turns: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise PromptError(
                f"render_chat.template: the tokenizer's own chat template refuses these turns: {error}; "
                "choose one by name, e.g. vicuna_v1"
            ) from error
        return text


def _parts(words: str) -> list[dict[str, str]]:
    """`words` as a list of pictures, clips and texts."""
    out: list[dict[str, str]] = []
    marks = MARK.findall(words)
    for i, chunk in enumerate(MARK.split(words)):
        out += [{"type": SLOTS[marks[i - 1]].media}] if i else ()
        chunk = chunk.removeprefix("\n") if i else chunk  # the template breaks the line itself
        out += [{"type": "text", "text": chunk}] if chunk else ()
    return out
