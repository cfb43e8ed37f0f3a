"""PVC's nodes: provenance through copies and groups, the base underneath, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.pvc import OUT, clip, compressor, noise, pictures, plain_vit, tiny_compressor, tiny_pvc, vision
from tokenloom.nodes.encode import encode_vision
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.pvc import encode_pvc, project_pvc, repeat_frames
from tokenloom.nodes.select import select_dominant
from tokenloom.nodes.shuffle import project_pixel_shuffle
from tokenloom.runtime.context import demand
from tokenloom.runtime.errors import MediaError, WiringError
from tokenloom.runtime.foreseen import KnownTiles, KnownTokens
from tokenloom.runtime.models.handle import PvcFacts
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Kind, Tiles

TOWER, PLAIN = vision(tiny_pvc()), vision(plain_vit())
PROJECTOR = compressor(tiny_compressor())
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def test_every_copy_is_a_tile_of_its_own() -> None:
    """Patches of a copy stand for its own tile, in the box of the picture; nothing is lost or doubled."""
    patches = encode_pvc(TOWER, repeat_frames(pictures(2, 1), image_repeat_time=3))
    assert len(patches.source.tiles) == 9
    assert patches.member.equal(torch.arange(9 * 16))
    assert patches.frame.unique_consecutive().tolist() == [0, 1]
    assert bool((patches.coverage() == 1).all())


def test_a_group_stands_for_the_patches_of_its_copy() -> None:
    """Four 2 x 2 groups of every copy, in its own time."""
    patches = encode_pvc(TOWER, repeat_frames(pictures(1), image_repeat_time=2), features="cls_patch")
    visual = project_pvc(PROJECTOR, patches)
    assert visual.features.shape == (8, OUT)
    assert visual.kind.tolist() == [int(Kind.POOLED)] * 8
    assert visual.count.tolist() == [4] * 8
    assert visual.home.tolist() == [0] * 4 + [1] * 4
    assert visual.member[:4].tolist() == [0, 1, 4, 5]
    assert bool((visual.coverage() == 0.25).all())
    assert not torch.allclose(visual.features[:4], visual.features[4:], atol=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_modules_of_zeros_are_internvl2(ratio: float) -> None:
    """Zero-initialised modules: every copy is plain InternViT and pixel shuffle at that ratio."""
    tower, projector = vision(tiny_pvc(zero=True)), tiny_compressor(ratio=ratio, zero=True)
    tiles = pictures(2, 1)
    visual = project_pvc(compressor(projector), encode_pvc(tower, repeat_frames(tiles)))
    plain = Projector(projector.module.mlp1, replace(projector.facts, pvc=None))  # type: ignore[arg-type]
    want = project_pixel_shuffle(compressor(plain), encode_vision(PLAIN, tiles)).features
    per_tile = len(want) // 3
    torch.testing.assert_close(
        visual.features.reshape(3, 4, per_tile, OUT),
        want.reshape(3, 1, per_tile, OUT).expand(-1, 4, -1, -1),
        **CLOSE,
    )


def test_channels_of_the_attention_inside_tiles() -> None:
    """On demand, as encode_vision has them; stages of other methods can follow."""
    with demand(Need("cls_attention"), Need("keys", 2)):
        patches = encode_pvc(TOWER, repeat_frames(clip(3)), features="cls_patch")
    picked = select_dominant(patches, keep=5)
    assert len(picked.kept) == 15
    assert patches.side["keys@2"].shape == (3 * 17, 8)


def test_channels_below_the_temporal_layers_are_the_tower_s() -> None:
    """Sharing takes them along to every copy."""
    with demand(Need("keys", 2), Need("hidden", 1)):
        patches = encode_pvc(TOWER, repeat_frames(pictures(2), image_repeat_time=2))
        plain = encode_vision(PLAIN, pictures(2))
    for key in ("keys@2", "hidden@1"):
        want = plain.side[key].reshape(2, 1, 16, -1).expand(-1, 2, -1, -1).reshape(64, -1)
        torch.testing.assert_close(patches.side[key], want, **CLOSE)


def test_one_wire_through_a_tower_without_time() -> None:
    """encode_vision sees all copies, too."""
    patches = encode_vision(PLAIN, repeat_frames(pictures(1), image_repeat_time=2))
    torch.testing.assert_close(patches.features[:16], patches.features[16:])


def test_the_checkpoint_says_how_often() -> None:
    """Unless a widget does."""
    said = PvcFacts(layers=(3,), image_repeat=2, video_repeat=3, repeat_way="frame")
    tower = vision(tiny_pvc(said))
    assert repeat_frames(pictures(2), tower).shown == (0, 1, 0, 1)
    assert len(repeat_frames(clip(2), tower)) == 6
    assert repeat_frames(pictures(2), tower, image_repeat_time=1, tile_repeat_way="tile").shown == ()
    assert len(repeat_frames(pictures(2))) == 8


def test_the_compressor_without_time() -> None:
    """The option `adaln` leaves it out."""
    patches = encode_pvc(TOWER, repeat_frames(clip(2)))
    bare = project_pvc(PROJECTOR, patches, adaln=False)
    assert not torch.allclose(bare.features, project_pvc(PROJECTOR, patches).features, atol=1e-3)


def test_groups_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are projected at once, the result is the same."""
    patches = encode_pvc(TOWER, repeat_frames(clip(3)))
    want = project_pvc(PROJECTOR, patches).features
    monkeypatch.setattr("tokenloom.nodes.pvc.ROWS", 5)
    torch.testing.assert_close(project_pvc(PROJECTOR, patches).features, want, **CLOSE)


