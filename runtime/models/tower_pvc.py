"""PVC's tower: InternViT with attention between frames in its last layers, run layer by layer on all frames.

All frames lie in one buffer that every layer rewrites, some frames at a time; between frames some places at a
time. So a longer clip needs more memory only for that buffer, which is the result. Copies of a tile are the
same until the first temporal layer; there alone they part.
"""

# K = tiles (copies counted), U = different tiles, N = places of a tile ([CLS] included), D = width,
# S = sequences, T = frames of each, C = tiles that run at once

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from .. import context, cost
from ..errors import WiringError
from ..needs import Need
from .handle import PvcFacts, TowerFacts
from .pvc import PLACES, RULES, Past, Rule, Sequences, TemporalModules
from .tower import TowerOutput, layer_number, tile_grid
from .tower_intern import InternTower


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """How frames are encoded: the temporal layers that run, where AdaLN is, and what a frame's time is."""

    layers: tuple[int, ...]
    adaln_on: tuple[str, ...]
    time: Rule
    time_scale: float

    @classmethod
    def of(
        cls,
        where: str,
        facts: TowerFacts,
        temporal_layers: int | None = None,
        adaln_on: Sequence[str] | None = None,
        time: str = "auto",
        time_scale: float | None = None,
    ) -> Progressive:
        """As the checkpoint says, but for what is given. Errors: WiringError for what has no weights."""
        own = pvc_facts(where, facts)
        count = len(own.layers) if temporal_layers is None else temporal_layers
        if count < 0:
            raise WiringError(f"{where}.temporal_layers: {count}, wanted 0 or more")
        if count > len(own.layers):
            raise WiringError(
                f"{where}.temporal_layers: {count}, but the checkpoint has weights for {len(own.layers)}; "
                f"set {len(own.layers)} or less"
            )
        places = own.adaln_on if adaln_on is None else tuple(adaln_on)
        for place in places:
            if place not in own.adaln_on:
                has = ", ".join(own.adaln_on) or "none"
                known = "" if place in PLACES else f" (known: {', '.join(PLACES)})"
                raise WiringError(
                    f"{where}.adaln_on: the checkpoint has no AdaLN on {place!r}{known}; it has {has}"
                )
        rule = own.time if time == "auto" else time
        if rule not in RULES:
            raise WiringError(f"{where}.time: {rule!r} is not one of {', '.join(('auto', *RULES))}")
        return cls(
            layers=own.layers[len(own.layers) - count :],
            adaln_on=places,
            time=rule,
            time_scale=own.time_scale if time_scale is None else time_scale,
        )


def pvc_facts(where: str, facts: TowerFacts) -> PvcFacts:
    """A WiringError for a tower without temporal modules."""
    if facts.pvc is None:
        raise WiringError(
            f"{where}.vision: this tower has no temporal modules; wire that of a PVC checkpoint, or use "
            "encode_vision"
        )
    return facts.pvc


