"""Golden cases of PruneVid's stages 2 and 3: the language model alone, on tokens that stage 1 left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prune import prune_by_attention
from tokenloom.runtime.models.attention_rows import Sight, softmax_rows
from tokenloom.runtime.models.capture import Layer
from tokenloom.runtime.models.language import LanguageModel
from tokenloom.runtime.values import Kind, LLMInput, LLMState, Prompt, Segment, Slot, VisualTokens

from ..runtime.models.tiny import Held
from ..states import Run, visual_tokens
from .bare_language import greedy, language_of
from .runners import Case, runs

SCORE = "attention:text/pre_rope_full,max,max"


def merged_tokens(args: dict[str, Any], features: Tensor) -> VisualTokens:
    """Tokens as stage 1 leaves them: of every segment the static ones, then each frame's others."""
    runs_of: list[Run] = []
    first = 0
    sizes = zip(args["static_sizes"], args["dynamic_sizes"], args["window_sizes"], strict=True)
    for static, dynamic, window in sizes:
        runs_of.append(Run(static, first, Kind.STATIC))
        runs_of += [Run(dynamic // window, first + i, Kind.DYNAMIC) for i in range(window)]
        first += window
    return visual_tokens(*runs_of).with_features(features)


def placed_prompt(case: Case, llm: Held) -> LLMInput:
    """The prompt through place_tokens; its rows are those of the case."""
    args, embeds = case.facts["args"], case.inputs["inputs_embeds"][0]
    block = slice(args["visual_start"], args["visual_start"] + args["visual_length"])
    ids = case.inputs["input_ids"][0].tolist()
    pieces = (tuple(ids[: block.start]), Slot("video"), tuple(ids[block.stop :]))
    prompt = Prompt(pieces=tuple(piece for piece in pieces if piece))
    placed = place_tokens(llm, prompt, merged_tokens(args, embeds[block]))
    assert placed.embeds.equal(embeds), f"{case.name}: embeddings"
    return placed


def attention_map(model: LanguageModel, state: LLMState) -> Tensor:
    """[heads, text rows, S] of the next layer, as the score reads it: before rotation, unmasked."""
    width = model.facts.head_dim
    keys = state.hidden.new_zeros(model.facts.kv_heads, len(state), width)  # its shape is all that is read
    layer = Layer(model, state.layer, state.hidden, keys, state, Sight(state.position))
    rows = int((state.segment == int(Segment.TEXT_AFTER)).sum())
    with torch.no_grad():
        query, key = layer.queries(rows, rotated=False), layer.project("k_proj", len(state))
    return torch.cat(list(softmax_rows(query, key, layer.scale, None)), 2).flatten(0, 1)


@runs("prunevid", "models.pllava.llama.LlamaForCausalLMVTP.forward")
def stage_two(case: Case) -> None:
    args, llm = case.facts["args"], language_of(case)
    model: LanguageModel = llm.load()
    placed = placed_prompt(case, llm)
    if args["selected_layer"] >= model.depth:  # the released code prunes nothing then; prefill refuses it
        return _check_answer(case, llm, prefill(llm, placed))
    scored = prefill(llm, placed, through=args["selected_layer"])
    score = scored.side[SCORE][scored.visual]
    case.check(score, "score", tolerance="scores")
    whole = attention_map(model, prefill(llm, placed, until=args["selected_layer"]))[..., scored.visual]
    case.check(whole, "attention_text_to_visual", tolerance="scores")
    case.check(whole.amax((0, 1)), "score", tolerance="scores")

    nothing = not len(case.expected["kept"])
    pruned = prune_by_attention(scored, ratio=args["alpha"], allow_none=nothing)
    case.check(pruned.row[pruned.visual] - args["visual_start"], "kept")
    case.check(pruned.row, "kept_positions")
    case.check(pruned.position, "kept_positions")
    return _check_answer(case, llm, prefill(llm, pruned))


def _check_answer(case: Case, llm: Held, state: LLMState) -> None:
    """Every row that is left after the last layer, and the answer step by step."""
    model: LanguageModel = llm.load()
    assert list(state.cache.lengths) == case.facts["kv_lengths_after_prefill"]
    case.check(read_logits(llm, state, rows="all").values, "prefill_logits", tolerance="logits")
    with torch.no_grad():
        case.check(model.body.norm(state.hidden), "last_hidden", tolerance="logits")

    steps = len(case.expected["tokens"])
    logits, ids = greedy(model, state, steps)
    case.check(logits, "step_logits", tolerance="logits")
    case.check(ids, "tokens")
    given = case.facts["decode_positions"]
    assert given == list(range(state.next_position, state.next_position + len(given)))
