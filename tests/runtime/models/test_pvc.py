"""PVC's modules on plain tensors: times, AdaLN, attention over frames, the compressor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.pvc import tiny_compressor
from tokenloom.runtime.errors import MediaError, WiringError
from tokenloom.runtime.models.pvc import (
    Compressor,
    Past,
    Sequences,
    TemporalAttention,
    TemporalLayer,
    modulated,
    sinusoid,
    time_value,
)
from tokenloom.runtime.values import Tile


def tiles(*frames: tuple[int, int], length: int = 0) -> list[Tile]:
    """Tiles at (sequence, frame number)."""
    return [Tile(frame=0, box=(0, 0, 1, 1), sequence=s, time=t, length=length) for s, t in frames]


def test_times_of_the_three_rules() -> None:
    """Frame 2 of 5."""
    assert time_value("x", "fraction", 2, 5) == 0.4
    assert time_value("x", "fraction_inclusive", 2, 5) == 0.5
    assert time_value("x", "index", 2, None, 10.0) == 20.0
    assert time_value("x", "fraction_inclusive", 0, 1) == 0.0


def test_a_fraction_needs_the_length() -> None:
    """Of a clip that is still arriving."""
    with pytest.raises(WiringError) as error:
        time_value("PvcStream", "fraction", 0, None)
    assert str(error.value) == (
        "PvcStream.time: fraction needs to know how many frames the clip has, and they are still arriving; "
        "set time: index, or say the length"
    )


def test_the_sinusoid_has_cosines_first() -> None:
    """At frequencies from 1 to nearly 1 / 10000."""
    row = sinusoid(torch.tensor([3.0]), 8)[0]
    speed = [10000 ** (-m / 4) for m in range(4)]
    want = [math.cos(3 * s) for s in speed] + [math.sin(3 * s) for s in speed]
    assert row.tolist() == pytest.approx(want, abs=1e-6)


def test_modulation_shifts_and_scales() -> None:
    """(shift, scale) in this order, from SiLU of the embedding; scale counts from 1."""
    adaln = nn.Linear(2, 4).requires_grad_(False)
    embedding = torch.tensor([[0.5, -1.0]])
    shift, scale = adaln(nn.functional.silu(embedding)).chunk(2, -1)
    x = torch.randn(1, 3, 2)
    torch.testing.assert_close(
        modulated(x.clone(), adaln, embedding), x * (1 + scale[:, None]) + shift[:, None]
    )
    assert modulated(x, adaln, None) is x


def test_a_frame_alone_reads_its_own_values() -> None:
    """Attention over one frame is the value projection."""
    torch.manual_seed(0)
    attention = TemporalAttention(12, 3).requires_grad_(False)
    x = torch.randn(5, 1, 12)
    value = attention.qkv(x).chunk(3, -1)[2]
    torch.testing.assert_close(attention(x), attention.proj(value))


def test_frames_see_no_later_frames() -> None:
    """Whatever comes later, a place reads the same."""
    torch.manual_seed(0)
    attention = TemporalAttention(12, 3).requires_grad_(False)
    x = torch.randn(5, 6, 12)
    torch.testing.assert_close(attention(x)[:, :4], attention(x[:, :4]))


@pytest.mark.parametrize("length", [None, 7])
def test_keys_and_values_of_the_past_stand_for_its_frames(length: int | None) -> None:
    """Some frames after others, in uneven parts: the same as all at once."""
    torch.manual_seed(0)
    attention, past = TemporalAttention(12, 3).requires_grad_(False), Past(length)
    x = torch.randn(5, 7, 12)
    parts = [attention(part, past) for part in torch.split(x, [1, 2, 4], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), attention(x))


def test_the_past_grows() -> None:
    """Beyond the room that it began with."""
    torch.manual_seed(0)
    attention, past = TemporalAttention(6, 1).requires_grad_(False), Past()
    x = torch.randn(2, 40, 6)
    parts = [attention(part, past) for part in torch.split(x, 1, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), attention(x))


def test_the_temporal_norm_has_no_affine_part() -> None:
    """Without AdaLN it is the bare norm, and the result is added times the layer scale."""
    torch.manual_seed(0)
    layer = TemporalLayer(6, 1, 1e-6, ()).requires_grad_(False)
    nn.init.normal_(layer.temporal_ls)
    x = torch.randn(2, 3, 4, 6)
    normed = nn.functional.layer_norm(x, (6,), eps=1e-6).transpose(1, 2).flatten(0, 1)
    out = layer.temporal_attn(normed).reshape(2, 4, 3, 6).transpose(1, 2)
    torch.testing.assert_close(layer(x, torch.randn(2, 3, 6)), x + layer.temporal_ls * out)


def test_sequences_of_one_length_run_together() -> None:
    """Rows of each length, and the time of every tile in its own sequence."""
    found = Sequences.of("x", tiles((0, 0), (1, 0), (1, 1), (2, 0), (0, 1), (2, 1), (3, 0)), "fraction", 1.0)
    assert found.rows == ((0, 4), (1, 2), (3, 5), (6,))
    assert [index.tolist() for index in found.by_length()] == [[[0, 4], [1, 2], [3, 5]], [[6]]]
    assert found.time.tolist() == [0, 0, 0.5, 0, 0.5, 0.5, 0]


def test_tiles_without_a_plan() -> None:
    """All at frame 0 of one sequence, as preprocessing leaves them."""
    with pytest.raises(MediaError) as error:
        Sequences.of("encode_pvc.tiles", tiles((0, 0), (0, 0)), "index", 1.0)
    assert str(error.value) == (
        "encode_pvc.tiles: the tiles of sequence 0 are frames 0, 0, wanted 0 to 1 in order; put "
        "repeat_frames before the tower"
    )


def test_frames_that_got_lost() -> None:
    """A sequence is whole, or said to be a part."""
    with pytest.raises(MediaError) as error:
        Sequences.of("encode_pvc.tiles", tiles((0, 0), (0, 1), length=3), "index", 1.0)
    assert str(error.value) == "encode_pvc.tiles: the tiles of sequence 0 are frames 0, 1, but it has 3"
    part = Sequences.of("x", tiles((0, 1), (0, 2), length=4), "fraction", 1.0, part=True)
    assert part.time.tolist() == [0.25, 0.5]


def test_a_part_of_a_clip_of_unknown_length() -> None:
    """Has times by index only."""
    assert Sequences.of("x", tiles((0, 4), (0, 5)), "index", 1.0, part=True).time.tolist() == [4, 5]
    with pytest.raises(WiringError, match="how many frames the clip has"):
        Sequences.of("x", tiles((0, 4), (0, 5)), "fraction", 1.0, part=True)


def test_the_compressor_is_modulated_row_by_row() -> None:
    """Rows of different times in one call are as in calls of their own."""
    module = tiny_compressor().module
    assert isinstance(module, Compressor)
    x, time = torch.randn(4, 96), torch.tensor([0.0, 0.5, 0.0, 0.25])
    alone = [module(x[i : i + 1], time[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(module(x, time), torch.cat(alone))
    assert not torch.allclose(module(x, time), module(x))
