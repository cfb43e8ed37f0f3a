"""project_tokenpacker: windows and whom they stand for, scale factors, layers, plans, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom import Graph, nodes, run
from tokenloom.nodes import tokenpacker
from tokenloom.nodes.project import project_merger, project_mlp
from tokenloom.nodes.tokenpacker import project_tokenpacker
from tokenloom.runtime import cost
from tokenloom.runtime.context import counting
from tokenloom.runtime.errors import CheckpointError, NeedError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.models.handle import Model, ModelFacts, ProjectorFacts
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.plan import plan
from tokenloom.runtime.values import Kind, Patches, VisualTokens

from ..packers import LEVELS, OUTPUTS, levelled, tiny_packer, without
from ..same import differences
from ..towers import anyres_source, square_source, tiny_projector

PICTURE = Path(__file__).parents[2] / "examples" / "media" / "shapes.png"


def project(tokens: Patches, projector: Any = None, **widgets: Any) -> VisualTokens:
    return project_tokenpacker(projector or tiny_packer(), tokens, levels=LEVELS, **widgets)


def message(kind: type[Exception], tokens: Patches, projector: Any = None, **widgets: Any) -> str:
    with pytest.raises(kind) as error:
        project(tokens, projector, **widgets)
    return str(error.value)


def foreseen(tokens: KnownTokens | None, projector: Any = None, **widgets: Any) -> KnownTokens | None:
    """What a plan knows, with the usual widgets."""
    usual = {"scale_factor": None, "levels": LEVELS, "heads": None, "ragged": "refuse"}
    assert project_tokenpacker.foresee is not None
    known = project_tokenpacker.foresee(projector or tiny_packer(), tokens, **(usual | widgets))
    assert known is None or isinstance(known, KnownTokens)
    return known


@pytest.mark.parametrize(("scale", "rows", "cols"), [(1, 2, 2), (2, 4, 6), (3, 3, 6), (4, 8, 4), (6, 6, 6)])
def test_features_are_the_modules(scale: int, rows: int, cols: int) -> None:
    """Tile by tile, windows row by row; the layers in the order of `levels`."""
    handle = tiny_packer()
    patches = levelled(square_source(3, rows, cols))
    out = project(patches, handle, scale_factor=scale)
    assert isinstance(out, VisualTokens)
    hidden = torch.cat([patches.side[f"hidden@{level}"] for level in LEVELS], -1)
    grids = [x.view(3, rows, cols, -1) for x in (patches.features, hidden)]
    want = handle.load().module(*grids, scale=scale)
    torch.testing.assert_close(out.features, want.flatten(0, 1))
    swapped = project_tokenpacker(handle, patches, levels=LEVELS[::-1], scale_factor=scale)
    assert scale == 1 or not swapped.features.allclose(out.features)


def test_every_token_stands_for_its_window() -> None:
    """With equal shares, at home in its tile, side channels as their mean."""
    patches = levelled(square_source(2, 4, 6))
    out = project(patches)
    windows = [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
        [12, 13, 18, 19],
        [14, 15, 20, 21],
        [16, 17, 22, 23],
    ]
    want = [[p + 24 * tile for p in window] for tile in range(2) for window in windows]
    assert out.member.view(12, 4).tolist() == want
    assert out.share.eq(0.25).all()
    assert out.home.tolist() == [0] * 6 + [1] * 6
    assert out.kind.tolist() == [int(Kind.POOLED)] * 12
    scores = patches.side["cls_attention"][torch.tensor(want)].mean(1)
    torch.testing.assert_close(out.side["cls_attention"], scores)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))
def test_padded_windows_cover_every_patch_once(tiles: int, rows: int, cols: int, scale: int) -> None:
    """Partial ones stand for what they hold; the vectors are the module's."""
    handle, patches = tiny_packer(), levelled(square_source(tiles, rows, cols))
    out = project(patches, handle, scale_factor=scale, ragged="pad")
    assert len(out) == tiles * -(-rows // scale) * -(-cols // scale)
    assert out.member.sort().values.equal(torch.arange(len(patches)))
    torch.testing.assert_close(out.share, 1 / out.count[out.owner])
    hidden = torch.cat([patches.side[f"hidden@{level}"] for level in LEVELS], -1)
    grids = [x.view(tiles, rows, cols, -1) for x in (patches.features, hidden)]
    torch.testing.assert_close(out.features, handle.load().module(*grids, scale=scale).flatten(0, 1))


def test_whole_windows_may_be_missing_or_in_any_order() -> None:
    """Each gives what it gives among all, in reading order."""
    patches = levelled(square_source(2, 4, 4))
    everything = project(patches)
    chosen = torch.tensor(
        [31, 26, 30, 27, 0, 4, 5, 1]
    )  # the last window of the second tile, the first's first
    few = project(patches.select(chosen))
    torch.testing.assert_close(few.features, everything.features[[0, 7]])
    assert few.member.tolist() == everything.select(torch.tensor([0, 7])).member.tolist()
    torch.testing.assert_close(few.side["cls_attention"], everything.side["cls_attention"][[0, 7]])


def test_nothing_in_nothing_out() -> None:
    """No window at all."""
    out = project(levelled(square_source(2, 4, 4)).select(torch.tensor([], dtype=torch.long)))
    assert out.features.shape == (0, OUTPUTS)


@pytest.mark.parametrize("ragged", ["refuse", "pad"])
@pytest.mark.parametrize("rows", [1, 8, 20, 1000])
def test_how_many_run_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, rows: int, ragged: Any
) -> None:
    """Windows are independent."""
    patches = levelled(square_source(3, 4, 4 if ragged == "refuse" else 5))
    want = project(patches, ragged=ragged)
    monkeypatch.setattr(tokenpacker, "ROWS", rows)
    got = project(patches, ragged=ragged)
    torch.testing.assert_close(got.features, want.features)
    assert got.member.equal(want.member)


