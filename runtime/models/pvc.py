"""PVC's modules, as proposed: the released modelling code could not be read (specs/pvc.md, section 5).

A time embedding, AdaLN by it, attention over the frames of a sequence place by place, and a compressor whose
LayerNorm is modulated. All of it is options and a name map (pvc.yaml), so that the truth can be written there
once somebody holds the checkpoint.
"""

# K = tiles, S = sequences, T = frames of each, N = places of a frame ([CLS] included), D = width,
# h = heads, d = D / h, P = S * N

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from ..errors import MediaError, WiringError
from ..values import Tile
from .handle import PvcFacts

Rule = Literal["fraction", "fraction_inclusive", "index"]
Place = Literal["attn", "temporal", "ffn"]
RULES: tuple[Rule, ...] = get_args(Rule)
PLACES: tuple[Place, ...] = get_args(Place)
PERIOD = 10000.0  # of the slowest sinusoid, in units of 2 pi
ROOM = 16  # frames by which the keys and values of a clip of unknown length grow at first


# -- time --------------------------------------------------------------------------------------------------


def time_value(where: str, rule: Rule, index: int, length: int | None, scale: float = 1.0) -> float:
    """When frame `index` of a sequence of `length` frames is; a WiringError when the rule needs the length.

    `fraction`: index / length; `fraction_inclusive`: index / (length - 1); `index`: the number itself.
    """
    if rule == "index":
        return index * scale
    if length is None:
        raise WiringError(
            f"{where}.time: {rule} needs to know how many frames the clip has, and they are still arriving; "
            "set time: index, or say the length"
        )
    return index / (length if rule == "fraction" else max(length - 1, 1)) * scale


def sinusoid(time_K: Tensor, width: int) -> Tensor:
    """[K, width] float32: cosines, then sines, of time at width / 2 frequencies from 1 down to 1 / 10000."""
    half = width // 2
    speed = torch.exp(-math.log(PERIOD) * torch.arange(half, device=time_K.device) / half)
    angle = time_K.float()[:, None] * speed
    return torch.cat([angle.cos(), angle.sin()], 1)


class TimeEmbedding(nn.Module):
    """From times [K] to [K, width]: a sinusoid of `inputs` numbers through Linear, SiLU, Linear."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.mlp = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time_K: Tensor) -> Tensor:
        """[K, width] in the dtype of the weights."""
        first = next(self.mlp.parameters())
        out: Tensor = self.mlp(sinusoid(time_K.to(first.device), self.inputs).to(first.dtype))
        return out


def modulated(normed: Tensor, adaln: nn.Linear, embedding: Tensor | None) -> Tensor:
    """normed * (1 + scale) + shift, with (shift, scale) = Linear(SiLU(embedding)), or `normed` without one.

    normed: [..., N, D], written into. embedding: [..., D], the same for all places of a frame.
    """
    if embedding is None:
        return normed
    shift, scale = adaln(silu(embedding)).unsqueeze(-2).chunk(2, -1)
    return normed.mul_(1 + scale).add_(shift)


# -- between the frames ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sequences:
    """Which tiles are the frames of which sequence, in order, and the time of every tile, [K] float32."""

    rows: tuple[tuple[int, ...], ...]
    time: Tensor

    @classmethod
    def of(
        cls, where: str, tiles: Sequence[Tile], rule: Rule, scale: float, *, part: bool = False
    ) -> Sequences:
        """Those that the tiles say. Errors: MediaError unless each has its frames 0, 1, 2, ... in order.

        part: the tiles may be some frames in a row of longer sequences (`Tile.length`).
        """
        found: dict[int, list[int]] = {}
        for row, tile in enumerate(tiles):
            found.setdefault(tile.sequence, []).append(row)
        time = torch.zeros(len(tiles))
        for sequence, rows in found.items():
            came, said = [tiles[row].time for row in rows], tiles[rows[0]].length
            first = came[0] if part else 0
            if came != list(range(first, first + len(rows))):
                raise MediaError(
                    f"{where}: the tiles of sequence {sequence} are frames {_few(came)}, wanted {first} to "
                    f"{first + len(rows) - 1} in order; put repeat_frames before the tower"
                )
            if said and (came[-1] >= said or (len(rows) != said and not part)):
                raise MediaError(
                    f"{where}: the tiles of sequence {sequence} are frames {_few(came)}, but it has {said}"
                )
            total = said or (None if first else len(rows))
            time[rows] = torch.tensor([time_value(where, rule, at, total, scale) for at in came])
        return cls(tuple(map(tuple, found.values())), time)

    def by_length(self) -> list[Tensor]:
        """[S, T] long of the sequences of each length, so that they run at once."""
        found: dict[int, list[tuple[int, ...]]] = {}
        for rows in self.rows:
            found.setdefault(len(rows), []).append(rows)
        return [torch.tensor(rows) for rows in found.values()]


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


class Past:
    """Keys and values [P, h, T, d] of the frames so far, with room for more: `length` if known."""

    def __init__(self, length: int | None = None) -> None:
        self.length, self.used = length, 0
        self._keys = self._values = torch.empty(0)

    def extended(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take those of new frames, and return all."""
        stop = self.used + keys.shape[2]
        if not self.used or stop > self._keys.shape[2]:
            room = max(stop, self.length or max(2 * self.used, ROOM))
            self._keys, self._values = (
                self._roomier(self._keys, keys, room),
                self._roomier(self._values, values, room),
            )
        for held, new in ((self._keys, keys), (self._values, values)):
            held[:, :, self.used : stop] = new
        self.used = stop
        return self._keys[:, :, :stop], self._values[:, :, :stop]

    def _roomier(self, held: Tensor, new: Tensor, room: int) -> Tensor:
        out = new.new_empty(*new.shape[:2], room, new.shape[3])
        if self.used:
            out[:, :, : self.used] = held[:, :, : self.used]
        return out


