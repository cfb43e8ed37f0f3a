"""PVC's tower: what must hold whatever its unknowns turn out to be, sharing and chunks, options, its cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.pvc import DEPTH, clip, noise, pictures, plain_vit, tiny_pvc
from tokenloom.runtime import cost
from tokenloom.runtime.context import counting
from tokenloom.runtime.errors import MediaError, WiringError
from tokenloom.runtime.models.handle import PvcFacts
from tokenloom.runtime.models.pvc import Sequences
from tokenloom.runtime.models.tower import TowerOutput
from tokenloom.runtime.models.tower_pvc import Progressive, PvcTower
from tokenloom.runtime.needs import Need
from tokenloom.runtime.repeats import Repeating, repeated
from tokenloom.runtime.values import Tiles

EVERYWHERE = PvcFacts(layers=(1, 2, 3), adaln_on=("attn", "temporal", "ffn"), time="index")
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
NEEDS = (Need("keys"), Need("cls_attention", 1), Need("received_attention", 3), Need("hidden", 2))


def encoded(
    tower: PvcTower, tiles: Tiles, *, layer: int = -1, options: dict[str, Any] | None = None, **more: Any
) -> TowerOutput:
    """All frames of the tiles, [CLS] included."""
    how = Progressive.of("encode_pvc", tower.facts, **(options or {}))
    sequences = Sequences.of("encode_pvc", tiles.layout, how.time, how.time_scale)
    more = {"cls_token": True, "shown": tiles.shown, **more}
    return tower.encode_frames(tiles.pixels, sequences, how, layer=layer, **more)


def states(tower: PvcTower, tiles: Tiles, **more: Any) -> Tensor:
    """[K, N, D]."""
    return encoded(tower, tiles, **more).hidden


@pytest.mark.parametrize("pvc", [PvcFacts(layers=(2, 3)), EVERYWHERE], ids=["temporal", "everywhere"])
@settings(max_examples=15, deadline=None)
@given(
    way=st.sampled_from(["tile", "frame"]),
    chunk=st.integers(1, 5),
    layer=st.integers(0, DEPTH),
    media=st.sampled_from([(-1, -1), (-1, 0, 0, 0, -1), (0, 0, 1)]),
)
def test_copies_share_the_layers_that_are_the_same(
    pvc: PvcFacts, way: Any, chunk: int, layer: int, media: tuple[int, ...]
) -> None:
    """Hidden states and channels as if each copy ran alone, for any chunk, layer, order and mixture."""
    tower, tiles = tiny_pvc(pvc), pictures(*[1] * len(media))
    frames = repeated(
        Tiles(tiles.pixels, tiles.layout, tiles.sizes, tiles.seconds, clips=media), Repeating(way=way)
    )
    wanted = [n for n in NEEDS if layer or n.layer is not None]
    naive = encoded(tower, frames, layer=layer, wanted=wanted, share=False)
    shared = encoded(tower, frames, layer=layer, wanted=wanted, chunk=chunk)
    torch.testing.assert_close(shared.hidden, naive.hidden, **CLOSE)
    assert shared.side.keys() == naive.side.keys() == {need.key for need in wanted}
    for key, value in naive.side.items():
        torch.testing.assert_close(shared.side[key], value, **CLOSE)


@pytest.mark.parametrize("pvc", [PvcFacts(layers=(2, 3)), EVERYWHERE], ids=["temporal", "everywhere"])
def test_later_frames_change_nothing(pvc: PvcFacts) -> None:
    """Causality: only frames from the one that differs on."""
    tower, tiles = tiny_pvc(pvc), repeated(clip(6), Repeating())
    pixels = tiles.pixels.clone()
    pixels[4:] = noise(2, seed=9)
    other = Tiles(pixels, tiles.layout, tiles.sizes, tiles.seconds)
    before, after = states(tower, tiles), states(tower, other)
    torch.testing.assert_close(after[:4], before[:4])
    assert not torch.allclose(after[4:], before[4:], atol=1e-2)


def test_earlier_frames_change_later_ones() -> None:
    """At every place, [CLS] too."""
    tower, tiles = tiny_pvc(), repeated(clip(4), Repeating())
    pixels = tiles.pixels.clone()
    pixels[0] = noise(1, seed=9)[0]
    changed = (
        states(tower, Tiles(pixels, tiles.layout, tiles.sizes, tiles.seconds)) - states(tower, tiles)
    ).abs()
    assert bool((changed.amax(-1) > 1e-4).all())


@pytest.mark.parametrize(
    ("time", "same"), [("index", True), ("fraction", False), ("fraction_inclusive", False)]
)
def test_the_first_frames_alone(time: str, same: bool) -> None:
    """The prefix property: only with the time `index`, for a fraction depends on the clip's length."""
    tower, tiles = tiny_pvc(), clip(6)
    whole = states(tower, repeated(tiles, Repeating()), options={"time": time})[:4]
    first = Tiles(tiles.pixels[:4], tiles.layout[:4], tiles.sizes, tiles.seconds, clips=tiles.clips)
    alone = states(tower, repeated(first, Repeating()), options={"time": time})
    assert torch.allclose(alone, whole, **CLOSE) is same


