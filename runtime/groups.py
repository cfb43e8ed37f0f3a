"""The visual rows of a state in groups that are pruned by themselves, and who of each group stays.

V = visual rows that may go, G = groups (some may be empty)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .spread import middles
from .values import Kind, LLMState, Tokens

Select = Literal["local", "global"]
Special = Literal["stay", "count"]


@dataclass(frozen=True, eq=False)
class Groups:
    """row: [V] long, ascending, rows of the state. of: [V] long, the group of each. size: [G] long."""

    row: Tensor
    of: Tensor
    size: Tensor

    def best(self, score_V: Tensor, keep_G: Tensor) -> Tensor:
        """[V] bool: the `keep` highest scores of every group; ties go to the lower position."""
        return self.place(score_V) < keep_G.to(self.of.device)[self.of]

    def spaced(self, keep_G: Tensor) -> Tensor:
        """[V] bool: the middles of `keep` equal stretches of every group."""
        place_V = self.place(-torch.arange(len(self.of), device=self.of.device))
        return middles(place_V, keep_G.to(self.of.device)[self.of], self.size[self.of])

    def place(self, score_V: Tensor) -> Tensor:
        """[V] long: how many of the same group come before, highest score first, ties by position."""
        order = score_V.argsort(descending=True, stable=True)
        order = order[self.of[order].argsort(stable=True)]
        begin_G = self.size.cumsum(0) - self.size
        number = torch.arange(len(order), device=order.device)
        return torch.empty_like(order).scatter_(0, order, number - begin_G[self.of[order]])


def visual_groups(state: LLMState, select: Select, special: Special = "count") -> Groups:
    """The visual rows of a state: all together, or by wire, picture, and whether they stand still.

    special: newlines and separators `stay` and are in no group, or `count` as visual tokens.
    """
    row_V, tokens = state.visual.nonzero()[:, 0], state.input.tokens
    if not tokens:  # a state made by hand
        return _grouped(row_V, torch.zeros_like(row_V), 1)
    if special == "stay":
        row_V = row_V[~state.input.special[state.row[row_V]]]
    if select == "global":
        return _grouped(row_V, torch.zeros_like(row_V), 1)
    device, pictures = row_V.device, sum(t.source.frames for t in tokens)
    still_N = torch.cat([t.kind.to(device) == int(Kind.STATIC) for t in tokens])
    # a static token's home is the first frame of its segment: it is a group apart from that frame's own
    group_N = 2 * _pictures(tokens, device) + still_N
    return _grouped(row_V, group_N[state.input.number[state.row[row_V]]], 2 * pictures)


def _pictures(tokens: tuple[Tokens, ...], device: torch.device) -> Tensor:
    """[N] long: the picture of every token, numbered through all wires."""
    before, out = 0, list[Tensor]()
    for wire in tokens:
        out.append(before + wire.frame.to(device))
        before += wire.source.frames
    return torch.cat(out)


def _grouped(row_V: Tensor, of_V: Tensor, groups: int) -> Groups:
    return Groups(row_V, of_V, torch.bincount(of_V, minlength=groups))
