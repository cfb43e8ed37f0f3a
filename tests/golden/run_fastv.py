"""Golden cases of FastV: pruning once with a cache, at every step without one, and the mask mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prune import prune_by_attention
from tokenloom.runtime.values import LLMInput, LLMState

from ..runtime.models.tiny import Held
from .bare_language import greedy, language_of, prompt_of
from .runners import Case, runs

SCORE = "attention:last/post_rope_causal,mean,mean"
FASTV: dict[str, Any] = {
    "rows": "last",
    "attention": "post_rope_causal",
    "heads": "mean",
    "over": "mean",
    "select": "global",
    "rounding": "round",
    "rewrite_cache": False,
    "allow_none": True,
}


@dataclass(frozen=True)
class Block:
    """Where the image lies in the prompt, the layer before which it is pruned, and how."""

    first: int
    count: int
    until: int
    share: dict[str, Any]

    def scored(self, llm: Held, embeds: Tensor) -> LLMState:
        """The state before the layer where pruning begins."""
        return prefill(llm, self.prompt(embeds), until=self.until)

    def prompt(self, embeds: Tensor) -> LLMInput:
        return prompt_of(embeds, self.first, self.count)

    def score(self, state: LLMState) -> Tensor:
        """[n] of the image's rows."""
        return state.side[SCORE][state.visual]

    def kept(self, state: LLMState) -> Tensor:
        """[k] numbers in the image of the rows that are left."""
        return state.row[state.visual] - self.first


@runs("fastv", "LlamaForCausalLM.fastv_forward")
def pruned_once_or_at_every_step(case: Case) -> None:
    args, llm = case.facts["args"], language_of(case)
    block = Block(
        args["image_token_start_index"],
        args["image_token_length"],
        args["fastv_k"],
        {"drop": args["fastv_r"], **FASTV},
    )
    embeds = case.inputs["inputs_embeds"][0]
    scored = block.scored(llm, embeds)
    case.check(block.score(scored), "score", tolerance="score")
    pruned = prune_by_attention(scored, **block.share)
    case.check(block.kept(pruned), "kept")
    case.check(pruned.row, "kept_positions")
    case.check(pruned.position, "kept_positions")
    assert int(pruned.visual.sum()) == case.facts["kept_count"]
    state = prefill(llm, pruned)
    assert list(state.cache.lengths) == case.facts["kv_lengths_after_prefill"]
    case.check(read_logits(llm, state, rows="all").values, "prefill_logits", tolerance="logits")
    logits, ids = greedy(llm.load(), state, args["steps"])
    case.check(logits, "step_logits_kv", tolerance="logits")
    case.check(ids, "tokens_kv")
    _without_cache(case, llm, block, embeds)


def _without_cache(case: Case, llm: Held, block: Block, embeds: Tensor) -> None:
    """The whole sequence again at every step, pruned by what its newest row attends to."""
    for step, want in enumerate(case.expected["step_logits_nocache"]):
        pruned = prune_by_attention(block.scored(llm, embeds), **block.share)
        positions = case.expected["kept_positions_nocache"][step]
        case.check(pruned.position, positions[positions >= 0], f"kept_positions_nocache of step {step}")
        logits = read_logits(llm, prefill(llm, pruned)).values[0]
        case.check(logits, want, f"step_logits_nocache of step {step}", tolerance="logits")
        token = logits.argmax()
        case.check(token, case.expected["tokens_nocache"][step], f"tokens_nocache of step {step}")
        embeds = torch.cat([embeds, llm.load().embed(token[None])])


@runs("fastv", "LlamaForCausalLM.forward")
def masked(case: Case) -> None:
    args, llm = case.facts["args"], language_of(case)
    rank, steps = args["fast_v_attention_rank"], args["steps"]
    block = Block(
        args["fast_v_sys_length"],
        args["fast_v_image_token_length"],
        args["fast_v_agg_layer"],
        {"keep": rank, **FASTV},
    )
    embeds = case.inputs["inputs_embeds"][0]
    scored = block.scored(llm, embeds)
    dropped = prefill(llm, prune_by_attention(scored, **block.share))
    case.check(read_logits(llm, dropped, rows="all").values, "inplace_prefill_logits", tolerance="logits")

    hidden = prune_by_attention(scored, mode="mask", **block.share)
    logits, ids = greedy(llm.load(), prefill(llm, hidden), steps)
    case.check(logits, "step_logits_mask", tolerance="logits")
    case.check(ids, "tokens_mask")
    # the layers before see everything: what the newest row attends to there is the same without a cache
    for step in range(steps):
        state = block.scored(llm, embeds)
        case.check(block.score(state), case.expected["score"][step], f"score {step}", tolerance="score")
        kept = block.kept(prune_by_attention(state, **block.share))
        case.check(kept, case.expected["kept"][step].sort().values, f"kept of step {step}")
        embeds = torch.cat([embeds, llm.load().embed(ids[step : step + 1])])