class TemporalAttention(nn.Module):
    """Attention of every place over the same place of its own and earlier frames. Packed q, k, v; biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_PTD: Tensor, past: Past | None = None) -> Tensor:
        """[P, T, D]; past: of the earlier frames, to which these are added."""
        query, key, value = self.qkv(x_PTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None
        if past is not None:
            key, value = past.extended(key, value)
            seen, new = key.shape[2], query.shape[2]
            mask = torch.ones(new, seen, dtype=torch.bool, device=key.device).tril(seen - new)
        out = scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class TemporalLayer(nn.Module):
    """What PVC adds to one layer: T-MHA with its own norm and layer scale, and AdaLN where it is wanted."""

    def __init__(self, width: int, heads: int, eps: float, adaln_on: Collection[str]) -> None:
        super().__init__()
        self.eps = eps
        self.temporal_attn = TemporalAttention(width, heads)
        self.temporal_ls = nn.Parameter(torch.ones(width))
        places = [place for place in PLACES if place in adaln_on]
        self.adaln = nn.ModuleDict({place: nn.Linear(width, 2 * width) for place in places})

    def modulate(self, place: Place, normed: Tensor, embedding: Tensor | None) -> Tensor:
        """`normed` [..., N, D] by the AdaLN of that place, if there is one; it may be written into."""
        if place not in self.adaln:
            return normed
        adaln = self.adaln[place]
        assert isinstance(adaln, nn.Linear)
        return modulated(normed, adaln, embedding)

    def attended(self, x_STND: Tensor, embedding_STD: Tensor | None, past: Past | None = None) -> Tensor:
        """[S, T, N, D] of the temporal attention, before its layer scale."""
        sequences, _, places, width = x_STND.shape
        normed = layer_norm(x_STND, (width,), eps=self.eps)  # the new norm has no affine part
        normed = self.modulate("temporal", normed, embedding_STD)
        out_PTD: Tensor = self.temporal_attn(normed.transpose(1, 2).flatten(0, 1), past)
        return out_PTD.reshape(sequences, places, -1, width).transpose(1, 2)

    def forward(self, x_STND: Tensor, embedding_STD: Tensor | None, past: Past | None = None) -> Tensor:
        """[S, T, N, D] with what each frame reads from itself and the earlier ones added."""
        return torch.addcmul(x_STND, self.attended(x_STND, embedding_STD, past), self.temporal_ls)


class TemporalModules(nn.Module):
    """All that PVC adds to a tower: the time embedding and its temporal layers, by their number."""

    def __init__(self, width: int, heads: int, eps: float, facts: PvcFacts) -> None:
        super().__init__()
        self.temporal_embedder = TimeEmbedding(facts.time_width, width) if facts.time_width else None
        places = facts.adaln_on if facts.time_width else ()
        self.layers = nn.ModuleDict(
            {str(number): TemporalLayer(width, heads, eps, places) for number in facts.layers}
        )

    def layer(self, number: int) -> TemporalLayer:
        """The modules of the tower's layer of that number."""
        found = self.layers[str(number)]
        assert isinstance(found, TemporalLayer)
        return found

    def embed(self, time_K: Tensor) -> Tensor | None:
        """[K, D]; None when the checkpoint has no time embedding."""
        return None if self.temporal_embedder is None else self.temporal_embedder(time_K)


# -- the compressor ----------------------------------------------------------------------------------------


class Compressor(nn.Module):
    """mlp1 of InternVL2 on groups of patches [..., inputs], its LayerNorm modulated by the frame's time."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(inputs, eps=1e-5), nn.Linear(inputs, outputs), nn.GELU(), nn.Linear(outputs, outputs)
        )
        self.mlp1_temporal_embedder = TimeEmbedding(time_width, inputs) if time_width else None
        self.mlp1_adaln = nn.Linear(inputs, 2 * inputs) if time_width else None

    def normed(self, grouped_ND: Tensor, time_N: Tensor | None) -> Tensor:
        """[N, inputs] after LayerNorm and, unless `time_N` [N] is None, modulation."""
        out: Tensor = self.mlp1[0](grouped_ND)
        if time_N is None or self.mlp1_temporal_embedder is None or self.mlp1_adaln is None:
            return out
        times, which_N = torch.unique(time_N.to(out.device), return_inverse=True)
        shift, scale = self.mlp1_adaln(silu(self.mlp1_temporal_embedder(times))).chunk(2, -1)
        return out.mul_(1 + scale[which_N]).add_(shift[which_N])

    def forward(self, grouped_ND: Tensor, time_N: Tensor | None = None) -> Tensor:
        """[N, outputs]."""
        out: Tensor = self.mlp1[1:](self.normed(grouped_ND, time_N))
        return out
