"""project_pixel_shuffle: order, provenance, side channels, refusals; other methods' stages around it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.nodes import (
    cluster_spatial,
    encode_vision,
    generate,
    load_model,
    merge_contextual,
    place_tokens,
    prefill,
    project_merger,
    project_mlp,
    project_pixel_shuffle,
    prune_by_attention,
    render_chat,
    select_dominant,
)
from tokenloom.nodes.models import Loaded
from tokenloom.runtime.context import counting, demand
from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.models.handle import ModelFacts, ProjectorFacts
from tokenloom.runtime.models.projector import Projector, build_projector
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Kind, Patches, Tokens, VisualTokens

from ..flops import counted_by_torch
from ..internvl import tiles, write_internvl
from ..runtime.models.tiny import Held
from ..towers import made_patches, square_source, tiny_projector

WIDTH = 6
PATCHES = made_patches(square_source(2, 4, 6), cls_token=False, width=WIDTH)


@cache
def shuffler(ratio: float = 0.5, version: Any = "v2") -> Held:
    """A handle on a random projector."""
    facts = ProjectorFacts(kind="pixel_shuffle", inputs=WIDTH, outputs=10, ratio=ratio, ps_version=version)
    torch.manual_seed(5)
    projector = Projector(build_projector(facts).eval().requires_grad_(False), facts)
    return Held(
        kind=Projector,
        loader="held",
        folder="",
        fingerprint="",
        dtype="float32",
        device="cpu",
        facts=ModelFacts(name="tiny", projector=facts),
        held=projector,
    )


def shuffled(x: Tensor, side: int, *, swapped: bool) -> Tensor:
    """InternVL's pixel_shuffle as written down: [K, rows, cols, C] to [K, rows', cols', C * side^2]."""
    tiles_, rows, cols, width = x.shape
    x = x.reshape(tiles_, rows, cols // side, width * side).permute(0, 2, 1, 3)
    x = x.reshape(tiles_, cols // side, rows // side, width * side**2)
    return x if swapped else x.permute(0, 2, 1, 3)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_features_are_those_of_the_released_shuffle(version: Any) -> None:
    """Version 1 counts a tile's tokens column by column; the numbers inside a token are the same."""
    handle = shuffler(version=version)
    out = project_pixel_shuffle(handle, PATCHES)
    map_KRCD = PATCHES.features.reshape(2, 4, 6, WIDTH)
    want = handle.load()(shuffled(map_KRCD, 2, swapped=version == "v1").flatten(0, 2))
    torch.testing.assert_close(out.features, want, atol=1e-6, rtol=1e-4)
    assert isinstance(out, VisualTokens)


@pytest.mark.parametrize(("version", "second"), [("v1", [12, 13, 18, 19]), ("v2", [2, 3, 8, 9])])
def test_each_token_stands_for_its_patches(version: Any, second: list[int]) -> None:
    """All patches are spoken for, a quarter each, at the tile they come from."""
    out = project_pixel_shuffle(shuffler(), PATCHES, version=version)
    assert out.count.tolist() == [4] * 12
    assert out.member[:8].tolist() == [0, 1, 6, 7, *second]
    assert out.share.eq(0.25).all()
    assert out.coverage().eq(0.25).all()
    assert out.home.tolist() == [0] * 6 + [1] * 6
    assert out.kind.eq(int(Kind.POOLED)).all()


def test_side_channels_are_means_of_the_group() -> None:
    """Scores and keys come along."""
    out = project_pixel_shuffle(shuffler(), PATCHES)
    want = PATCHES.side["keys"][out.member].reshape(12, 4, -1).mean(1)
    torch.testing.assert_close(out.side["keys"], want)


def test_cls_is_left_out() -> None:
    """With or without [CLS] rows in front of each tile, the same tokens."""
    with_cls = made_patches(square_source(2, 4, 6), cls_token=True, width=WIDTH)
    bare = with_cls.select(with_cls.kind != int(Kind.CLS))
    assert project_pixel_shuffle(shuffler(), with_cls).features.equal(
        project_pixel_shuffle(shuffler(), bare).features
    )


def test_a_quarter_makes_one_token_of_sixteen() -> None:
    """The ratio of PVC."""
    out = project_pixel_shuffle(
        shuffler(0.25), made_patches(square_source(1, 4, 8), cls_token=False, width=6)
    )
    assert out.count.tolist() == [16, 16]


def refused(handle: Any, tokens: Tokens, **widgets: Any) -> str:
    with pytest.raises(WiringError) as error:
        project_pixel_shuffle(handle, tokens, **widgets)
    return str(error.value)


def test_groups_that_are_not_whole() -> None:
    """Selected patches, and grids that do not divide."""
    text = (
        "project_pixel_shuffle.tokens: {} patches per tile are not whole groups of 2 x 2 patches; "
        "wire the tower's patches, and select after this node"
    )
    assert refused(shuffler(), PATCHES.select(torch.arange(5))) == text.format("5 tokens of 4 x 6")
    odd = made_patches(square_source(1, 3, 4), cls_token=False, width=WIDTH)
    assert refused(shuffler(), odd) == text.format("12 tokens of 3 x 4")


def test_a_ratio_that_the_weights_do_not_fit() -> None:
    """The projector's first layer says how many patches a token is made of."""
    assert refused(shuffler(), PATCHES, ratio=0.25) == (
        "project_pixel_shuffle.tokens: 4 x 4 patches of width 6 make vectors of 96, the projector takes 24, "
        "2 x 2 of 6; wire the tower and the projector of the same checkpoint, and leave ratio to it"
    )
    assert refused(shuffler(), PATCHES, ratio=0.3) == (
        "project_pixel_shuffle.ratio: 0.3, wanted 1 / whole number: 1, 0.5, 0.25 or the like"
    )
    assert refused(shuffler(), PATCHES, ratio=0.0) == (
        "project_pixel_shuffle.ratio: 0, wanted 1 / whole number: 1, 0.5, 0.25 or the like"
    )


def test_projectors_and_their_nodes() -> None:
    """Each node names the one that was meant."""
    assert refused(tiny_projector("mlp2x_gelu"), PATCHES) == (
        "project_pixel_shuffle.projector: mlp2x_gelu shuffles no patches; use project_mlp instead"
    )
    assert refused(tiny_projector("merger2x2"), PATCHES) == (
        "project_pixel_shuffle.projector: merger2x2 shuffles no patches; use project_merger instead"
    )
    with pytest.raises(WiringError) as error:
        project_mlp(shuffler(), PATCHES)
    assert str(error.value) == (
        "project_mlp.projector: pixel_shuffle makes one token of every group of patches; use "
        "project_pixel_shuffle instead"
    )
    with pytest.raises(WiringError) as error:
        project_merger(shuffler(), PATCHES)
    assert str(error.value) == (
        "project_merger.projector: pixel_shuffle lays patches of a group side by side; use "
        "project_pixel_shuffle instead"
    )


def test_flops_are_those_that_torch_counts() -> None:
    """Two matrices, on as many vectors as tokens come out."""
    handle = shuffler()
    with counting() as tally:
        project_pixel_shuffle(handle, PATCHES)
    assert tally.flops == counted_by_torch(lambda: handle.load().module(torch.zeros(12, 4 * WIDTH))) > 0


def test_a_plan_knows_how_many_tokens_come_out() -> None:
    """Per tile, without [CLS]; what cannot be whole groups is refused before any weight is read."""
    foresee = project_pixel_shuffle.foresee
    assert foresee is not None
    known = KnownTokens(tiles=3, per_tile=17, cls_token=True, width=WIDTH, patches=(4, 4))
    out = foresee(shuffler(), known, ratio=None, version=None)
    assert out == replace(known, per_tile=4, cls_token=False, width=10, grid=False)
    with pytest.raises(WiringError) as error:
        foresee(shuffler(), replace(known, per_tile=14, cls_token=False), ratio=None, version=None)
    assert str(error.value) == (
        "project_pixel_shuffle.tokens: 14 tokens per tile are not whole groups of 2 x 2 patches; wire the "
        "tower's patches, and select after this node"
    )


# -- other methods' stages on InternVL2 --------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder: Path = tmp_path_factory.mktemp("internvl")
    write_internvl(folder)
    return load_model(checkpoint=str(folder), dtype="float32", device="cpu")


def encoded(model: Loaded) -> Patches:
    """Three tiles with what VisionZip reads."""
    with demand(Need("cls_attention"), Need("keys")):
        return encode_vision(model.vision, tiles(2, 1))


def test_visionzip_before_the_shuffle_is_refused(model: Loaded) -> None:
    """Kept and merged patches are no whole groups."""
    picked = select_dominant(encoded(model), keep=8)
    zipped = merge_contextual(picked.kept, picked.rest, targets=4)
    assert refused(model.projector, zipped) == (
        "project_pixel_shuffle.tokens: 36 tokens of 4 x 4 patches per tile are not whole groups of 2 x 2 "
        "patches; wire the tower's patches, and select after this node"
    )


def test_visionzip_after_the_shuffle(model: Loaded) -> None:
    """[CLS] attention and keys have come along as means, and the tokens go into the prompt."""
    visual = project_pixel_shuffle(model.projector, encoded(model))
    picked = select_dominant(visual, keep=2)
    zipped = merge_contextual(picked.kept, picked.rest, targets=1)
    assert isinstance(zipped, VisualTokens)
    assert len(zipped) == 9
    assert zipped.coverage().gt(0).all()
    prompt = render_chat(model.chat, question="what?", images=2)
    answer = generate(model.llm, place_tokens(model.llm, prompt, zipped), max_new_tokens=2).answer
    assert answer.visual_tokens == 9


def test_prunevid_and_fastv_inside_internlm2(model: Loaded) -> None:
    """Clusters of projected tokens, then pruning by the question's attention at layer 0 and at layer 1."""
    visual = cluster_spatial(project_pixel_shuffle(model.projector, encoded(model)), ratio=0.5, least=1)
    assert len(visual) == 6
    prompt = render_chat(model.chat, question="what?", images=2)
    placed = place_tokens(model.llm, prompt, visual)
    prunevid = prune_by_attention(prefill(model.llm, placed, through=0), ratio=0.5)
    fastv = prune_by_attention(
        prefill(model.llm, placed, until=1), ratio=0.5, rows="last", attention="post_rope_causal",
        heads="mean", over="mean", select="global",
    )  # fmt: skip
    for state in (prunevid, fastv):
        answer = generate(model.llm, state, max_new_tokens=2).answer
        assert (answer.visual_tokens, answer.kept_visual_tokens) == (6, 3)


def test_a_plan_knows_what_is_no_grid_any_more() -> None:
    """Chosen or merged tokens, however many there are."""
    foresee = project_pixel_shuffle.foresee
    assert foresee is not None
    with pytest.raises(WiringError) as error:
        foresee(shuffler(), KnownTokens(tiles=3, width=WIDTH, grid=False), ratio=None, version=None)
    assert str(error.value) == (
        "project_pixel_shuffle.tokens: tokens that were chosen, merged or put in another order before are "
        "not whole groups of 2 x 2 patches; wire the tower's patches, and select after this node"
    )