def test_tiles_of_a_sliced_picture() -> None:
    """A global view and a grid of crops: windows never cross tiles."""
    patches = levelled(anyres_source((2, 2), rows=4, cols=4))
    out = project(patches)
    assert out.home.tolist() == sorted([0, 1, 2, 3, 4] * 4)
    assert (out.member.view(-1, 4) // 16 == out.home[:, None]).all()


def test_settings_of_the_checkpoint_and_of_the_node() -> None:
    """Widgets stand before what the checkpoint says."""
    patches = levelled(square_source(1, 6, 6))
    three, eight = tiny_packer(scale_factor=3), tiny_packer(heads=8)
    assert project(patches, scale_factor=3).features.equal(project(patches, three).features)
    assert project(patches, heads=8).features.equal(project(patches, eight).features)
    assert not project(patches, heads=8).features.allclose(project(patches).features)


def test_flops_are_counted() -> None:
    """By the formula, of the patches and tokens that there were."""
    handle = tiny_packer()
    with counting() as tally:
        project(levelled(square_source(2, 4, 4)), handle)
    assert handle.facts.projector is not None
    assert tally.flops == cost.tokenpacker(handle.facts.projector, 32, 8, 4)


def test_a_scale_factor_that_does_not_divide() -> None:
    """What does is said, when run and when planned."""
    text = (
        "project_tokenpacker.scale_factor: 4 does not divide 6 x 12 patches; set one of 1, 2, 3, 6, or "
        "ragged: pad"
    )
    assert message(WiringError, levelled(square_source(1, 6, 12)), scale_factor=4) == text
    with pytest.raises(WiringError) as error:
        foreseen(KnownTokens(patches=(6, 12)), scale_factor=4)
    assert str(error.value) == text


def test_a_scale_factor_that_nobody_said() -> None:
    """Never guessed: no weight's shape hangs on it."""
    nobody = tiny_packer(scale_factor=None, scale_from="")
    text = (
        "project_tokenpacker.scale_factor: the checkpoint does not say it, and the weights fit any; set "
        "scale_factor to what it was trained with (2: 144 tokens, 3: 64, 4: 36)"
    )
    assert message(WiringError, levelled(square_source(1, 4, 4)), nobody) == text
    with pytest.raises(WiringError) as error:
        foreseen(None, nobody)
    assert str(error.value) == text


def test_tokens_that_are_no_whole_windows() -> None:
    """Selected and merged ones."""
    text = (
        "project_tokenpacker.tokens: {n} tokens of 1 tiles of 4 x 4 patches are not whole windows of 2 x 2; "
        "wire the tower's patches, and select after this node"
    )
    patches = levelled(square_source(1, 4, 4))
    assert message(WiringError, patches.select(torch.arange(7))) == text.format(n=7)
    assert message(WiringError, patches.merge(torch.arange(16) // 2)) == text.format(n=8)
    twice = patches.select(torch.tensor([0, 1, 4, 5, 5]))
    assert message(WiringError, twice) == text.format(n=5)


def test_a_selection_that_cannot_be_whole_windows_is_refused_before_work() -> None:
    """54 tokens of a tile are no multiple of four; with `pad` a window may be smaller."""
    few = KnownTokens(per_tile=54, patches=(24, 24))
    with pytest.raises(WiringError) as error:
        foreseen(few)
    assert str(error.value) == (
        "project_tokenpacker.tokens: 54 tokens of each tile of 24 x 24 patches are not whole windows of "
        "2 x 2; wire the tower's patches, and select after this node"
    )
    known = foreseen(few, ragged="pad")
    assert known is not None
    assert known.per_tile is None


def test_cls_among_the_patches() -> None:
    """When run and when planned."""
    text = (
        "project_tokenpacker.tokens: [CLS] tokens among the patches, but they have no place in a window; set "
        "features: patch on encode_vision"
    )
    assert message(WiringError, levelled(square_source(1, 4, 4), cls_token=True)) == text
    with pytest.raises(WiringError) as error:
        foreseen(KnownTokens(cls_token=True))
    assert str(error.value) == text


def test_layers_and_heads_that_do_not_go_with_the_weights() -> None:
    """Too many layers, and heads that do not divide the width."""
    patches = levelled(square_source(1, 4, 4))
    with pytest.raises(WiringError) as error:
        project_tokenpacker(tiny_packer(), patches, levels=(12, 16, 22, 23))
    assert str(error.value) == (
        "project_tokenpacker.levels: 4 layers (12, 16, 22, 23); the projector's weights read 2"
    )
    assert message(CheckpointError, patches, heads=3) == (
        "project_tokenpacker.heads: 3 heads of a width of 16; wanted one of 1, 2, 4, 8, 16"
    )


def test_other_widths() -> None:
    """The tower of another checkpoint, when run and when planned."""
    text = (
        "project_tokenpacker.tokens: vectors of width 5, the projector takes 16; wire the tower and the "
        "projector of the same checkpoint"
    )
    patches = levelled(square_source(1, 4, 4))
    assert message(WiringError, patches.with_features(torch.zeros(16, 5))) == text
    with pytest.raises(WiringError) as error:
        foreseen(KnownTokens(width=5))
    assert str(error.value) == text


def test_a_layer_that_nobody_kept() -> None:
    """An eager call is told how to ask for it."""
    patches = without(levelled(square_source(1, 4, 4)), "hidden@2")
    assert message(NeedError, patches) == (
        "project_tokenpacker: the tokens carry no hidden@2 (side channels: cls_attention, hidden@1); a graph "
        'asks for it by itself, in an eager call encode inside `with demand(Need("hidden", layer=2))`'
    )


def test_projectors_of_other_kinds() -> None:
    """Each node names the one that takes them."""
    patches = levelled(square_source(1, 4, 4))
    assert message(WiringError, patches, tiny_projector(inputs=16)) == (
        "project_tokenpacker.projector: mlp2x_gelu is no TokenPacker; use project_mlp instead"
    )
    assert message(WiringError, patches, tiny_projector("merger2x2", inputs=16)) == (
        "project_tokenpacker.projector: merger2x2 is no TokenPacker; use project_merger instead"
    )
    with pytest.raises(WiringError) as error:
        project_mlp(tiny_packer(), patches)
    assert str(error.value) == (
        "project_mlp.projector: tokenpacker makes one token of every window of patches; use "
        "project_tokenpacker instead"
    )
    with pytest.raises(WiringError) as error:
        project_merger(tiny_packer(), patches)
    assert str(error.value) == (
        "project_merger.projector: tokenpacker attends to windows of patches; use project_tokenpacker instead"
    )


def test_what_a_plan_knows() -> None:
    """Tokens per tile, their width; not how many of tokens that were selected before."""
    whole = KnownTokens(tiles=3, per_tile=24, patches=(4, 6), width=16)
    known = foreseen(whole)
    assert known is not None
    assert (known.total, known.width, known.notes) == (18, OUTPUTS, ())
    padded = foreseen(whole, scale_factor=5, ragged="pad")
    assert padded is not None
    assert padded.per_tile == 2
    few = foreseen(KnownTokens(per_tile=8, patches=(4, 6)))
    assert few is not None
    assert few.per_tile is None


def test_a_plan_says_where_the_scale_factor_is_from() -> None:
    """The checkpoint's own, and one that stands before it."""
    told = ("scale_factor 2, from scale_factor of config.json; no weight can confirm it",)
    assert tiny_packer().notes == told
    assert tiny_packer(scale_factor=None).notes == (
        "scale_factor is not known: config.json does not say it, and no weight can tell",
    )
    known = foreseen(KnownTokens(), scale_factor=4)
    assert known is not None
    assert known.notes == ("scale_factor 4, as set here, where the checkpoint has 2",)
    alone = foreseen(KnownTokens(), tiny_packer(scale_factor=None), scale_factor=4)
    assert alone is not None
    assert alone.notes == ("scale_factor 4, as set here",)


def built(**widgets: Any) -> Graph:
    """The bundled checkpoint up to its visual tokens."""
    with Graph() as graph:
        model = nodes.load_model(checkpoint="tiny-random-tokenpacker")
        frames = nodes.load_image(path=PICTURE)
        patches = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        graph.output(visual=nodes.project_tokenpacker(model.projector, patches, **widgets))
    return graph


def test_the_tower_gives_the_layers_that_are_asked_for() -> None:
    """The four of the released code unless told otherwise; the same tokens either way."""
    made = plan(built())
    assert [need.key for need in made.by_id["encode_vision"].wanted] == ["hidden/own"]
    assert made.notes == (
        "load_model: scale_factor 2, from scale_factor of config.json; no weight can confirm it",
        "project_tokenpacker: levels 12, 16, 22, 23: the layers that the projector reads",
    )
    told = plan(built(levels=(12, 16, 22, 23)))
    assert sorted(need.key for need in told.by_id["encode_vision"].wanted) == [
        "hidden@12", "hidden@16", "hidden@22", "hidden@23",
    ]  # fmt: skip
    both = [run(graph, cache=False)["visual"] for graph in (built(), built(levels=(12, 16, 22, 23)))]
    assert list(differences(*both)) == []


def test_layers_that_nobody_knows() -> None:
    """A projector without a tower is asked for them; so is one of two layers."""
    patches = levelled(square_source(1, 4, 4))
    with pytest.raises(WiringError) as error:
        project_tokenpacker(tiny_packer(), patches)
    assert str(error.value) == (
        "project_tokenpacker.levels: the checkpoint does not say which 2 layers of the tower its projector "
        "reads, and the released 12, 16, 22, 23 do not fit; set levels to those that it was trained with"
    )
    own = project_tokenpacker(tiny_packer(layers=LEVELS), patches)
    assert own.features.equal(project_tokenpacker(tiny_packer(), patches, levels=LEVELS).features)
    with Graph() as graph:
        model = nodes.load_model(checkpoint="tiny-random")
        frames = nodes.load_image(path=PICTURE)
        seen = nodes.encode_vision(model.vision, nodes.preprocess(model.chat, frames))
        graph.output(visual=nodes.project_tokenpacker(model.projector, seen))
    with pytest.raises(NeedError) as need:
        plan(graph)
    assert str(need.value) == (
        "encode_vision: a node after it wants the layers that a TokenPacker reads, but tiny-random has "
        "another projector; use the node for that one, or set levels there"
    )


def test_layers_deeper_than_the_tower() -> None:
    """Said while planning, with what there is."""
    with pytest.raises(NeedError) as error:
        plan(built(levels=(12, 16, 22, 25)))
    assert str(error.value) == (
        "encode_vision: a node after it wants hidden@25, but the tower has 24 layers; set that node's layers "
        "within -25..24"
    )


def test_facts_of_a_projector_that_is_not_read_yet() -> None:
    """A plan needs no weights: a handle's facts are enough, and nothing is known without them."""
    facts = ProjectorFacts(kind="tokenpacker", inputs=16, outputs=8, levels=2, scale_factor=2)
    handle: Model[Projector] = Model(
        kind=Projector, loader="none", folder="", fingerprint="", dtype="float32", device="cpu",
        facts=ModelFacts(name="none", projector=facts),
    )  # fmt: skip
    known = foreseen(KnownTokens(per_tile=16, patches=(4, 4)), handle)
    assert known is not None
    assert known.per_tile == 4
    assert foreseen(None, handle) is None


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """The projector's device is where the tokens come out."""
    patches = levelled(square_source(2, 5, 6))
    want = project(patches, ragged="pad")
    for tokens in (patches, patches.to("cuda")):
        got = project(tokens, tiny_packer("cuda"), ragged="pad")
        assert got.device.type == "cuda"
        torch.testing.assert_close(got.features.cpu(), want.features, rtol=1e-3, atol=1e-4)
        assert got.member.cpu().equal(want.member)


def test_a_plan_knows_what_is_no_grid_any_more() -> None:
    """Chosen or merged tokens, however many there are, with `pad` too."""
    for ragged in ("refuse", "pad"):
        with pytest.raises(WiringError) as error:
            foreseen(KnownTokens(patches=(24, 24), grid=False), ragged=ragged)
        assert str(error.value) == (
            "project_tokenpacker.tokens: tokens that were chosen, merged or put in another order before of "
            "24 x 24 patches are not whole windows of 2 x 2; wire the tower's patches, and select after this "
            "node"
        )