class PvcTower(InternTower):
    """An InternViT and PVC's modules, in eval mode, on one device."""

    def __init__(self, module: nn.Module, facts: TowerFacts, temporal: TemporalModules) -> None:
        super().__init__(nn.ModuleDict({"tower": module, "temporal": temporal}), facts)
        self._core, self.temporal = module, temporal

    @torch.no_grad()
    def encode_frames(
        self,
        pixels: Tensor,
        sequences: Sequences,
        how: Progressive,
        *,
        layer: int,
        shown: Sequence[int] = (),
        wanted: Collection[Need] = (),
        cls_token: bool = False,
        interpolate: bool = False,
        chunk: int = 32,
        share: bool = True,
    ) -> TowerOutput:
        """Hidden states of `layer` and the wanted channels of all K tiles; later layers do not run.

        pixels: [U, 3, h, w] normalised. shown: [K], the row of `pixels` of each tile; (): one tile for each.
        chunk: C. share: run the layers that are the same for copies of a tile once.
        """
        feature = layer_number("encode_pvc.layer", self.facts, layer)
        at = {need: self._layer_of(need, feature) for need in wanted}
        tile_grid(self.facts, pixels, interpolate)
        run = _Run(self, sequences, how, at, feature)
        if shown and not share:
            pixels, shown = pixels[list(shown)], ()
        run.embed(pixels, chunk)
        first = min([*how.layers, run.last]) if shown else 0
        run.layers(0, first, chunk)
        split = bool(shown) and first < run.last and "attn" not in how.adaln_on
        if split:  # its attention too is the same for copies
            run.attend(first, chunk)
        if shown:
            run.repeat(shown)
        run.layers(first, run.last, chunk, attended=split)
        begin, hidden = int(not cls_token), run.state(feature)
        side = {n.key: run.state(at[n]) if n.channel == "hidden" else run.found[n.key] for n in at}
        side = {key: x[:, begin:] for key, x in side.items()}
        if begin and feature not in (at[n] for n in at if n.channel == "hidden"):
            return TowerOutput(_moved_up(hidden, chunk), side)
        return TowerOutput(hidden[:, begin:], side)

    def normed(
        self,
        number: int,
        place: Literal["attn", "ffn"],
        hidden: Tensor,
        embedding: Tensor | None,
        how: Progressive,
    ) -> Tensor:
        """[K, N, D] that the attention or MLP of a layer reads, modulated by time where it is to be."""
        block = self.block(number)
        out: Tensor = (block.layernorm_before if place == "attn" else block.layernorm_after)(hidden)
        if number not in how.layers or place not in how.adaln_on:
            return out
        return self.temporal.layer(number).modulate(place, out, embedding)

    @torch.no_grad()
    def encode_more(
        self,
        pixels: Tensor,
        time: Tensor,
        how: Progressive,
        past: Mapping[int, Past],
        *,
        layer: int,
        cls_token: bool = False,
        interpolate: bool = False,
    ) -> Tensor:
        """[T, (1+)P, D] of the next T frames of one sequence; `past`, by layer, takes their keys and values.

        pixels: [T, 3, h, w]. time: [T]. The same as `encode_frames` makes of them among all frames.
        """
        feature = layer_number("encode_pvc.layer", self.facts, layer)
        tile_grid(self.facts, pixels, interpolate)
        hidden, embedding = self.embed(pixels), self.temporal.embed(time.to(self.device))
        own = embedding[None] if "temporal" in how.adaln_on and embedding is not None else None
        for number in range(feature):
            hidden = self.attend(number, hidden, self.normed(number, "attn", hidden, embedding, how))
            if number in how.layers:
                [hidden] = self.temporal.layer(number)(hidden[None], own, past[number])
            hidden = self.feed(number, hidden, self.normed(number, "ffn", hidden, embedding, how))
        return hidden if cls_token else hidden[:, 1:]


