"""Tiny language models with random weights, and handles on models that are already in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tokenloom.runtime.models.chat import ChatFormat
from tokenloom.runtime.models.handle import ChatFacts, LanguageFacts, Model, ModelFacts
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.models.weights import native_language

FAMILIES = ("llama", "mistral", "qwen2")
DEPTH, WIDTH, VOCAB = 4, 32, 101


@dataclass(frozen=True, kw_only=True)
class Held(Model[Any]):
    """A handle whose model is in memory: no pool, no files."""

    held: Any

    def load(self) -> Any:
        return self.held


def tiny_language(family: str, *, device: str = "cpu", seed: int = 0, **config: Any) -> LanguageModel:
    """Four layers of width 32, four heads over two key-value heads; no end token unless named.

    `qwen2_5_vl` is Qwen2.5-VL's text model: the same with M-RoPE.
    """
    settings: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": None,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    } | config
    if family == "qwen2_5_vl":
        settings |= {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
    torch.manual_seed(seed)
    module = native_language(family, settings, torch.float32)().eval().to(device)
    eos = settings["eos_token_id"]
    facts = LanguageFacts(
        family=family,
        hidden=settings["hidden_size"],
        depth=settings["num_hidden_layers"],
        heads=4,
        kv_heads=2,
        head_dim=settings["hidden_size"] // 4,
        intermediate=settings["intermediate_size"],
        vocab=VOCAB,
        max_length=settings["max_position_embeddings"],
        bos=1,
        eos=() if eos is None else (eos,),
        pad=0,
        rope_grid=2 if family == "qwen2_5_vl" else 0,
    )
    return LanguageModel(module, facts)


def language_handle(model: LanguageModel, *, random_weights: bool = False) -> Held:
    """A handle on a language model."""
    chat = ChatFacts(template="vicuna_v1", random_weights=random_weights)
    facts = ModelFacts(name="tiny", language=model.facts, chat=chat)
    return _held(LanguageModel, model, facts, str(model.device))


def chat_handle(tokenizer: Any, template: str = "vicuna_v1") -> Held:
    """A handle on a chat format."""
    chat = ChatFacts(template=template)
    return _held(ChatFormat, ChatFormat(tokenizer, chat), ModelFacts(name="tiny", chat=chat), "cpu")


def _held(kind: type, held: Any, facts: ModelFacts, device: str) -> Held:
    return Held(
        kind=kind,
        loader="held",
        folder="",
        fingerprint=str(id(held)),
        dtype="float32",
        device=device,
        facts=facts,
        held=held,
    )


def tiny_tokenizer(*, bos: bool = True) -> Any:
    """A word-level tokeniser made here: letters, marks and a few words, with <s>, </s> and <unk>."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *map(chr, range(32, 127)), "\n", "<|im_end|>"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
