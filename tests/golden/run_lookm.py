"""Golden cases of LOOK-M: one layer's cache, compressed by the public node."""

from __future__ import annotations

import torch

from tokenloom.nodes.kv import compress_kv
from tokenloom.runtime.kv_merge import Mode, nearest, others
from tokenloom.runtime.values import KVCache, LayerCache, LLMInput, LLMState, Segment

from .runners import Case, runs

NODE: dict[str, Mode] = {
    "h2o": "h2o",
    "pivot_merge": "pivot",
    "weighted_merge": "weighted",
    "avg_merge": "avg",
}


def state_of(case: Case) -> LLMState:
    """A state after one layer, whose prompt has images where the case has them."""
    keys, values = (case.inputs[name][0] for name in ("keys_in", "values_in"))
    count, at = keys.shape[1], torch.arange(keys.shape[1])
    segment = torch.full((count,), int(Segment.TEXT_BETWEEN), dtype=torch.uint8)
    args = case.facts["args"]
    for number, position in enumerate(args["image_token_positions_in_input_ids"]):
        first = position + number * (args["tokens_per_image"] - 1)  # each image took the place of one id
        segment[first : first + args["tokens_per_image"]] = int(Segment.VISUAL)
    none = torch.full((count,), -1)
    hidden = torch.zeros(count, 1)
    cache = KVCache((LayerCache(keys, values, at, at, case.inputs["attention"].sum((0, 2))),))
    return LLMState(hidden, at, at, 1, cache, LLMInput(hidden, at, segment, none, none, none), count)


@runs("lookm", "h2o")
@runs("lookm", "pivot_merge")
@runs("lookm", "weighted_merge")
@runs("lookm", "avg_merge")
@runs("lookm", "text_prior_h2o")
@runs("lookm", "text_prior_pivot_merge")
@runs("lookm", "text_prior_weighted_merge")
@runs("lookm", "text_prior_avg_merge")
def compressed_layer(case: Case) -> None:
    """Which keys stay, what the others merge into, and the keys and values that come out."""
    args, mode = case.facts["args"], case.facts["mode"]
    state = state_of(case)
    before = state.cache.layers[0]
    assert int(before.length * args["hh_ratio"]) == args["hh_size"]
    assert int(before.length * args["recent_ratio"]) == args["recent_size"]
    assert before.received is not None
    case.check(before.received, "score", tolerance="keys")
    after = compress_kv(
        state,
        mode=NODE[mode.removeprefix("text_prior_")],
        hh_ratio=args["hh_ratio"],
        recent_ratio=args["recent_ratio"],
        text_prior=mode.startswith("text_prior_"),
        avg_pairing="released",
    ).cache.layers[0]
    kept = after.row.expand(len(after.keys), -1)  # a layer that is short enough stays as it is
    case.check(kept, "kept")
    case.check(after.position.expand_as(kept), "kept")
    case.check(after.keys[None], "keys", tolerance="keys")
    case.check(after.values[None], "values", tolerance="values")
    if "merge_target" in case.expected:
        near = nearest(before.keys, kept, others(kept, before.length))
        case.check(near.target, "merge_target")
        case.check(near.similarity, "merge_similarity", tolerance="keys")
