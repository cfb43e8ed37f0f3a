"""What a Hugging Face processor returns, as prompts and tiles: one row of the batch after another.

B = rows of the batch, S = their padded length, P = pictures, K = tiles of the picture with most, T = frames
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..anyres import Box, cells, grid_of, scaled_down, select_best_resolution, unpad_span
from ..errors import MediaError, PromptError
from ..models.handle import ImageFacts, TowerFacts
from ..values import Prompt, Slot, Tile, Tiles
from .graft import Media
from .parts import Family, Live

NAMES = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "image_sizes",
    "batch_num_images",
    "pixel_values_videos",
    "image_sizes_videos",
)
TAKEN: Mapping[Family, int] = {"llava": 3, "llava_next": 4, "llava_onevision": 7}  # of the names, the first


@dataclass(frozen=True)
class Medium:
    """A picture or a clip: pixels [n, 3, h, w], where its tiles lie, and what the plain model makes of it.

    size: (width, height) of the picture, or of a frame. tokens: how many ids stand for it in the prompt.
    """

    media: Media
    pixels: Tensor
    layout: tuple[Tile, ...]
    size: tuple[int, int]
    tokens: int


@dataclass(frozen=True)
class InputRow:
    """One row: its prompt, with a slot for every medium, and the media by wire: a run of pictures, or a clip.

    full: ids that stand for visual tokens, as many as the plain model places.
    """

    prompt: Prompt
    wires: tuple[tuple[Media, Tiles], ...]
    full: int


@dataclass
class _Pile:
    """Media of one kind, in the order of the batch, and how far the rows have taken them."""

    kind: Media
    token: int
    left: deque[Medium]
    taken: int = field(default=0)


def read_rows(live: Live, given: Mapping[str, Any], pad: int | None) -> list[InputRow]:
    """The rows of a batch, padding left out on whichever side it is.

    pad: the id that is padding where no attention_mask says so. Errors: PromptError for ids and masks that
    are none, and where ids and media do not match; MediaError for pixels of another shape.
    """
    for name in NAMES[TAKEN[live.family] :]:
        if given.get(name) is not None:
            known = ", ".join(NAMES[: TAKEN[live.family]])
            raise MediaError(
                f"generate.{name}: a {live.name} takes {known}; give what the model's own processor returns"
            )
    ids_BS, mask_BS = _ids(given, pad)
    piles = [
        _Pile("image", live.image, deque(_pictures(live, given))),
        _Pile("video", live.video, deque(_clips(live, given))),
    ]
    rows = [
        _row(number, ids[mask].tolist(), piles)
        for number, (ids, mask) in enumerate(zip(ids_BS, mask_BS, strict=True))
    ]
    for pile in piles:
        if pile.left:
            came = pile.taken + len(pile.left)
            raise PromptError(
                f"generate: {came} {_plural(pile.kind, came)} came, but input_ids have places for "
                f"{pile.taken}; give the ids and the pixels that one call of the processor returned"
            )
    return rows


def _ids(given: Mapping[str, Any], pad: int | None) -> tuple[Tensor, Tensor]:
    ids = given.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point() or not ids.numel():
        came = "none came" if ids is None else f"{_shape(ids)} came"
        raise PromptError(
            f"generate.input_ids: {came}; wanted [B, S] long, as the processor returns them with "
            "return_tensors='pt'"
        )
    mask = given.get("attention_mask")
    if mask is None:
        padded = pad is not None and bool((ids == pad).any())
        mask = ids != pad if padded else torch.ones_like(ids)
    if not isinstance(mask, Tensor) or mask.shape != ids.shape:
        raise PromptError(f"generate.attention_mask: {_shape(mask)} came; wanted {list(ids.shape)}")
    ids, mask = ids.cpu(), mask.cpu().bool()
    if not bool(mask.any(1).all()):
        raise PromptError(
            f"generate.attention_mask: row {int((~mask.any(1)).nonzero()[0, 0])} is padding alone; leave it "
            "out of the batch"
        )
    return ids, mask


# -- a row -------------------------------------------------------------------------------------------------


def _row(number: int, ids: list[int], piles: list[_Pile]) -> InputRow:
    """Text between the runs of placeholders, and media for these from the piles."""
    by_token = {pile.token: pile for pile in piles if pile.token >= 0}
    pieces: list[tuple[int, ...] | Slot] = []
    media: list[Medium] = []
    for token, run in groupby(ids, lambda one: one if one in by_token else None):
        if token is None:
            pieces.append(tuple(run))
            continue
        found = _taken(number, len(list(run)), by_token[token])
        pieces += [Slot(medium.media) for medium in found]
        media += found
    full = sum(medium.tokens for medium in media)
    return InputRow(Prompt(pieces=tuple(pieces)), tuple(_wires(media)), full)


def _taken(number: int, length: int, pile: _Pile) -> list[Medium]:
    """The next media, whose tokens are as many as the run is long."""
    found: list[Medium] = []
    left = length
    while left > 0 and pile.left:
        found.append(pile.left.popleft())
        left -= found[-1].tokens
    pile.taken += len(found)
    if left:
        made = " + ".join(str(medium.tokens) for medium in found)
        what = f"the next {_plural(pile.kind, len(found))} came to {made}" if found else "no pixels are left"
        raise PromptError(
            f"generate: row {number} has a run of {length} {pile.kind} ids, but {what}; give the ids and the "
            "pixels that one call of the model's own processor returned"
        )
    return found


def _wires(media: list[Medium]) -> list[tuple[Media, Tiles]]:
    """Pictures that follow each other are one wire, every clip is its own."""
    wires: list[tuple[Media, Tiles]] = []
    for kind, run in groupby(media, lambda medium: medium.media):
        members = list(run)
        if kind == "video":
            wires.extend(("video", _clip(one)) for one in members)
        else:
            wires.append(("image", _tiles(members)))
    return wires


def _tiles(pictures: list[Medium]) -> Tiles:
    layout = tuple(
        Tile(frame=number, row=tile.row, col=tile.col, box=tile.box, whole=tile.whole)
        for number, picture in enumerate(pictures)
        for tile in picture.layout
    )
    pixels = torch.cat([picture.pixels for picture in pictures])
    return Tiles(pixels, layout, tuple(p.size for p in pictures), (0.0,) * len(pictures))


def _clip(clip: Medium) -> Tiles:
    """Frame times are not among what a processor returns: frames are a second apart."""
    frames = len(clip.pixels)
    seconds = tuple(map(float, range(frames)))
    return Tiles(clip.pixels, clip.layout, (clip.size,) * frames, seconds, clips=(0,) * frames)


# -- pictures and clips ------------------------------------------------------------------------------------


def _pictures(live: Live, given: Mapping[str, Any]) -> list[Medium]:
    pixels = given.get("pixel_values")
    if pixels is None or (isinstance(pixels, Tensor) and not len(pixels)):
        return []
    tower, image = _facts(live)
    if live.family == "llava":
        _check_pixels("pixel_values", pixels, tower, (4,), "[P, 3, h, w]")
        return [_single(one[None], tower, tokens=_per_tile(tower)) for one in pixels]
    _check_pixels("pixel_values", pixels, tower, (4, 5), "[P, K, 3, h, w]")
    sizes = _sizes(given.get("image_sizes"), len(pixels) if pixels.ndim == 5 else None)
    cut_up = _uncut(given.get("batch_num_images"), len(sizes))
    layouts = [
        _layout(size, tower, image) if cut else (Tile(frame=0, box=_whole(size)),)
        for size, cut in zip(sizes, cut_up, strict=True)
    ]
    counts = [len(layout) for layout in layouts]
    if pixels.ndim == 4 and len(pixels) != sum(counts):
        raise MediaError(
            f"generate.pixel_values: {len(pixels)} tiles, but pictures of these image_sizes have "
            f"{sum(counts)}; give what one call of the processor returned"
        )
    if pixels.ndim == 5 and max(counts) > pixels.shape[1]:
        raise MediaError(
            f"generate.pixel_values: {pixels.shape[1]} tiles of a picture at most, but these image_sizes "
            f"with the model's image_grid_pinpoints make {max(counts)}; use the model's own processor"
        )
    parts = [p[:n] for p, n in zip(pixels, counts, strict=True)] if pixels.ndim == 5 else pixels.split(counts)
    return [
        Medium("image", part, layout, size, _packed(size, layout, tower, image))
        for part, layout, size in zip(parts, layouts, sizes, strict=True)
    ]


def _clips(live: Live, given: Mapping[str, Any]) -> list[Medium]:
    pixels = given.get("pixel_values_videos")
    if pixels is None or (isinstance(pixels, Tensor) and not len(pixels)):
        return []
    tower, _ = _facts(live)
    _check_pixels("pixel_values_videos", pixels, tower, (5,), "[P, T, 3, h, w]")
    pooled = -(-tower.grid // 2)  # half of it, rounded up
    return [_single(clip, tower, tokens=len(clip) * pooled**2 + 1, media="video") for clip in pixels]


def _single(pixels: Tensor, tower: TowerFacts, *, tokens: int, media: Media = "image") -> Medium:
    """Whole pictures, one tile each; their own size is not known, and is the tile's."""
    size = (tower.size, tower.size)
    layout = tuple(Tile(frame=number, box=_whole(size)) for number in range(len(pixels)))
    return Medium(media, pixels, layout, size, tokens)


