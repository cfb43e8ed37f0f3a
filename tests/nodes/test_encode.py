"""encode_vision: tokens in order, channels on demand, chunks and batches, what a plan can refuse."""

from __future__ import annotations

import pytest
import torch

from tokenloom.nodes.encode import encode_vision
from tokenloom.runtime.context import Context, demand, use
from tokenloom.runtime.errors import NeedError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Kind, Patches

from ..towers import core_of, random_tiles, tiny_tower, vision_handle

CLIP, SIGLIP = vision_handle(tiny_tower()), vision_handle(tiny_tower("siglip"))
TILES = random_tiles(5)


def test_patches_tile_by_tile() -> None:
    """One token per patch, each standing for its own patch, at the checkpoint's layer."""
    patches = encode_vision(CLIP, TILES)
    assert patches.member.equal(torch.arange(5 * 16))
    assert patches.home.equal(torch.arange(5).repeat_interleave(16))
    assert patches.features.equal(CLIP.load().encode(TILES.pixels, layer=-2).hidden.flatten(0, 1))
    assert (patches.source.tiles, patches.source.rows, patches.source.cols) == (TILES.layout, 4, 4)


def test_cls_patch_starts_every_tile_with_cls() -> None:
    """[CLS] first, and standing for no patch."""
    patches = encode_vision(CLIP, TILES, features="cls_patch")
    assert (patches.kind == int(Kind.CLS)).nonzero()[:, 0].tolist() == [0, 17, 34, 51, 68]
    assert patches.coverage().eq(1).all()


def test_an_eager_call_offers_what_is_cheap() -> None:
    """Without a planner: keys, and [CLS] attention where there is one."""
    assert set(encode_vision(CLIP, TILES).side) == {"keys", "cls_attention"}
    assert set(encode_vision(SIGLIP, TILES).side) == {"keys"}


def test_exactly_what_is_wanted() -> None:
    """A demand replaces the default offer; channels of others are none of its business."""
    with demand(Need("hidden", 1), Need("received_attention"), Need("text_attention")):
        assert set(encode_vision(CLIP, TILES).side) == {"hidden@1", "received_attention"}
    with demand():
        assert set(encode_vision(CLIP, TILES).side) == set()


def same(a: Patches, b: Patches) -> None:
    """Equal up to the rounding of another batch size."""
    torch.testing.assert_close(a.features, b.features, atol=1e-5, rtol=1e-5)
    assert set(a.side) == set(b.side)
    for key in a.side:
        torch.testing.assert_close(a.side[key], b.side[key], atol=1e-5, rtol=1e-5)
    assert a.member.equal(b.member)
    assert a.source == b.source


def test_chunks_do_not_change_the_result() -> None:
    """`max_tiles` bounds memory only, and every chunk reports progress."""
    seen: list[tuple[int, int | None, str]] = []
    with use(Context(progress=lambda done, total, text: seen.append((done, total, text)))):
        chunked = encode_vision(CLIP, TILES, max_tiles=2)
    same(chunked, encode_vision(CLIP, TILES))
    assert seen == [(2, 5, "tiles"), (4, 5, "tiles"), (5, 5, "tiles")]


def test_many_items_in_one_pass() -> None:
    """Ragged items of the same tower run together, and come back as if alone and in order."""
    items = [random_tiles(n, seed=n) for n in (1, 3, 2)]
    runs: list[int] = []
    hook = core_of(CLIP.load()).embeddings.register_forward_hook(lambda m, i, o: runs.append(len(o)))
    joined = encode_vision.many([(CLIP, item) for item in items])
    hook.remove()
    assert runs == [6]
    for item, got in zip(items, joined, strict=True):
        same(got, encode_vision(CLIP, item))


def test_many_items_of_two_towers_and_sizes() -> None:
    """Items that cannot share a pass get one each."""
    calls = [
        (CLIP, random_tiles(2)),
        (SIGLIP, random_tiles(1)),
        (CLIP, random_tiles(1, height=20, width=24)),
        (CLIP, random_tiles(1, seed=3)),
    ]
    joined = encode_vision.many(calls, interpolate=True)
    for call, got in zip(calls, joined, strict=True):
        same(got, encode_vision(*call, interpolate=True))
    assert (joined[2].source.rows, joined[2].source.cols) == (5, 6)


def test_cls_patch_of_a_tower_without_cls() -> None:
    """SigLIP cannot give [CLS] features."""
    with pytest.raises(WiringError) as error:
        encode_vision(SIGLIP, TILES, features="cls_patch")
    assert str(error.value) == (
        "encode_vision.features: 'cls_patch', but SigLIP has no [CLS] token; set features: patch"
    )


DEFAULTS = {"layer": None, "features": "auto", "max_tiles": 32, "interpolate": False}


def test_foresight_knows_the_counts() -> None:
    """A plan knows tokens per tile and width from the handle alone."""
    assert encode_vision.foresee is not None
    assert encode_vision.foresee(CLIP, None, **DEFAULTS | {"features": "cls_patch"}) == KnownTokens(
        per_tile=17, cls_token=True, cls_scores=True, width=24, patches=(4, 4), grid=True, complete=True
    )
    assert encode_vision.foresee(SIGLIP, None, **DEFAULTS) == KnownTokens(
        per_tile=16, cls_token=False, cls_scores=False, width=24, patches=(4, 4), grid=True, complete=True
    )
    assert encode_vision.foresee(None, None, **DEFAULTS) is None


def test_foresight_refuses_needs_and_layers() -> None:
    """What the tower cannot do is an error before weights are read."""
    assert encode_vision.foresee is not None
    with demand(Need("cls_attention")), pytest.raises(NeedError) as error:
        encode_vision.foresee(SIGLIP, None, **DEFAULTS)
    assert str(error.value) == "encode_vision: SigLIP has no [CLS] token; set score: received"
    with pytest.raises(WiringError, match=r"^encode_vision.layer: layer 9 is outside -5..4$"):
        encode_vision.foresee(CLIP, None, **DEFAULTS | {"layer": 9})
