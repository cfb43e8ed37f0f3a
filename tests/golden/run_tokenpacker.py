"""Golden cases of TokenPacker: the projector alone, behind its tower, and from pictures to answers."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.generate import generate
from tokenloom.nodes.models import load_model, load_projector, load_vision_tower
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.prompt import render_chat
from tokenloom.nodes.tile import preprocess
from tokenloom.nodes.tokenpacker import project_tokenpacker
from tokenloom.runtime.context import demand
from tokenloom.runtime.models.packer import RELEASED as LEVELS
from tokenloom.runtime.models.tokenpacker import TokenPacker, middles, window_places
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Frames, Patches, VisualTokens

from .bare_language import greedy
from .run_vision import grid_source, plain_tiles
from .runners import Case, runs


def needs(levels: tuple[int, ...] = LEVELS) -> list[Need]:
    """What the node asks of the tower."""
    return [Need("hidden", level) for level in levels]


@runs("tokenpacker", "llava.model.multimodal_projector.builder.TokenPacker.forward")
def projector_alone(case: Case) -> None:
    x, multi = case.inputs["x"], case.inputs["x_multi"]
    asked, tiles = case.facts["hyperparameters"], len(x)
    projector = load_projector(checkpoint=str(case.weights), dtype="float32", device="cpu")
    facts = projector.facts.projector
    assert facts is not None
    assert (facts.scale_factor, facts.heads, facts.levels, facts.inputs, facts.outputs) == (
        asked["scale_factor"], asked["num_heads"], asked["num_levels"], asked["embed_dim"],
        asked["hidden_size"],
    )  # fmt: skip
    parts = multi.chunk(facts.levels, -1)
    side = {need.key: part.flatten(0, 1) for need, part in zip(needs(), parts, strict=True)}
    patches = Patches.of_patches(
        grid_source(tiles, asked["raw_grid"], asked["raw_grid"]), x.flatten(0, 1), side
    )
    out = project_tokenpacker(projector, patches)
    case.check(out.features.view(tiles, -1, out.width), "output")
    check_windows(out, asked["raw_grid"], asked["scale_factor"])

    packer = projector.load().module
    assert isinstance(packer, TokenPacker)
    grids = [t.unflatten(1, (asked["raw_grid"],) * 2) for t in (x, multi)]
    for training in (True, False):
        packer.train(training)
        with torch.no_grad():
            case.check(packer(*grids, scale=asked["scale_factor"]), "output", f"output, training {training}")
            check_inside(case, packer, x, multi)


def check_windows(out: VisualTokens, grid: int, scale: int) -> None:
    """Every token stands for its window: a box of patches, all alike."""
    assert out.count.eq(scale**2).all()
    torch.testing.assert_close(out.coverage(), torch.full_like(out.coverage(), 1 / scale**2))
    centre = out.centre()[: (grid // scale) ** 2, 2:]
    first = torch.arange(grid // scale) * scale + (scale - 1) / 2
    torch.testing.assert_close(centre, torch.cartesian_prod(first, first), rtol=0, atol=1e-3)


def check_inside(case: Case, packer: TokenPacker, x: Tensor, multi: Tensor) -> None:
    """What happens on the way, in upstream's order: windows, then images."""
    asked, tiles = case.facts["hyperparameters"], len(x)
    row_GP = windows(tiles, asked["raw_grid"], asked["scale_factor"])
    point = middles(x.flatten(0, 1), row_GP)
    case.check(point.view(tiles, -1, point.shape[-1]), "q_interp")
    query = packer.queries(point)
    case.check(query.view(tiles, -1, query.shape[-1]), "query_ln")
    key, value = packer.keys(multi), packer.values(multi)
    case.check(key, "key_ln")
    case.check(value, "value_ln")
    divided = [t.flatten(0, 1)[row_GP] for t in (key, value)]
    for name, window in zip(("divided_key", "divided_value"), divided, strict=True):
        case.check(by_window(window, tiles).transpose(0, 1), name)
    case.check(by_window(query, tiles)[None], "divided_query")
    attend = packer.attend if packer.training else packer.attend_rearranged
    found = attend(query, *divided)
    case.check(by_window(found, tiles)[None], "attn_out")
    case.check(found.view(tiles, -1, found.shape[-1]), "mlp_in")


def windows(tiles: int, side: int, scale: int) -> Tensor:
    """[G, P] long: the rows of every window of square grids."""
    place_GP, _ = window_places(side, side, scale)
    return (torch.arange(tiles)[:, None, None] * side**2 + place_GP).flatten(0, 1)