def test_sequences_do_not_know_of_each_other() -> None:
    """A picture and a clip together are what they are alone."""
    tower, tiles = tiny_pvc(), pictures(1, 1, 1, 1)
    both = repeated(
        Tiles(tiles.pixels, tiles.layout, tiles.sizes, tiles.seconds, clips=(-1, 0, 0, 0)), Repeating()
    )
    out = states(tower, both, chunk=3)
    picture = Tiles(tiles.pixels[:1], tiles.layout[:1], tiles.sizes, tiles.seconds)
    video = Tiles(tiles.pixels[1:], tiles.layout[1:], tiles.sizes, tiles.seconds)
    torch.testing.assert_close(out[:4], states(tower, repeated(picture, Repeating(flag="multi"))), **CLOSE)
    torch.testing.assert_close(out[4:], states(tower, repeated(video, Repeating(flag="video"))), **CLOSE)


def test_modules_of_zeros_are_the_tower_underneath() -> None:
    """Zero-initialised modulation and projections: plain InternViT, and all copies equal."""
    frames = repeated(pictures(2), Repeating(image=3))
    out = states(tiny_pvc(zero=True), frames)
    plain = plain_vit().encode(frames.pixels, layer=-1, cls_token=True).hidden
    torch.testing.assert_close(out, plain.repeat_interleave(3, 0), **CLOSE)


def test_without_temporal_layers_it_is_the_tower_underneath() -> None:
    """The option `temporal_layers` leaves them out, the first ones first."""
    tower, frames = tiny_pvc(), repeated(clip(3), Repeating())
    plain = plain_vit().encode(frames.pixels, layer=-1, cls_token=True).hidden
    torch.testing.assert_close(states(tower, frames, options={"temporal_layers": 0}), plain, **CLOSE)
    assert Progressive.of("x", tower.facts, temporal_layers=1).layers == (3,)


def test_a_frame_alone_reads_its_own_values() -> None:
    """The last layer of a clip of one frame: attention, the value projection, the MLP."""
    tower, [number] = tiny_pvc(PvcFacts(layers=(3,))), (3,)
    frames = repeated(clip(1), Repeating())
    layer = tower.temporal.layer(number)
    hidden = tower.attend(number, states(tower, frames, layer=3))
    normed = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)
    normed = layer.modulate("temporal", normed, tower.temporal.embed(torch.zeros(1)))
    value = layer.temporal_attn.qkv(normed).chunk(3, -1)[2]
    hidden = hidden + layer.temporal_ls * layer.temporal_attn.proj(value)
    torch.testing.assert_close(states(tower, frames), tower.feed(number, hidden), **CLOSE)


