"""Golden cases of the vision half: compression, tower with compression, the two demos, LightCompress."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.models import load_projector, load_vision_tower
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.select import Picked, rank, select_dominant
from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.values import Kind, Patches, Source, Tile, Tiles, Tokens

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
    assert out.coverage().sum(dtype=torch.float64) > 0


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
        return merge_contextual(picked.kept, picked.rest, targets=targets).features.reshape(tiles, -1, 12)

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
            assert compress(keep, 0, key).shape == (tiles, keep, 12)
        else:
            with pytest.raises(BudgetError, match=rf"keep {keep}\b.* {n} tokens per tile"):
                compress(keep, targets, key)
    case.check(compress(8, 4, key), "tokens.no_zero_key")


def check_budget(
    case: Case, patches: Patches, projector: Model[Projector], key: str, budget: dict[str, Any]
) -> None:
    """One budget on an encoded batch: order of selection, tokens, and tokens after the projector."""
    tiles = len(patches.source.tiles)
    picked = select_dominant(patches, keep=budget["dominant"])
    out = merge_contextual(picked.kept, picked.rest, targets=budget["contextual"])
    case.check(by_score(patches, tiles, budget["dominant"]), f"{key}.keep_idx")
    case.check(out.features.reshape(tiles, -1, out.width), f"{key}.tokens")
    visual = project_mlp(projector, out)
    case.check(visual.features.reshape(tiles, -1, visual.width), f"{key}.projected")


@runs("visionzip", "CLIP tower + VisionZip + projector")
def tower(case: Case) -> None:
    vision = load_vision_tower(checkpoint=str(case.weights / "vision_tower"))
    projector = load_projector(
        checkpoint=str(case.weights / "mm_projector.safetensors"),
        kind=case.facts["hyper_parameters"]["projector"],
    )
    tiles = plain_tiles(case.inputs["pixel_values"])
    patches = encode_vision(vision, tiles, layer=-2, features="cls_patch")
    shape = (len(tiles), patches.source.per_tile + 1, -1)
    case.check(patches.features.reshape(shape), "hidden_states_m2")
    case.check(patches.side["keys"].reshape(shape), "metric")
    case.check(patches.side["cls_attention"].reshape(shape[:2]), case.expected["cls_attention"].sum(1)[:, 0])

    plain = encode_vision(vision, tiles)  # -2 and patch are the checkpoint's choice
    shape = (len(tiles), patches.source.per_tile, -1)
    case.check(plain.features.reshape(shape), "full.patch_features")
    case.check(project_mlp(projector, plain).features.reshape(shape), "full.projected")
    for budget in case.facts["hyper_parameters"]["budgets"]:
        check_budget(case, patches, projector, budget["key"], budget)
