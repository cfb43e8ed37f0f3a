"""Golden case of Qwen2.5-VL: selection by received attention on projected embeddings (LightCompress)."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.models import Loaded, load_model
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.project import project_merger
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.handle import TowerFacts
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import LLMInput, Prompt, Tile, Tiles, VisualTokens

from .runners import Case, runs


def unflattened(patches: Tensor, grid: list[int], facts: TowerFacts) -> Tiles:
    """The picture that the Qwen processor flattened: one tile for each of the moments that a patch holds.

    The cases' moments differ, as two frames of a clip would; a picture's are the same.
    """
    _, rows, cols = grid
    merge, side = facts.merge, facts.patch
    cut = patches.reshape(rows // merge, cols // merge, merge, merge, 3, facts.temporal, side, side)
    pixels = cut.permute(5, 4, 0, 2, 6, 1, 3, 7).reshape(facts.temporal, 3, rows * side, cols * side)
    size = (cols * side, rows * side)
    layout = tuple(Tile(frame=0, box=(0, 0, *size), time=time) for time in range(facts.temporal))
    return Tiles(pixels, layout, (size,), (0.0,))


def prompt_of(case: Case, image_token: int) -> Prompt:
    """The ids, with one slot instead of the run of image tokens."""
    ids = [-200 if i == image_token else i for i in case.inputs["input_ids"][0].tolist()]
    return Prompt.of_ids([i for n, i in enumerate(ids) if i >= 0 or ids[n - 1] >= 0])


def check_placed(case: Case, model: Loaded, placed: LLMInput, key: str) -> None:
    """Positions and logits, and embeddings where they are recorded."""
    assert placed.rope is not None
    case.check(placed.rope.T[:, None], f"{key}.position_ids")
    if f"{key}.inputs_embeds" in case.expected:
        case.check(placed.embeds[None], f"{key}.inputs_embeds")
        case.check(torch.ones(1, len(placed), dtype=torch.long), f"{key}.attention_mask")
    logits = read_logits(model.llm, prefill(model.llm, placed), rows="all")
    case.check(logits.values[None], f"{key}.logits")


@runs("visionzip", "Qwen2.5-VL (tower without CLS), LightCompress variant")
def qwen(case: Case) -> None:
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    facts = model.vision.facts
    assert facts.tower is not None
    assert facts.chat is not None
    assert facts.chat.image_token is not None
    tiles = unflattened(case.inputs["pixel_values"], case.inputs["image_grid_thw"][0].tolist(), facts.tower)
    with demand(Need("received_attention"), Need("keys")):
        patches = encode_vision(model.vision, tiles)
    visual: VisualTokens = project_merger(model.projector, patches)
    case.check(visual.features, "full.image_features")
    case.check(visual.side["received_attention"], "score")
    case.check(visual.side["keys"][None], "key")
    prompt = prompt_of(case, facts.chat.image_token)
    check_placed(case, model, place_tokens(model.llm, prompt, visual), "full")
    for run in case.facts["runs"]:
        picked = select_dominant(visual, ratio=run["dominant_ratio"], score="received")
        kept = merge_contextual(picked.kept, picked.rest, ratio=run["contextual_ratio"], order="in_place")
        assert len(kept) == run["kept"]
        assert isinstance(kept, VisualTokens)
        check_placed(case, model, place_tokens(model.llm, prompt, kept), run["key"])
