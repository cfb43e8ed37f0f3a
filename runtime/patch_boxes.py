"""From a patch to its box in the picture, and back: through every resize, pad, crop and tile.

A tile's box says where its edges lie in the picture, whatever was done to make it; its patches divide it
evenly. Boxes are (left, top, right, bottom) in the picture's pixels and reach beyond it where it was padded.

K = tiles, P = patches of all tiles, H, W = sampled rows and columns of a picture
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .values import Source

Box = tuple[float, float, float, float]


def patch_boxes(source: Source) -> Tensor:
    """[P, 4] float64: the box of every patch in the pixels of its own picture, not clipped to it."""
    box_K4 = torch.tensor([tile.box for tile in source.tiles], dtype=torch.float64)
    left_K, top_K, right_K, bottom_K = box_K4.unbind(1)
    x_KE = _edges(left_K, right_K, source.cols)
    y_KE = _edges(top_K, bottom_K, source.rows)
    shape = (len(box_K4), source.rows, source.cols)
    left, right = (edge[:, None].expand(shape) for edge in (x_KE[:, :-1], x_KE[:, 1:]))
    top, bottom = (edge[:, :, None].expand(shape) for edge in (y_KE[:, :-1], y_KE[:, 1:]))
    return torch.stack([left, top, right, bottom], -1).reshape(-1, 4)


def _edges(first_K: Tensor, last_K: Tensor, parts: int) -> Tensor:
    """[K, parts + 1]: evenly from the first to the last, both exactly."""
    weight = torch.arange(parts + 1, dtype=torch.float64) / parts
    return torch.lerp(first_K[:, None], last_K[:, None], weight)


def clipped_boxes(source: Source) -> Tensor:
    """[P, 4] float64: what each patch shows of its picture; without area for one that shows padding alone.

    Errors: ValueError for a source that does not know the sizes of its pictures.
    """
    if len(source.sizes) < source.frames:
        raise ValueError(f"clipped_boxes: {source.frames} pictures, but {len(source.sizes)} sizes")
    size_K2 = torch.tensor([source.sizes[tile.frame] for tile in source.tiles], dtype=torch.float64)
    most_P4 = size_K2.repeat_interleave(source.per_tile, 0).repeat(1, 2)
    return torch.minimum(patch_boxes(source).clamp_min(0), most_P4)


@dataclass(frozen=True)
class View:
    """Tiles of one picture that lie side by side: its grid, or a view of the whole beside it.

    copy: which of the picture's repetitions (PVC), from 0. whole: a base tile or thumbnail beside a grid.
    """

    frame: int
    tiles: tuple[int, ...]
    whole: bool = False
    copy: int = 0


def views_of(source: Source) -> tuple[View, ...]:
    """The tiles by picture and repetition, the whole view first: no two tiles of a view overlap."""
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for number, tile in enumerate(source.tiles):
        groups.setdefault((tile.frame, tile.time, tile.whole), []).append(number)
    times: dict[int, list[int]] = {}
    for frame, time, _ in sorted(groups):
        if time not in times.setdefault(frame, []):
            times[frame].append(time)
    order = sorted(groups, key=lambda key: (key[0], key[1], not key[2]))
    return tuple(
        View(frame, tuple(groups[frame, time, whole]), whole, times[frame].index(time))
        for frame, time, whole in order
    )


def canvas_of(source: Source, view: View) -> Box:
    """The box that holds the picture and everything that the view's tiles show, padding too."""
    width, height = source.sizes[view.frame]
    lefts, tops, rights, bottoms = zip(*(source.tiles[number].box for number in view.tiles), strict=True)
    return min(0.0, *lefts), min(0.0, *tops), max(float(width), *rights), max(float(height), *bottoms)


def patches_at(
    source: Source, tiles: tuple[int, ...], x_W: Tensor, y_H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """[H, W] long: the patch that shows each point (x, y) of the picture, -1 where none does.

    And where in the patch the point lies, 0..1 across and down: [H, W] each. The inverse of `patch_boxes`; a
    point on an edge belongs to the patch right of it or below it. Of overlapping tiles the last counts.
    """
    patch_HW = torch.full((len(y_H), len(x_W)), -1)
    across_HW = torch.zeros(patch_HW.shape, dtype=x_W.dtype)
    down_HW = torch.zeros_like(across_HW)
    for number in tiles:
        left, top, right, bottom = source.tiles[number].box
        x, y = (x_W - left) / (right - left) * source.cols, (y_H - top) / (bottom - top) * source.rows
        inside_W, inside_H = (x >= 0) & (x < source.cols), (y >= 0) & (y < source.rows)
        col, row = x[inside_W].floor(), y[inside_H].floor()
        here = inside_H[:, None] & inside_W
        patch = number * source.per_tile + row.long()[:, None] * source.cols + col.long()
        patch_HW[here] = patch.flatten()
        across_HW[here] = (x[inside_W] - col).expand(len(row), -1).flatten()
        down_HW[here] = (y[inside_H] - row)[:, None].expand(-1, len(col)).flatten()
    return patch_HW, across_HW, down_HW