def test_what_a_plan_knows() -> None:
    """Frames where the flag says what they are; tokens of each; widths."""
    foresee = (repeat_frames.foresee, encode_pvc.foresee, project_pvc.foresee)
    assert all(foresee)
    repeat, encode, project = (f for f in foresee if f is not None)
    usual: dict[str, Any] = {name: widget.default for name, widget in repeat_frames.widgets.items()}
    assert repeat(KnownTiles(count=3), None, **usual | {"data_flag": "multi"}) == KnownTiles(count=12)
    assert repeat(KnownTiles(count=3), None, **usual | {"data_flag": "video"}) == KnownTiles(count=3)
    assert repeat(KnownTiles(count=3), None, **usual) is None
    cut = KnownTiles(count=3, pictures=(2, 1), clip=False)
    assert repeat(cut, None, **usual) == replace(cut, count=12, pictures=(8, 4))
    settings: dict[str, Any] = {name: widget.default for name, widget in encode_pvc.widgets.items()}
    known = encode(TOWER, KnownTiles(count=12), **settings)
    assert known == KnownTokens(
        tiles=12,
        per_tile=16,
        cls_token=False,
        cls_scores=True,
        width=24,
        patches=(4, 4),
        grid=True,
        complete=True,
    )
    options: dict[str, Any] = {name: widget.default for name, widget in project_pvc.widgets.items()}
    assert project(PROJECTOR, known, **options) == replace(known, per_tile=4, width=OUT, grid=False)


def test_tiles_that_nobody_planned() -> None:
    """Several at frame 0 of one sequence."""
    with pytest.raises(MediaError, match="put repeat_frames before the tower"):
        encode_pvc(TOWER, pictures(2))


def test_no_copies_at_all() -> None:
    """At least one."""
    with pytest.raises(WiringError) as error:
        repeat_frames(pictures(1), image_repeat_time=0)
    assert str(error.value) == "repeat_frames.image_repeat_time: 0 is below 1"


def test_encode_vision_refuses_temporal_modules() -> None:
    """They are not left out in silence."""
    with pytest.raises(WiringError) as error:
        encode_vision(TOWER, pictures(1))
    assert str(error.value) == (
        "encode_vision.vision: this tower attends between frames (PVC); use repeat_frames and encode_pvc "
        "instead"
    )


def test_encode_pvc_refuses_a_tower_without() -> None:
    """There is encode_vision for it."""
    with pytest.raises(WiringError, match=r"encode_pvc\.vision: this tower has no temporal modules"):
        encode_pvc(PLAIN, repeat_frames(pictures(1)))


def test_pixel_shuffle_refuses_a_modulated_projector() -> None:
    """Its time is not left out in silence."""
    patches = encode_pvc(TOWER, repeat_frames(pictures(1)))
    with pytest.raises(WiringError) as error:
        project_pixel_shuffle(PROJECTOR, patches)
    assert str(error.value) == (
        "project_pixel_shuffle.projector: this one is modulated by time (PVC); use project_pvc instead"
    )
    with pytest.raises(WiringError, match=r"every group of patches; use project_pvc instead$"):
        project_mlp(PROJECTOR, patches)


def test_project_pvc_refuses_other_projectors() -> None:
    """Those of InternVL2 have their own node, and others theirs."""
    patches = encode_pvc(TOWER, repeat_frames(pictures(1)))
    plain = tiny_compressor()
    with pytest.raises(WiringError) as error:
        project_pvc(compressor(Projector(plain.module, replace(plain.facts, pvc=None))), patches)
    assert str(error.value) == (
        "project_pvc.projector: this one (pixel_shuffle) is of no PVC checkpoint; use project_pixel_shuffle "
        "instead"
    )


def test_modulation_without_weights() -> None:
    """Of a checkpoint whose compressor has no AdaLN."""
    bare = compressor(tiny_compressor(PvcFacts(layers=(2, 3), compressor_adaln=False)))
    patches = encode_pvc(TOWER, repeat_frames(pictures(1)))
    assert len(project_pvc(bare, patches)) == 16
    with pytest.raises(WiringError) as error:
        project_pvc(bare, patches, adaln=True)
    assert str(error.value) == (
        "project_pvc.adaln: true, but the checkpoint has no weights for it; leave it out"
    )


def test_groups_that_are_not_whole() -> None:
    """Selection comes after."""
    patches = encode_pvc(TOWER, repeat_frames(pictures(1), image_repeat_time=1))
    with pytest.raises(WiringError, match=r"project_pvc\.tokens: 15 tokens .* not whole groups of 2 x 2"):
        project_pvc(PROJECTOR, patches.select(torch.arange(15)))


def test_tiles_of_another_size() -> None:
    """Are refused as encode_vision does."""
    small = Tiles(noise(1)[..., :8, :8], pictures(1).layout, ((8, 8),), (0.0,))
    with pytest.raises(MediaError, match="tiles of 8x8 for a tower of 16x16"):
        encode_pvc(TOWER, repeat_frames(small))
