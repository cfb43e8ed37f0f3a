"""Which tokens of a conversation are learnt: token ids, and labels with -100 on everything but the answers.

S = tokens; a picture is one of them, -200, until `expand` puts its visual tokens there
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import CheckpointError, PromptError
from ..models.chat import ChatFormat
from ..models.templates import TEMPLATES
from ..values import Prompt
from .conversation import MARK, Conversation

IGNORE = -100  # a label that the loss leaves out
Version = Literal["plain", "v1"]


@dataclass(frozen=True)
class Mismatch:
    """A sample that teaches nothing: its rounds, tokenised alone, have `rounds` tokens, its text has `text`.

    Happens with an answer that holds " ASSISTANT: ", with any token that is also the padding (LLaMA's
    <unk>), and with tokenizers that write "USER" after "</s>" otherwise than at the start.
    """

    rounds: int
    text: int

    def __str__(self) -> str:
        return f"tokenization mismatch: {self.rounds} vs. {self.text}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """ids [S] long with -200 for a picture, labels [S] long; mismatch: why all labels are -100, if so."""

    ids: Tensor
    labels: Tensor
    mismatch: Mismatch | None = None

    def __len__(self) -> int:
        return len(self.ids)


def label(chat: ChatFormat, sample: Conversation, *, version: Version, max_length: int = 2048) -> Example:
    """`label_plain` or `label_v1`, as LLaVA's `--version` calls them."""
    return label_plain(chat, sample) if version == "plain" else label_v1(chat, sample, max_length=max_length)


def label_plain(chat: ChatFormat, sample: Conversation) -> Example:
    """The picture, then its caption and a line break, which are learnt; the question is dropped (stage 1).

    Errors: PromptError unless the sample is one caption of one picture.
    """
    if len(sample.answers) != 1 or len(sample.images) != 1:
        raise PromptError(
            f"sample {sample.name}: version plain wants one picture and one caption, this has "
            f"{len(sample.images)} pictures and {len(sample.answers)} answers; set version: v1"
        )
    ids = _ids(chat, MARK + sample.answers[0] + "\n")
    labels = ids.clone()
    labels[: len(_ids(chat, MARK))] = IGNORE
    return Example(ids=ids, labels=labels)


def label_v1(chat: ChatFormat, sample: Conversation, *, max_length: int = 2048) -> Example:
    """The conversation in Vicuna's words; of each round the answer and its `</s>` are learnt (stage 2).

    Rounds are tokenised alone to count their tokens. If the counts do not add up to the whole text, all
    labels are -100 and `mismatch` says so (the released code prints a warning). A sample without pictures is
    cut to max_length here, others where they are collated.

    chat: with LLaMA's tokenizer as the released checkpoints have it (legacy: false, slow, or that of
    transformers 5); the fast one of transformers 4 writes a space piece after `</s>` and cuts rounds apart
    elsewhere.
    """
    text = TEMPLATES["v1"].render(sample.questions, sample.answers)
    ids = _ids(chat, text)
    ids = ids if sample.images else ids[:max_length]
    labels = ids.clone()
    done = _ignore_questions(chat, text, labels)
    tokens = int((ids != pad_id(chat)).sum())
    if done < max_length and done != tokens:
        return Example(ids=ids, labels=torch.full_like(ids, IGNORE), mismatch=Mismatch(done, tokens))
    return Example(ids=ids, labels=labels)


def pad_id(chat: ChatFormat) -> int:
    """What fills short rows: the tokenizer's padding, else its unknown token, as the released code sets it.

    Errors: CheckpointError when it has neither.
    """
    for found in (chat.tokenizer.pad_token_id, chat.tokenizer.unk_token_id):
        if found is not None:
            return int(found)
    raise CheckpointError(
        "the tokenizer has no padding and no unknown token, and rows of a batch must be filled; set "
        "pad_token in its tokenizer_config.json"
    )


def _ignore_questions(chat: ChatFormat, text: str, labels: Tensor) -> int:
    """Write -100 over everything but the answers; how many tokens the rounds have, [BOS] included."""
    template = TEMPLATES["v1"]
    lead, end = (s.replace("{a}", "") for s in template.reply.split("{a}"))
    asks = template.turn.split("{q}")[1] + lead  # " ASSISTANT: "
    labels[:1] = IGNORE
    done = 1
    for round_ in filter(None, text.split(end)):
        question, *answers = round_.split(asks)
        if len(answers) != 1:
            break
        # less [BOS] and the space at the end, which in the text is part of the answer's first piece
        asked = len(_ids(chat, question + asks)) - 2
        labels[done : done + asked] = IGNORE
        done += len(_ids(chat, round_))  # its [BOS] stands for the </s>
    labels[done:] = IGNORE
    return done


def _ids(chat: ChatFormat, text: str) -> Tensor:
    """[n] long, -200 for every mark, as for a prompt."""
    return torch.tensor(Prompt(pieces=chat.encode(text)).ids, dtype=torch.long)