def _whole(size: tuple[int, int]) -> Box:
    return (0.0, 0.0, float(size[0]), float(size[1]))


def _layout(size: tuple[int, int], tower: TowerFacts, image: ImageFacts) -> tuple[Tile, ...]:
    """A base tile, and the grid's."""
    canvas = select_best_resolution(size, image.pinpoints)
    base = Tile(frame=0, box=_whole(size), whole=True)
    return (base, *(Tile(frame=0, row=r, col=c, box=box) for r, c, box in cells(size, canvas, tower.size)))


def _packed(size: tuple[int, int], layout: tuple[Tile, ...], tower: TowerFacts, image: ImageFacts) -> int:
    """How many tokens the plain model makes of a picture: a base tile, the map without padding, newlines."""
    base = _per_tile(tower)
    if len(layout) == 1:
        return base + 1
    cols, rows = grid_of(select_best_resolution(size, image.pinpoints), tower.size)
    down, across = unpad_span(size, rows * tower.grid, cols * tower.grid, image.unpad_rounding)
    size = down.stop - down.start, across.stop - across.start
    if image.max_tiles:
        size = scaled_down(*size, tower.grid**2, image.max_tiles)
    return base + size[0] * (size[1] + 1)


def _per_tile(tower: TowerFacts) -> int:
    return tower.grid**2 + (tower.select_feature == "cls_patch")


