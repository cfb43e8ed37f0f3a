"""Golden cases of PruMerge and PruMerge+: from recorded queries and keys, and from pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.models import load_vision_tower
from tokenloom.nodes.outliers import prune_outliers
from tokenloom.runtime.context import demand
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Patches, Tokens

from .run_vision import grid_source, plain_tiles
from .runners import Case, runs


def needs_of(case: Case) -> tuple[Need, Need]:
    """The channels that the node asks for; the released code counts the tower's layers from 0."""
    layer = case.facts["args"]["attention_layer"] + 1
    return Need("cls_attention", layer, form="unsplit"), Need("keys", layer, form="unsplit")


def fed(case: Case) -> Patches:
    """Patches as `encode_vision` would return them, from recorded features, queries and keys."""
    query_BC, key_BNC = case.inputs["query"][:, 0], case.inputs["key"]
    logit_BN = (key_BNC @ query_BC[..., None])[..., 0] * key_BNC.shape[2] ** -0.5
    attention, keys = needs_of(case)
    side = {
        attention.key: logit_BN.softmax(-1)[:, 1:].flatten(),
        keys.key: key_BNC[:, 1:].flatten(0, 1),
    }
    features = case.inputs["features"]
    source = grid_source(len(features), 1, features.shape[1])
    return Patches.of_patches(source, features.flatten(0, 1), side)


def encoded(case: Case) -> Patches:
    """Patches from the recorded pixels, through the case's own tower."""
    layer = case.facts["args"]["select_layer"]
    vision = load_vision_tower(
        checkpoint=str(case.weights), select_layer=layer, dtype="float32", device="cpu"
    )
    with demand(*needs_of(case)):
        return encode_vision(vision, plain_tiles(case.inputs["pixel_values"]), features="patch")


def own_patch(out: Tokens) -> Tensor:
    """[N] long: the patch that each token stands for most."""
    first = torch.zeros(len(out), dtype=torch.long)
    some = (out.count > 0).nonzero()[:, 0]
    order = out.share.argsort(descending=True, stable=True)
    order = order[out.owner[order].argsort(stable=True)]  # by token, then by falling share
    first[some] = out.member[order[out.start[:-1][some]]]
    return first % out.source.per_tile


def check(case: Case, patches: Patches, plus: bool) -> None:
    args, tiles = case.facts["args"], len(patches.source.tiles)
    attention, _ = needs_of(case)
    case.check(patches.side[attention.key].reshape(tiles, -1), "cls_attention", tolerance="cls_attention")
    assert args["outlier"] == "Q3+1.5*IQR over the whole batch"
    out = prune_outliers(
        patches,
        plus=plus,
        ratio=None if args["if_adaptive"] else args["reduction_ratio"],
        neighbours=args["neighbours"],
        duplicates=case.facts["has_duplicate_indices"],
        layer=attention.layer or 0,
    )
    case.check(own_patch(out).reshape(tiles, -1)[:, :-1], "indices")
    case.check(out.features.reshape(tiles, -1, out.width), "tokens", tolerance="tokens")


@runs("prumerge", "CLIPVisionTower.token_prune_merge_advanced")
def prumerge(case: Case) -> None:
    for patches in (fed(case), encoded(case)):
        check(case, patches, plus=False)


@runs("prumerge", "CLIPVisionTower.token_prune_merge_advanced_plus")
def prumerge_plus(case: Case) -> None:
    for patches in (fed(case), encoded(case)):
        check(case, patches, plus=True)
