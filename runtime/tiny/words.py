"""The tokenizer of the tiny models: byte-level BPE, trained on the questions; any text can be asked."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from ..shapes.questions import OPTIONS
from ..shapes.scene import COLOURS, SHAPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<video>")
VOCABULARY = 512
OPENING = "USER: "
ASKED = "\n{question} ASSISTANT:"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ 'USER: ' if message.role == 'user' else ' ' if message.role == 'assistant' }}"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{{ part.text if part.type == 'text' else '<' ~ part.type ~ '>\n' }}"
    "{% endfor %}{% endif %}"
    "{{ ' ASSISTANT:' if message.role == 'user' else '</s>' if message.role == 'assistant' else ' ' }}"
    "{% endfor %}"
)


def corpus() -> list[str]:
    """Every question and answer that the benchmark can put, in the words of the chat template."""
    names = [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    questions = [
        *(f"What colour is the {shape}?" for shape in SHAPES),
        *(f"What shape is the {colour} object?" for colour in COLOURS),
        "Which digit is shown?",
        "How many objects are there?",
        "What colour is the object that moves?",
        *(f"Is the {name} small or large?" for name in names),
        *(f"Is there a {name}?" for name in names),
        *(f"Where is the {name}?" for name in names),
        *(f"What happens to the {name}?" for name in names),
        *(f"Where does the {name} move?" for name in names),
    ]
    answers = [answer for options in OPTIONS.values() for answer in options]
    return [
        *(OPENING + ASKED.format(question=question) for question in questions),
        *(f" {answer}" for answer in answers for _ in range(40)),
    ]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, trained anew; the same every time.

    Every word of the benchmark is one token; other text falls apart into bytes and syllables.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    bare.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            min_frequency=1,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bare.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>", "<video>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )
