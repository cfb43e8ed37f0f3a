"""Golden cases of PLLaVA and of PruneVid on it: preprocessing, and from pixels to the answer's ids."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from tokenloom.nodes.cluster import cluster_spatial, cluster_temporal, merge_static
from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.generate import generate
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.pool import pool_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.prune import prune_by_attention
from tokenloom.nodes.tile import preprocess
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.values import Frames, Kind, LLMState, Prompt, VisualTokens
from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

from ..handles import CLIP_MEAN, CLIP_STD, image_handle
from .bare_language import greedy
from .run_prune import SCORE
from .run_vision import plain_tiles
from .runners import Case, runs


@runs("prunevid", "PllavaProcessor.__call__")
def two_resizes(case: Case) -> None:
    frames = case.inputs["frames"]
    side = case.facts["args"]["clip_resolution"]
    chat = image_handle(ImageFacts(size=side, mean=CLIP_MEAN, std=CLIP_STD, aspect="pllava"))
    clip = Frames.of_video(frames, frames.new_zeros(len(frames), dtype=torch.float64))
    made = preprocess(chat, clip).pixels
    case.check(made, "pixel_values", tolerance="pixel_values")
    assert made.equal(case.expected["pixel_values"]), f"{case.name}: not bit-exact"


@runs("prunevid", "PllavaForConditionalGeneration.generate")
def end_to_end(case: Case) -> None:
    args = case.facts["args"]
    model = loaded(case)
    patches = encode_vision(model.vision, plain_tiles(case.inputs["pixel_values"]))
    moments, rows, cols = args["pooling_shape"]
    time = None if moments == args["num_frames"] else moments
    pooled = pool_tokens(project_mlp(model.projector, patches), grid=(rows, cols), frames=time)
    case.check(pooled.features, "pooled_tokens", tolerance="pooled")
    check_plain(case, model, pooled)

    placed = place_tokens(model.llm, prompt_of(case, model), first_stage(case, pooled))
    scored = prefill(model.llm, placed, through=args["selected_layer"])
    case.check(scored.side[SCORE][scored.visual], "score", tolerance="pooled")
    nothing = not len(case.expected["kept"])
    pruned = prune_by_attention(scored, ratio=args["alpha"], allow_none=nothing)
    case.check(placed.token[pruned.row[pruned.visual]], "kept")
    state = prefill(model.llm, pruned)
    case.check(read_logits(model.llm, state, rows="all").values, "prefill_logits", tolerance="logits")
    check_answer(case, model, state, case.expected)


def loaded(case: Case) -> Loaded:
    """The checkpoint with the strength that the case says; with LoRA layers, its plain half is their base."""
    args = case.facts["args"]
    alpha, layered = args["lora_alpha"], case.folder / "weights_lora"
    folder = case.weights if alpha is None else layered
    model = load_model(checkpoint=str(folder), dtype="float32", device="cpu", lora_alpha=alpha)
    if alpha is not None:
        plain, bare = (
            load_model(checkpoint=str(f), dtype="float32", device="cpu", lora_alpha=a).llm.load().module
            for f, a in ((case.weights, None), (layered, 0.0))
        )
        bare_weights = bare.state_dict()
        assert all(w.equal(bare_weights[name]) for name, w in plain.state_dict().items())
    return model


def prompt_of(case: Case, model: Loaded) -> Prompt:
    """The ids of the case, with a slot where the checkpoint's image token stands."""
    assert model.chat.facts.chat is not None
    image, [ids] = model.chat.facts.chat.image_token, case.inputs["input_ids"].tolist()
    return Prompt.of_ids([IMAGE_TOKEN_INDEX if i == image else i for i in ids], media="video")


def first_stage(case: Case, pooled: VisualTokens) -> VisualTokens:
    """PruneVid's first stage, checked against the sizes that the case tells of."""
    args, told = case.facts["args"], case.facts["stage1"]
    segments = cluster_temporal(pooled, ratio=args["temporal_segment_ratio"])
    assert segments.of_frame.bincount().tolist() == told["window_sizes"], f"{case.name}: segments"
    merged = cluster_spatial(merge_static(pooled, segments, tau=args["tau"]), ratio=args["cluster_ratio"])
    static, number = merged.kind == int(Kind.STATIC), segments.of_frame[merged.frame]
    count = len(told["window_sizes"])
    assert number[static].bincount(minlength=count).tolist() == told["static_sizes"]
    assert number[~static].bincount(minlength=count).tolist() == told["dynamic_sizes"]
    case.check(merged.features, "merged_tokens", tolerance="pooled")
    return merged


def check_plain(case: Case, model: Loaded, pooled: VisualTokens) -> None:
    """PLLaVA on the same weights without pruning: expected_base."""
    expected = load_file(case.folder / case.facts["base"]["file"])
    state = prefill(model.llm, place_tokens(model.llm, prompt_of(case, model), pooled))
    assert len(state) == case.facts["base"]["prefill_length"]
    last = read_logits(model.llm, state).values[0]
    case.check(last, expected["prefill_last_logits"], "prefill_last_logits", tolerance="logits")
    check_answer(case, model, state, expected)


def check_answer(case: Case, model: Loaded, state: LLMState, expected: Any) -> None:
    """Greedy scores step by step; and the ids as generate gives them, which may end with the end token."""
    logits, ids = greedy(model.llm.load(), state, len(expected["tokens"]))
    case.check(logits, expected["step_logits"], "step_logits", tolerance="logits")
    case.check(ids, expected["tokens"], "tokens")
    answer = generate(model.llm, state, max_new_tokens=case.facts["args"]["max_new_tokens"]).answer
    case.check(torch.tensor(answer.ids), expected["tokens"], "tokens of generate")
