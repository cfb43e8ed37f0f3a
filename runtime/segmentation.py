"""From a cluster per frame to segments: runs of frames that belong together (PruneVid, released code).

All of it on the device, without waiting for it. B = clips, T = frames
"""

from __future__ import annotations

import torch
from torch import Tensor


def run_numbers(label_BT: Tensor) -> Tensor:
    """[B, T] long: the number of the run of equal labels that each frame is in, from 0."""
    change_BT = label_BT.diff(dim=1, prepend=label_BT[:, :1]) != 0
    return change_BT.cumsum(1)


def refine_clusters(label_BT: Tensor) -> Tensor:
    """[B, T] long: the labels after short runs have joined a neighbour; no run of one frame is left if T > 1.

    Of every label its longest runs stay (ties all of them), unless they are of one frame. What lies between
    two runs that stay goes, from left to right, to the longer of them, the left one grown by what it already
    got; ties go left.
    """
    same_run_BTT = _equal_pairs(run_numbers(label_BT))
    length_BT = same_run_BTT.sum(-1)
    longest_BT = (_equal_pairs(label_BT) * length_BT[:, None]).amax(-1)
    stays_BT = (length_BT == longest_BT) & (longest_BT > 1)
    right_BT, right_length_BT = _next_that_stays(label_BT, length_BT, stays_BT)
    begins_BT = ~stays_BT & stays_BT.roll(1, 1)  # of a stretch that goes
    begins_BT[:, :1] = ~stays_BT[:, :1]

    left = torch.zeros_like(label_BT[:, 0])  # without any run that stays, all frames are label 0
    grown = torch.zeros_like(left)
    out: list[Tensor] = []
    columns = (x.unbind(1) for x in (stays_BT, label_BT, begins_BT, right_BT, right_length_BT))
    for stays, label, begins, right, right_length in zip(*columns, strict=True):
        heir = torch.where(begins & (right_length > grown), right, left)
        now = torch.where(stays, label, heir)
        grown = torch.where(now == left, grown, 0) + 1
        left = now
        out.append(now)
    return torch.stack(out, 1)


def _next_that_stays(label_BT: Tensor, length_BT: Tensor, stays_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Label and length [B, T] of the first run that stays at or after each frame; length 0 for none."""
    frames = label_BT.shape[1]
    place_T = torch.arange(frames, device=label_BT.device)
    place_BT = torch.where(stays_BT, place_T, frames).flip(1).cummin(1).values.flip(1)
    there_BT = place_BT < frames
    place_BT = place_BT.clamp_max(frames - 1)
    return label_BT.gather(1, place_BT), torch.where(there_BT, length_BT.gather(1, place_BT), 0)


def _equal_pairs(number_BT: Tensor) -> Tensor:
    return number_BT[:, :, None] == number_BT[:, None]