class _Run:
    """One pass: all frames [K, N, D], and what was asked for on the way."""

    def __init__(
        self, tower: PvcTower, sequences: Sequences, how: Progressive, at: Mapping[Need, int], feature: int
    ) -> None:
        self.tower, self.how, self.at = tower, how, at
        self.last = max([feature, *at.values()])
        self.groups = [group.to(tower.device) for group in sequences.by_length()]
        self.embedding_KD = tower.temporal.embed(sequences.time.to(tower.device))
        self.hidden = torch.empty(0)
        self.kept: dict[int, Tensor] = {}
        self.found: dict[str, Tensor] = {}
        self._keep = {feature, *(layer for need, layer in at.items() if need.channel == "hidden")}

    def embed(self, pixels: Tensor, chunk: int) -> None:
        """Fill the buffer."""
        parts = (self.tower.embed(part) for part in torch.split(pixels, chunk))
        first = next(parts)
        self.hidden = first.new_empty(len(pixels), *first.shape[1:])
        for start, part in zip(range(0, len(pixels), chunk), chain([first], parts), strict=True):
            self.hidden[start : start + chunk] = part
        context.count(cost.patch_embedding(self.tower.facts, len(pixels) * (self.hidden.shape[1] - 1)))
        self._remember(0)

    def repeat(self, shown: Sequence[int]) -> None:
        """From different tiles to all: copies part here."""
        index = torch.tensor(shown, device=self.hidden.device)
        self.hidden = self.hidden[index]
        self.kept = {layer: state[index] for layer, state in self.kept.items()}
        self.found = {key: value[index] for key, value in self.found.items()}

    def layers(self, start: int, stop: int, chunk: int, *, attended: bool = False) -> None:
        """Run layers start..stop-1; attended: the first one's attention has run."""
        for number in range(start, stop):
            if not (attended and number == start):
                self.attend(number, chunk)
            if number in self.how.layers:
                self.between(number, chunk)
            self.feed(number, chunk)
            self._remember(number + 1)
            context.progress(number + 1, self.last, "layers")

    def attend(self, number: int, chunk: int) -> None:
        """The layer's attention inside every tile, and the channels that are wanted of it."""
        needs = [n for n, layer in self.at.items() if layer == number + 1 and n.channel != "hidden"]
        found: list[dict[str, Tensor]] = []
        for part in self._parts(chunk):
            normed = self.tower.normed(number, "attn", self.hidden[part], self._embedding(part), self.how)
            found.append(self.tower.observe(number, normed, needs))
            self.hidden[part] = self.tower.attend(number, self.hidden[part], normed)
        self.found |= {need.key: torch.cat([one[need.key] for one in found]) for need in needs}
        tiles, places = self.hidden.shape[:2]
        context.count(cost.tower_attention(self.tower.facts, tiles * places, tiles * places**2))

    def between(self, number: int, chunk: int) -> None:
        """The temporal attention of every sequence, about as many rows at a time as `chunk` tiles have."""
        layer, places = self.tower.temporal.layer(number), self.hidden.shape[1]
        modulates = "temporal" in self.how.adaln_on
        for index_ST in self.groups:
            length = index_ST.shape[1]
            together = max(chunk // length, 1)
            step = max(places * chunk // length, 1) if together == 1 else places
            for rows in torch.split(index_ST, together):
                embedding = self.embedding_KD[rows] if modulates and self.embedding_KD is not None else None
                for start in range(0, places, step):
                    some = self.hidden[:, start : start + step]
                    some[rows] = layer(some[rows], embedding)
            pairs = index_ST.numel() * (length + 1) // 2 * places
            context.count(cost.tower_attention(self.tower.facts, index_ST.numel() * places, pairs))

    def feed(self, number: int, chunk: int) -> None:
        """The layer's MLP."""
        for part in self._parts(chunk):
            normed = self.tower.normed(number, "ffn", self.hidden[part], self._embedding(part), self.how)
            self.hidden[part] = self.tower.feed(number, self.hidden[part], normed)
        rows = self.hidden.shape[0] * self.hidden.shape[1]
        facts = self.tower.facts
        context.count(cost.tower_layer(facts, rows, 0) - cost.tower_attention(facts, rows, 0))

    def state(self, layer: int) -> Tensor:
        """[K, N, D]: a hidden state that was to be kept."""
        return self.hidden if layer == self.last else self.kept[layer]

    def _parts(self, chunk: int) -> list[slice]:
        return [slice(start, start + chunk) for start in range(0, len(self.hidden), chunk)]

    def _embedding(self, part: slice) -> Tensor | None:
        return None if self.embedding_KD is None else self.embedding_KD[part]

    def _remember(self, layer: int) -> None:
        if layer in self._keep and layer != self.last:  # later layers write into the buffer
            self.kept[layer] = self.hidden.clone()


def _moved_up(hidden: Tensor, chunk: int) -> Tensor:
    """[K, N - 1, D] in the memory of `hidden` [K, N, D], whose [CLS] rows go: no second buffer."""
    tiles, places, width = hidden.shape
    flat = hidden.view(-1, width)
    for start in range(0, tiles, chunk):
        part = hidden[start : start + chunk, 1:].clone().flatten(0, 1)
        flat[start * (places - 1) :][: len(part)] = part
    return flat[: tiles * (places - 1)].view(tiles, places - 1, width)
