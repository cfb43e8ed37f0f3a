"""Golden cases of the vision half: compression, tower with compression, the two demos, LightCompress."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.generate import generate
from tokenloom.nodes.inspect import (
    attention_map,
    heatmap_overlay,
    token_mask_preview,
)
from tokenloom.nodes.manual import mask_to_indices, select_manual
from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.models import Loaded, load_model, load_projector, load_vision_tower
from tokenloom.nodes.place import place_tokens
from tokenloom.nodes.prefill import prefill, read_logits
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.select import Picked, rank, select_dominant, select_top
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.heat import over_box, stretched
from tokenloom.runtime.models.facts import CLIP_MEAN, CLIP_STD
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.needs import Need
from tokenloom.runtime.pixels import normalise
from tokenloom.runtime.values import (
    Frames,
    Kind,
    Patches,
    Prompt,
    Source,
    Tile,
    Tiles,
    Tokens,
    VisualTokens,
)

from .runners import Case, runs


def grid_source(tiles: int, rows: int, cols: int) -> Source:
    """`tiles` pictures of one tile each."""
    size = (cols, rows)
    layout = tuple(Tile(frame=i, box=(0, 0, cols, rows)) for i in range(tiles))
    return Source(layout, rows, cols, (size,) * tiles, (0.0,) * tiles)


def plain_tiles(pixels: Tensor) -> Tiles:
    """Pixel values [K, 3, h, w] as one tile per picture."""
    size = (pixels.shape[3], pixels.shape[2])
    layout = tuple(Tile(frame=i, box=(0, 0, *size)) for i in range(len(pixels)))
    return Tiles(pixels, layout, (size,) * len(pixels), (0.0,) * len(pixels))


def fed_patches(attention_BHQN: Tensor, hidden_BND: Tensor, key_BND: Tensor) -> Patches:
    """Patches as `encode_vision` would return them, from recorded attentions, hidden states and keys."""
    tiles, n = hidden_BND.shape[:2]
    side = {"cls_attention": attention_BHQN[:, :, 0].sum(1).flatten(), "keys": key_BND.flatten(0, 1)}
    return Patches.of_patches(grid_source(tiles, 1, n - 1), hidden_BND.flatten(0, 1), side, cls_token=True)


def positions(tokens: Tokens, tiles: int) -> Tensor:
    """[tiles, n] long: token positions in their tile, 0 for [CLS], of tokens of at most one patch."""
    patch = torch.zeros(len(tokens), dtype=torch.long)
    patch[tokens.count == 1] = tokens.member % tokens.source.per_tile + 1
    return patch.reshape(tiles, -1)


def by_score(patches: Patches, tiles: int, keep: int) -> Tensor:
    """[tiles, keep] long: [CLS], then positions by descending score, as the released code returns them."""
    score = patches.side["cls_attention"].reshape(tiles, -1).clone()
    score[:, 0] = torch.inf
    place = rank(score).argsort(1)
    return place[:, :keep]


def check_provenance(case: Case, picked: Picked, out: Tokens, tiles: int) -> None:
    """Which patches went where is what upstream computed."""
    case.check(positions(picked.kept, tiles), "dominant_positions")
    left = positions(picked.rest, tiles)
    merged = out.select(out.kind == int(Kind.CONTEXTUAL))
    target_BT, assigned = case.expected["target_positions"], case.expected["assignment"]
    for b in range(tiles):
        others = left[b][~torch.isin(left[b], target_BT[b])]
        for t in range(target_BT.shape[1]):
            g = b * target_BT.shape[1] + t
            members = merged.member[merged.start[g] : merged.start[g + 1]] % out.source.per_tile + 1
            want = torch.cat([target_BT[b, t][None], others[assigned[b] == t]]).sort().values
            assert members.sort().values.equal(want), f"{case.name}: image {b}, target {t}"
    assert out.member.sort().values.equal(torch.arange(len(out.source))), (
        f"{case.name}: patches lost or doubled"
    )


@runs("visionzip", "compression function alone")
def compression(case: Case) -> None:
    budget = case.facts["hyper_parameters"]
    patches = fed_patches(*(case.inputs[k] for k in ("attentions", "hidden_states", "metric")))
    tiles = len(patches.source.tiles)
    picked = select_dominant(patches, keep=budget["dominant"])
    out = merge_contextual(picked.kept, picked.rest, targets=budget["contextual"])
    case.check(patches.side["cls_attention"].reshape(tiles, -1)[:, 1:], "cls_attention_sum")
    case.check(by_score(patches, tiles, budget["dominant"]), "all_indices")
    case.check(out.features.reshape(tiles, -1, out.width), "tokens")
    check_provenance(case, picked, out, tiles)


@runs("visionzip", "edge and error behaviour of the compression function")
def edges(case: Case) -> None:
    attention, hidden, key = (case.inputs[k] for k in ("attentions", "hidden_states", "metric"))
    tiles, n = hidden.shape[:2]

    def compress(keep: int, targets: int, key: Tensor) -> Tensor:
        picked = select_dominant(fed_patches(attention, hidden, key), keep=keep)
        out = merge_contextual(picked.kept, picked.rest, targets=targets)
        return out.features.reshape(tiles, -1, out.width)

    for number, row in enumerate(case.facts["record"]):
        keep, targets = row["dominant"], row["contextual"]
        if "key" in row:
            where = case.expected[row["key"].replace("tokens.", "") + "_position"]
            zeroed = key.clone()
            zeroed[torch.arange(tiles), where] = 0
            got = compress(keep, targets, zeroed)
            assert bool(got.isfinite().all())
            if row["key"] == "tokens.zero_key_source":
                case.check(got, row["key"])  # similar to nothing: target 0 here, by NaN upstream
            else:  # upstream's NaN column attracts every token; here a zero key attracts none
                assert got[:, :keep].equal(case.expected[row["key"]][:, :keep])
                assert not torch.allclose(got, case.expected[row["key"]])
        elif row["result"] == "ok":
            case.check(compress(keep, targets, key), f"tokens.{number}")
        elif targets == 0:  # pure selection, where upstream divides by zero
            assert compress(keep, 0, key).shape == (tiles, keep, hidden.shape[2])
        else:
            with pytest.raises(BudgetError, match=rf"keep {keep}\b.* {n} tokens per tile"):
                compress(keep, targets, key)
        if "key" in row:  # the same budget with all keys as they are
            case.check(compress(keep, targets, key), "tokens.no_zero_key")


def check_budget(
    case: Case, patches: Patches, projector: Model[Projector], key: str, budget: dict[str, Any]
) -> None:
    """One budget on an encoded batch: order of selection, tokens, and tokens after the projector."""
    tiles = len(patches.source.tiles)
    picked = select_dominant(patches, keep=budget["dominant"])
    out = merge_contextual(picked.kept, picked.rest, targets=budget["contextual"])
    case.check(by_score(patches, tiles, budget["dominant"]), f"{key}.keep_idx")
    case.check(positions(picked.kept, tiles), case.expected[f"{key}.keep_idx"].sort(1).values)
    case.check(out.features.reshape(tiles, -1, out.width), f"{key}.tokens")
    visual = project_mlp(projector, out)
    case.check(visual.features.reshape(tiles, -1, visual.width), f"{key}.projected")


@runs("visionzip", "CLIP tower + VisionZip + projector")
def tower(case: Case) -> None:
    asked = case.facts["hyper_parameters"]
    vision = load_vision_tower(
        checkpoint=str(case.weights / "vision_tower"),
        select_layer=asked["select_layer"],
        select_feature=asked["select_feature"],
    )
    projector = load_projector(
        checkpoint=str(case.weights / "mm_projector.safetensors"), kind=asked["projector"]
    )
    tiles = plain_tiles(case.inputs["pixel_values"])
    patches = encode_vision(vision, tiles, layer=-2, features="cls_patch")
    shape = (len(tiles), patches.source.per_tile + 1, -1)
    case.check(patches.features.reshape(shape), "hidden_states_m2")
    case.check(patches.side["keys"].reshape(shape), "metric")
    case.check(patches.side["cls_attention"].reshape(shape[:2]), case.expected["cls_attention"].sum(1)[:, 0])

    plain = encode_vision(vision, tiles)  # the checkpoint's layer and rows
    shape = (len(tiles), len(plain) // len(tiles), -1)
    case.check(plain.features.reshape(shape), "full.patch_features")
    case.check(project_mlp(projector, plain).features.reshape(shape), "full.projected")
    for budget in asked["budgets"]:
        check_budget(case, patches, projector, budget["key"], budget)


@runs("visionzip", "attention visualiser (gradio_demo.py)")
def visualiser(case: Case) -> None:
    image = case.inputs["image"]
    squeezed = Image.fromarray(image.numpy()).resize((336, 336), Image.Resampling.BILINEAR)
    pixels = normalise([np.asarray(squeezed)], CLIP_MEAN, CLIP_STD)
    assert pixels.half().equal(case.expected["pixel_values"]), f"{case.name}: pixels"
    height, width = image.shape[:2]
    whole = Tile(frame=0, box=(0, 0, width, height))
    vision = load_vision_tower(checkpoint=str(case.weights / "vision_tower"))
    with demand(Need("attention", -2)):
        patches = encode_vision(
            vision, Tiles(pixels, (whole,), ((width, height),), (0.0,)), features="cls_patch"
        )

    received = torch.tensor(attention_map(patches, reduce="received").rows)
    case.check(received, "received_attention_24")
    blocks = stretched(over_box(received, (336, 336), (0, 0, 336, 336), smooth=False))
    case.check(blocks[::4, ::4], "patch_heatmap")
    frames = Frames((image,), torch.zeros(1, dtype=torch.float64))
    for i, click in enumerate(case.facts["clicks"]):
        index = click["grid_index"]
        right = attention_map(patches, index=index)
        case.check(torch.tensor(right.rows), f"row_correct_24.{i}")
        row = torch.tensor(attention_map(patches, index=index, previous=True).rows)
        case.check(row, f"row_upstream_24.{i}")
        zoomed = stretched(over_box(row, (336, 336), (0, 0, 336, 336), smooth=True))
        case.check(zoomed[::4, ::4], f"point_heatmap.{i}")
        shown = heatmap_overlay(frames, right, marker=tuple(click["click_xy"]))
        assert shown.pixels.shape == image.shape


def check_llm(case: Case, model: Loaded, visual: VisualTokens, key: str) -> None:
    """Embeddings, logits and greedy ids of one run, where they are recorded."""
    placed = place_tokens(model.llm, Prompt.of_ids(case.facts["input_ids"]), visual)
    if f"{key}.inputs_embeds" in case.expected:
        case.check(placed.embeds[None], f"{key}.inputs_embeds")
    logits = read_logits(model.llm, prefill(model.llm, placed), rows="all")
    case.check(logits.values[None], f"{key}.logits")
    if f"{key}.generate_ids" in case.expected:
        want = case.expected[f"{key}.generate_ids"][0, 1:]  # upstream returns a leading BOS
        answer = generate(model.llm, placed, max_new_tokens=len(want)).answer
        case.check(torch.tensor(answer.ids), want, f"{key}.generate_ids")


@runs("visionzip", "manual token selection (demo-chat branch)")
def manual_selection(case: Case) -> None:
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    tiles = plain_tiles(case.inputs["pixel_values"])
    patches = encode_vision(model.vision, tiles, features="cls_patch")
    case.check(patches.side["cls_attention"][None], case.expected["cls_attention"].sum(1)[:, 0])
    for row in case.facts["select_ks"]:
        top = select_top(patches, keep=row["token_num"])
        case.check(top.kept.member[None], f"select.{row['token_num']}")
        assert len(top.kept) == row["token_num"]
    for run in case.facts["runs"]:
        picked = tuple(run["select_tokens"])
        chosen = select_manual(patches, indices=picked, include_cls=run["cls_flag"]).kept
        assert len(chosen) == run["visual_tokens"]
        check_llm(case, model, project_mlp(model.projector, chosen), run["key"])
    check_drawing(case)


def check_drawing(case: Case) -> None:
    """From what was drawn to patches, and the preview of those that are left."""
    image = case.inputs["ui.image"]
    size = (image.shape[1], image.shape[0])
    source = Source((Tile(frame=0, box=(0, 0, *size)),), 24, 24, (size,), (0.0,))
    patches = Patches.of_patches(source, torch.zeros(576, 1))
    drawn = Frames((case.inputs["ui.layer_alpha"][..., None].expand(-1, -1, 3),), torch.zeros(1).double())
    table = mask_to_indices(drawn, patches, stretch=True)
    case.check(torch.tensor([row[0] for row in table.rows]), "ui.selected")
    kept = select_manual(patches, table).kept
    frames = Frames((image,), torch.zeros(1, dtype=torch.float64))
    case.check(token_mask_preview(frames, kept, spill=True).pixels, "ui.masked")


@runs("visionzip", "LightCompress variant on LLaVA-1.5 (CLS not sent; prune_only / merge_only)")
def lightcompress(case: Case) -> None:
    model = load_model(checkpoint=str(case.weights), dtype="float32", device="cpu")
    patches = encode_vision(model.vision, plain_tiles(case.inputs["pixel_values"]), features="cls_patch")
    tiles = len(patches.source.tiles)
    for run in case.facts["runs"]:
        if run["result"] != "ok":
            with pytest.raises(BudgetError):
                light(patches, run)
            continue
        out = light(patches, run)
        case.check(out.features.reshape(tiles, -1, out.width), f"{run['key']}.tower_features")
        visual = project_mlp(model.projector, out)
        case.check(visual.features.reshape(tiles, -1, visual.width), f"{run['key']}.image_features")
        check_llm(case, model, visual, run["key"])


def light(patches: Patches, run: dict[str, Any]) -> Patches:
    """LightCompress's budget: patches only, [CLS] is not sent; either half may be left out."""
    picked = select_dominant(patches, keep=0 if run["merge_only"] else run["dominant"], cls_token="drop")
    merged = merge_contextual(picked.kept, picked.rest, targets=run["contextual"])
    return picked.kept if run["prune_only"] else merged