def test_time_and_its_scale_count() -> None:
    """Each rule and scale gives other states."""
    tower, frames = tiny_pvc(), repeated(clip(4), Repeating())
    ways = [
        {"time": "fraction"},
        {"time": "fraction_inclusive"},
        {"time": "index"},
        {"time_scale": 7.0},
        {"adaln_on": ()},
    ]
    out = [states(tower, frames, options=way) for way in ways]
    assert all(not torch.allclose(a, b, atol=1e-4) for i, a in enumerate(out) for b in out[:i])


def test_sharing_runs_fewer_layers() -> None:
    """Four copies, temporal attention in the last half: layers run 2 * 1 + 2 * 4 times instead of 4 * 4."""
    tower, tiles = tiny_pvc(), pictures(3)
    frames = repeated(tiles, Repeating())
    naive, shared = (_flops(tower, frames, share) for share in (False, True))
    places, copies = 17, len(frames)
    per_layer = cost.tower_layer(tower.facts, places, places**2)
    attention = cost.tower_attention(tower.facts, places, places**2)
    saved = 9 * (2 * per_layer + attention + cost.patch_embedding(tower.facts, 16))
    assert naive - shared == saved
    temporal = 2 * cost.tower_attention(tower.facts, copies * places, 3 * places * 10)
    assert naive == cost.tower(tower.facts, copies, 16, DEPTH, extra=1) + temporal


def _flops(tower: PvcTower, frames: Tiles, share: bool) -> int:
    with counting() as tally:
        states(tower, frames, share=share)
    assert tally.flops is not None
    return tally.flops


def test_later_layers_do_not_run() -> None:
    """The tower stops at the last layer that anyone needs."""
    tower = tiny_pvc()
    with counting() as tally:
        states(tower, repeated(clip(2), Repeating()), layer=2)
    assert tally.flops == cost.tower(tower.facts, 2, 16, 2, extra=1)


def test_tiles_of_another_size() -> None:
    """Positions are fitted only if asked for."""
    tower = tiny_pvc()
    small = Tiles(torch.randn(1, 3, 8, 8), clip(1).layout, ((8, 8),), (0.0,))
    with pytest.raises(MediaError, match="tiles of 8x8 for a tower of 16x16"):
        states(tower, small)
    assert states(tower, small, interpolate=True).shape == (1, 5, 24)


@pytest.mark.gpu
@pytest.mark.parametrize("share", [True, False])
def test_on_a_gpu(share: bool) -> None:
    """The same as on the CPU, for pictures and a clip together."""
    tiles = pictures(1, 1, 1, 1)
    mixed = Tiles(tiles.pixels, tiles.layout, tiles.sizes, tiles.seconds, clips=(-1, 0, 0, 0))
    frames, there = repeated(mixed, Repeating()), tiny_pvc(EVERYWHERE)
    there.module.to("cuda")
    out = states(there, frames, share=share, chunk=3)
    assert out.device.type == "cuda"
    torch.testing.assert_close(out.cpu(), states(tiny_pvc(EVERYWHERE), frames), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"temporal_layers": 3},
            "encode_pvc.temporal_layers: 3, but the checkpoint has weights for 2; set 2 or less",
        ),
        (
            {"adaln_on": ("ffn",)},
            "encode_pvc.adaln_on: the checkpoint has no AdaLN on 'ffn'; it has temporal",
        ),
        (
            {"adaln_on": ("mlp",)},
            "encode_pvc.adaln_on: the checkpoint has no AdaLN on 'mlp' (known: attn, temporal, ffn); it has "
            "temporal",
        ),
    ],
)
def test_options_without_weights(options: dict[str, Any], message: str) -> None:
    """Refused before anything runs."""
    with pytest.raises(WiringError) as error:
        Progressive.of("encode_pvc", tiny_pvc().facts, **options)
    assert str(error.value) == message


def test_a_tower_without_temporal_modules() -> None:
    """Is none of PVC's."""
    with pytest.raises(WiringError) as error:
        Progressive.of("encode_pvc", plain_vit().facts)
    assert str(error.value) == (
        "encode_pvc.vision: this tower has no temporal modules; wire that of a PVC checkpoint, or use "
        "encode_vision"
    )
