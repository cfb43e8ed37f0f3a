"""What cases of a language model alone need: its handle, a prompt of given embeddings, greedy steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tokenloom.runtime.models.decode import Decoder
from tokenloom.runtime.models.handle import LanguageFacts
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.values import LLMInput, LLMState, VisualTokens

from ..runtime.models.tiny import Held, language_handle
from ..states import Run, placed, visual_tokens
from .runners import Case


def language_of(case: Case) -> Held:
    """A handle on the language model in `weights`, a folder as transformers saves it; no end tokens."""
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(
        case.weights, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    ).eval()
    config = module.config
    facts = LanguageFacts(
        family=config.model_type,
        hidden=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        max_length=config.max_position_embeddings,
    )
    return language_handle(LanguageModel(module.requires_grad_(False), facts))


def prompt_of(embeds: Tensor, first: int, tokens: VisualTokens | int) -> LLMInput:
    """These rows [S, D], of which those from `first` on are visual, as many as there are tokens."""
    count = tokens if isinstance(tokens, int) else len(tokens)
    visual = embeds[first : first + count]
    made = visual_tokens(Run(count)) if isinstance(tokens, int) else tokens
    wire = made.with_features(visual)
    return replace(placed(wire, before=first, after=len(embeds) - first - count), embeds=embeds)


def greedy(model: LanguageModel, state: LLMState, steps: int) -> tuple[Tensor, Tensor]:
    """[steps, V] scores and [steps] the ids they gave, the first from the prompt itself."""
    decoder = Decoder(model, [state])
    logits, ids = [decoder.logits[0]], [int(decoder.logits[0].argmax())]
    for _ in range(steps - 1):
        logits.append(decoder.step([ids[-1]])[0])
        ids.append(int(logits[-1].argmax()))
    return torch.stack(logits), torch.tensor(ids)
