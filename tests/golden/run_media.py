"""Golden cases of preprocessing: pixels through the public nodes, geometry through the functions they use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenloom.nodes.tile import pad_square, preprocess, resize_crop, tile_anyres
from tokenloom.runtime import anyres, pixels
from tokenloom.runtime.models.handle import ImageFacts
from tokenloom.runtime.values import Frames

from ..handles import image_handle
from .runners import Case, runs


def _facts(case: Case, **more: Any) -> ImageFacts:
    told = case.facts["processor"]
    return ImageFacts(size=told["size"], mean=tuple(told["image_mean"]), std=tuple(told["image_std"]), **more)


def _frames(*pictures: Tensor) -> Frames:
    return Frames(pictures, torch.zeros(len(pictures), dtype=torch.float64))


def _raw(case: Case) -> list[Tensor]:
    return [case.inputs[f"raw_image.{i}"] for i in range(len(case.inputs))]


def _exact(case: Case, got: Tensor, name: str) -> None:
    """The reference tolerance, and, as we promise more, not one bit of difference."""
    case.check(got, name)
    assert float((got - case.expected[name]).abs().max()) == 0.0, f"{case.name} {name} is not bit-exact"


@runs("visionzip", "image preprocessing, pad and plain")
def run_pad_and_plain(case: Case) -> None:
    chat = image_handle(_facts(case, aspect="pad"))
    pictures = _raw(case)
    padded = pad_square(chat, _frames(*pictures))
    assert preprocess(chat, _frames(*pictures)).pixels.equal(padded.pixels)
    for i, picture in enumerate(pictures):
        _exact(case, padded.pixels[i], f"pad.{i}")
        if f"square.{i}" in case.expected:
            _exact(case, resize_crop(chat, _frames(picture)).pixels[0], f"square.{i}")
        if f"padded_uint8.{i}" in case.expected:
            square, _, _ = pixels.square_canvas(picture.numpy(), tuple(case.facts["pad_colour_rgb"]))
            case.check(torch.from_numpy(square), f"padded_uint8.{i}")


@runs("visionzip", "anyres preprocessing")
def run_anyres(case: Case) -> None:
    pinpoints = tuple((w, h) for w, h in case.facts["image_grid_pinpoints_wh"])
    chat = image_handle(_facts(case, aspect="anyres", pinpoints=pinpoints))
    pictures = _raw(case)
    together = tile_anyres(chat, *(_frames(p) for p in pictures))
    assert preprocess(chat, *(_frames(p) for p in pictures)).pixels.equal(together.pixels)
    for i, (picture, told) in enumerate(zip(pictures, case.facts["images"], strict=True)):
        mine = [k for k, tile in enumerate(together.layout) if tile.frame == i]
        _exact(case, together.pixels[mine], f"anyres.{i}")
        assert len(mine) == told["tiles_incl_base"]
        assert [together.layout[k].whole for k in mine] == [True, *[False] * (len(mine) - 1)]
        last = together.layout[mine[-1]]
        assert [last.col + 1, last.row + 1] == told["grid_wh"]
        _check_canvas(case, picture, pinpoints, i)


def _check_canvas(case: Case, picture: Tensor, pinpoints: tuple[tuple[int, int], ...], i: int) -> None:
    size = (picture.shape[1], picture.shape[0])
    fit = anyres.letterbox(size, anyres.select_best_resolution(size, pinpoints))
    scaled = pixels.resize(picture.numpy(), fit.scaled)
    canvas = pixels.paste(scaled, fit.canvas, fit.left, fit.top, (0, 0, 0))
    case.check(torch.from_numpy(canvas), f"resized_padded_uint8.{i}")


@runs("visionzip", "anyres geometry tables (no tensors)")
def run_geometry(case: Case) -> None:
    side = case.facts["patches_per_side"]
    for row in case.facts["rows"]:
        size = tuple(row["size_wh"])
        pinpoints = [(w, h) for w, h in row["pinpoints"]]
        best = anyres.select_best_resolution(size, pinpoints)
        assert list(best) == row["best_wh"], row
        cols, rows = anyres.grid_of(best, row["tile"])
        assert [cols, rows] == row["grid_wh"], row
        down, across = anyres.unpad_span(size, rows * side, cols * side)
        kept = [down.stop - down.start, across.stop - across.start]
        assert kept == row["unpadded_hw_24"], row
        assert side * side + kept[0] * (kept[1] + 1) == row["visual_tokens_full"], row