def _sizes(sizes: Any, pictures: int | None) -> list[tuple[int, int]]:
    """(width, height) of every picture, from rows of (height, width)."""
    rows = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    fine = isinstance(rows, list | tuple) and all(len(row) == 2 for row in rows)
    if not fine or (pictures is not None and len(rows) != pictures):
        wanted = "[P, 2]" if pictures is None else f"[{pictures}, 2]"
        came = "none came" if sizes is None else f"{_shape(sizes)} came"
        raise MediaError(
            f"generate.image_sizes: {came}; wanted {wanted}, height and width of every picture, as the "
            "processor returns them"
        )
    return [(int(width), int(height)) for height, width in rows]


def _uncut(numbers: Any, pictures: int) -> list[bool]:
    """Of every picture whether it is cut up: OneVision's processor leaves several of a prompt whole."""
    if numbers is None:
        return [True] * pictures
    counts = [int(n) for n in (numbers.tolist() if isinstance(numbers, Tensor) else numbers)]
    if sum(counts) != pictures:
        raise MediaError(f"generate.batch_num_images: {counts} for {pictures} pictures in image_sizes")
    return [n == 1 for n in counts for _ in range(n)]


def _facts(live: Live) -> tuple[TowerFacts, ImageFacts]:
    tower, image = live.facts.tower, live.facts.image
    assert tower is not None
    assert image is not None
    return tower, image


def _check_pixels(name: str, pixels: Any, tower: TowerFacts, axes: tuple[int, ...], wanted: str) -> None:
    tile = (3, tower.size, tower.size)
    fine = isinstance(pixels, Tensor) and pixels.is_floating_point()
    if not fine or pixels.ndim not in axes or tuple(pixels.shape[-3:]) != tile:
        raise MediaError(
            f"generate.{name}: {_shape(pixels)} came; wanted {wanted} float, tiles of "
            f"{tower.size}x{tower.size}, as the model's processor returns them with return_tensors='pt'"
        )


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def _plural(kind: str, count: int) -> str:
    noun = "picture" if kind == "image" else "clip"
    return noun if count == 1 else f"{noun}s"