def by_window(x: Tensor, tiles: int) -> Tensor:
    """From image-major to window-major, images fastest."""
    return x.view(tiles, -1, *x.shape[1:]).transpose(0, 1).flatten(0, 1)


@runs("tokenpacker", "CLIPVisionTower.forward ->")
def behind_its_tower(case: Case) -> None:
    asked = case.facts["hyperparameters"]
    folder = case.weights / "clip-vit-tiny"
    levels = tuple(asked["layers_multi"])
    vision = load_vision_tower(
        checkpoint=str(folder),
        select_layer=asked["select_layer"],
        select_feature=asked["select_feature"],
        dtype="float32",
        device="cpu",
    )
    projector = load_projector(checkpoint=str(case.weights), dtype="float32", device="cpu")
    images = case.inputs["images"]
    with demand(*needs(levels), Need("hidden", 0)):
        patches = encode_vision(vision, plain_tiles(images))

    def per_tile(x: Tensor) -> Tensor:
        return x.view(len(images), -1, x.shape[-1])

    case.check(per_tile(patches.features), "x")
    for level in levels:
        case.check(per_tile(patches.side[f"hidden@{level}"])[:, :32], f"hidden_{level}_first32")
    case.check(per_tile(patches.side["hidden@0"])[:, :7], case.expected["hidden_0_first8"][:, 1:], "hidden_0")
    multi = per_tile(torch.cat([patches.side[f"hidden@{level}"] for level in levels], -1))
    case.check(multi[:, :64], "x_multi_first64")
    case.check(multi[:, -64:], "x_multi_last64")
    case.check(multi.mean(-1), "x_multi_channel_mean")
    row_GP = windows(len(images), asked["raw_grid"], asked["scale_factor"])
    case.check(per_tile(middles(patches.features, row_GP)), "q_interp")
    assert vision.load().facts.depth + 1 == case.expected["num_hidden_states"]
    case.check(per_tile(project_tokenpacker(projector, patches, levels=levels).features), "output")


@runs("tokenpacker", "process_images -> LlavaLlamaForCausalLM.forward / generate")
def end_to_end(case: Case) -> None:
    asked, expected = case.facts["hyperparameters"], case.expected
    folder = case.weights / "llava"
    inside = any("vision_tower" in name for name in load_file(folder / "model.safetensors"))
    assert inside == case.facts["vision_tower_tensors_inside_llava_checkpoint"]
    model = load_model(checkpoint=str(folder), dtype="float32", device="cpu")
    frames = Frames((case.inputs["image"],), torch.zeros(1, dtype=torch.float64))
    tiles = preprocess(model.chat, frames)
    stride = tiles.pixels.shape[-1] // expected["pixel_values_stride"].shape[-1]
    case.check(tiles.pixels[..., ::stride, ::stride], "pixel_values_stride")
    with demand(*needs()):
        patches = encode_vision(model.vision, tiles)
    visual = project_tokenpacker(model.projector, patches)
    case.check(visual.features[None], "image_features")

    prompt = render_chat(model.chat, frames, question=case.facts["question"], template=asked["conv_mode"])
    assert prompt.text == case.facts["prompt"]
    case.check(torch.tensor(prompt.ids), "input_ids")
    placed = place_tokens(model.llm, prompt, visual)
    case.check(placed.embeds[None], "inputs_embeds")
    state = prefill(model.llm, placed)
    logits = read_logits(model.llm, state, rows="all").values[None]
    case.check(logits[:, -8:], "prefill_logits_last8")
    case.check(logits[:, ::16], "prefill_logits_stride16")
    check_argmax(case, logits)
    check_answer(case, model, state)


def check_argmax(case: Case, logits: Tensor) -> None:
    """The recorded next ids, wherever the best two are not as good as equal."""
    best = logits.topk(2).values
    clear = best[..., 0] - best[..., 1] > 10 * case.tolerance("float")["atol"]
    assert clear.float().mean() > 0.9
    case.check(logits.argmax(-1)[clear], case.expected["prefill_argmax"][clear], "prefill_argmax")


def check_answer(case: Case, model: Any, state: Any) -> None:
    """Greedy ids and scores; the end token does not end it, as in the recording."""
    [ids], [scores] = case.expected["greedy_tokens"], case.expected["greedy_scores"]
    got_scores, got_ids = greedy(model.llm.load(), state, len(ids))
    case.check(got_ids, ids, "greedy_tokens")
    case.check(got_scores, scores, "greedy_scores")
    answer = generate(model.llm, state, max_new_tokens=len(ids)).answer
    said = ids.tolist()
    assert list(answer.ids) == said[: len(answer.ids)]
