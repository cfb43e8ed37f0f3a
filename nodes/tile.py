"""Cut pictures into the tiles that a vision tower takes. S = tile side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Literal

from torch import Tensor

from ..runtime import anyres, dynamic, pixels, slicing
from ..runtime.dynamic import Tiling
from ..runtime.errors import CheckpointError, MediaError
from ..runtime.foreseen import KnownFrames, KnownTiles, known_tiles
from ..runtime.models.chat import ChatFormat
from ..runtime.models.handle import ImageFacts, Model
from ..runtime.models.tower import VisionTower
from ..runtime.node import node
from ..runtime.pixels import Pixels
from ..runtime.slicing import Slicing
from ..runtime.values import Frames, Tile, Tiles
from ..runtime.values.media import clips_of
from ..runtime.widgets import Range

Aspect = Literal["auto", "pad", "square", "stretch", "anyres", "pllava", "slice", "dynamic"]
Side = Annotated[int, Range(1)]
Colour = tuple[int, int, int]
Prepared = Model[ChatFormat] | Model[VisionTower]  # any handle that comes with the preprocessing facts
Cutter = Callable[[Pixels], Iterator[tuple[Pixels, Tile]]]


def _foresee(
    chat: Prepared | None, *frames: KnownFrames | Frames | None, aspect: Aspect
) -> KnownTiles | None:
    """A checkpoint that cannot prepare pictures this way is refused while planning."""
    if chat is None:
        return None
    facts = image_facts("preprocess", chat)
    if aspect == "anyres" or (aspect == "auto" and facts.aspect == "anyres"):
        anyres.select_best_resolution((1, 1), facts.pinpoints)
    elif aspect != "auto":
        _resized("preprocess", facts, None)
    known = [f for f in frames if f is not None]
    chosen = _chosen(facts, aspect, any(f.clip for f in known), sum(map(len, known)))
    if chosen == "slice":
        return slicing.foreseen(frames, Slicing.of(facts))
    if chosen == "dynamic":
        return dynamic.foreseen(frames, Tiling.of(facts))
    if len(known) < len(frames):
        return None
    if chosen == "anyres":
        return _foreseen_grids(known, facts.size, facts.pinpoints)
    made = _foreseen_each(known)
    if chosen != "qwen" or made.sizes is None:
        return made
    tiles = {_rounded_size(facts, size) for size in made.sizes}
    _check_one_size("preprocess", tiles)
    return replace(made, tile=tiles.pop()) if tiles else made


def _foreseen_each(known: Sequence[KnownFrames | Frames]) -> KnownTiles:
    """One tile of every picture."""
    return known_tiles(known, [1] * sum(map(len, known)))


def _foreseen_grids(
    known: Sequence[KnownFrames | Frames], side: int, canvases: Sequence[anyres.Size]
) -> KnownTiles | None:
    """A base tile and a grid for every picture; None where the pictures' sizes are not known."""
    counts: list[int] = []
    for some in known:
        if some.sizes is None:
            return None
        for size in some.sizes:
            cols, rows = anyres.grid_of(anyres.select_best_resolution(size, canvases), side)
            counts.append(1 + cols * rows)
    return known_tiles(known, counts)


@node(version=1, foresee=_foresee)
def preprocess(chat: Prepared, *frames: Frames, aspect: Aspect = "auto") -> Tiles:
    """The tiles that this checkpoint was trained with.

    chat: the checkpoint (or its tower); its facts say the tile's size, mean, std and aspect.
    frames: pictures or frames of a clip, in order.
    aspect: auto is the checkpoint's own choice (frames of a clip are never cut up: square or stretch instead
        of anyres, pad instead of slice; nor are several pictures by LLaVA-OneVision: pad); pad: the whole
        picture on a square; square: the centre; stretch: all of it, squeezed; anyres: a base tile and a
        grid; pllava: the centre, after a first resize to 640 pixels at most; slice: as slice_hd;
        dynamic: as tile_dynamic.
        Qwen2.5-VL's own: a tile of the picture's size, its sides rounded.
    """
    facts = image_facts("preprocess", chat)
    chosen = _chosen(facts, aspect, any(f.clip for f in frames), sum(map(len, frames)))
    if chosen == "qwen":
        _refuse_clips(frames)
        return _tiles("preprocess", frames, facts, _rounded(facts))
    facts = _resized("preprocess", facts, None)
    if chosen == "slice":
        _refuse_nothing("preprocess", frames)
        return slicing.sliced(frames, Slicing.of(facts), facts.mean, facts.std)
    if chosen == "dynamic":
        _refuse_nothing("preprocess", frames)
        return dynamic.tiled(frames, Tiling.of(facts), facts.mean, facts.std)
    if chosen == "pad":
        return _tiles("preprocess", frames, facts, _padded(facts.size, pixels.mean_colour(facts.mean)))
    if chosen == "square":
        return _tiles("preprocess", frames, facts, _centre(facts.size))
    if chosen == "stretch":
        return _tiles("preprocess", frames, facts, _squeezed(facts.size))
    if chosen == "pllava":
        return _tiles("preprocess", frames, facts, _twice_resized(facts.size))
    return _tiles("preprocess", frames, facts, _anyres(facts.size, facts.pinpoints, (0, 0, 0)))


def _chosen(facts: ImageFacts, aspect: Aspect, clip: bool, pictures: int) -> str:
    """How the pictures are cut: as asked, or as the checkpoint was trained."""
    if aspect == "auto" and facts.aspect == "slice" and clip:
        return "pad"
    if aspect == "auto" and facts.aspect == "anyres":
        if clip:
            return facts.frames  # as LLaVA-NeXT's video code does: every frame through the plain processor
        if facts.max_tiles and pictures > 1:
            return "pad"  # as OneVision was trained, and as both of its layouts' processors do
    return facts.aspect if aspect == "auto" else aspect


def _foresee_each(
    chat: Prepared | None, *frames: KnownFrames | Frames | None, **_: object
) -> KnownTiles | None:
    """One tile of every picture, whatever the checkpoint says."""
    known = [f for f in frames if f is not None]
    return _foreseen_each(known) if known and len(known) == len(frames) else None


@node(version=1, foresee=_foresee_each)
def pad_square(
    chat: Prepared, *frames: Frames, size: Side | None = None, background: Colour | None = None
) -> Tiles:
    """One tile per picture: the whole of it, centred on a square of the background (LLaVA-1.5, `pad`).

    chat: the checkpoint (or its tower); its facts say the tile's size, mean and std.
    frames: pictures or frames of a clip, in order.
    size: S, if not the checkpoint's.
    background: red, green, blue of 0..255, if not the checkpoint's mean.
    """
    facts = _resized("pad_square", image_facts("pad_square", chat), size)
    colour = pixels.mean_colour(facts.mean) if background is None else _checked(background)
    return _tiles("pad_square", frames, facts, _padded(facts.size, colour))


@node(version=1, foresee=_foresee_each)
def resize_crop(chat: Prepared, *frames: Frames, size: Side | None = None) -> Tiles:
    """One tile per picture: its shortest side resized to S, then the centre (CLIP's own preprocessing).

    chat: the checkpoint (or its tower); its facts say the tile's size, mean and std.
    frames: pictures or frames of a clip, in order.
    size: S, if not the checkpoint's.
    """
    facts = _resized("resize_crop", image_facts("resize_crop", chat), size)
    return _tiles("resize_crop", frames, facts, _centre(facts.size))


def _foresee_anyres(
    chat: Prepared | None,
    *frames: KnownFrames | Frames | None,
    size: int | None,
    pinpoints: tuple[str, ...] | None,
    background: Colour,
) -> KnownTiles | None:
    """The grids are chosen by the pictures' sizes, where these are known."""
    known = [f for f in frames if f is not None]
    if chat is None or not known or len(known) < len(frames):
        return None
    facts = _resized("tile_anyres", image_facts("tile_anyres", chat), size)
    canvases = facts.pinpoints if pinpoints is None else tuple(map(_canvas, pinpoints))
    return _foreseen_grids(known, facts.size, canvases)


@node(version=1, foresee=_foresee_anyres)
def tile_anyres(
    chat: Prepared,
    *frames: Frames,
    size: Side | None = None,
    pinpoints: tuple[str, ...] | None = None,
    background: Colour = (0, 0, 0),
) -> Tiles:
    """A base tile (the picture squeezed to S x S) and a grid of tiles for every picture (LLaVA-NeXT).

    The grid is cut from the canvas that keeps most of the picture, which is scaled to fit and centred on it.

    chat: the checkpoint (or its tower); its facts say the tile's size, mean, std and canvases.
    frames: pictures or frames of a clip, in order.
    size: S, if not the checkpoint's.
    pinpoints: canvases as WIDTHxHEIGHT, e.g. [336x672, 672x336], if not the checkpoint's.
    background: red, green, blue of 0..255 around the picture.
    """
    facts = _resized("tile_anyres", image_facts("tile_anyres", chat), size)
    canvases = facts.pinpoints if pinpoints is None else tuple(map(_canvas, pinpoints))
    return _tiles("tile_anyres", frames, facts, _anyres(facts.size, canvases, _checked(background)))


def image_facts(where: str, model: Prepared) -> ImageFacts:
    """How the checkpoint wants its pictures; a CheckpointError when it does not say."""
    if model.facts.image is None:
        raise CheckpointError(
            f"{where}.chat: {model.facts.name} does not say how pictures are prepared; "
            "use a checkpoint that has a preprocessor_config.json"
        )
    return model.facts.image


def _tiles(where: str, frames: Sequence[Frames], facts: ImageFacts, cutter: Cutter) -> Tiles:
    """Cut every picture; pictures of all inputs are numbered through."""
    _refuse_nothing(where, frames)
    pictures: list[Tensor] = list(chain.from_iterable(f.pictures for f in frames))
    cells: list[Pixels] = []
    layout: list[Tile] = []
    for number, picture in enumerate(pictures):
        for cell, tile in cutter(pixels.as_array(picture)):
            cells.append(cell)
            layout.append(replace(tile, frame=number))
    sizes = {(cell.shape[1], cell.shape[0]) for cell in cells}
    _check_one_size(where, sizes)
    return Tiles(
        pixels.normalise(cells, facts.mean, facts.std),
        tuple(layout),
        tuple(chain.from_iterable(f.sizes for f in frames)),
        tuple(float(t) for f in frames for t in f.time),
        clips=clips_of(frames),
    )


def _check_one_size(where: str, sizes: set[tuple[int, int]]) -> None:
    if len(sizes) > 1:
        shown = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise MediaError(
            f"{where}.frames: this checkpoint's pictures keep their own sizes, here {shown}, but tiles of "
            "one wire have one size; give every picture a chain of its own, up to place_tokens"
        )


def _padded(side: int, colour: Colour) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        square, left, top = pixels.square_canvas(picture, colour)
        edge = float(len(square))
        box = (-float(left), -float(top), edge - left, edge - top)
        yield pixels.resize(square, (side, side)), Tile(frame=0, box=box)

    return cutter


def _centre(side: int) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        cell, box = pixels.shortest_side_crop(picture, side)
        yield cell, Tile(frame=0, box=box)

    return cutter


def _squeezed(side: int) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        height, width = picture.shape[:2]
        yield pixels.resize(picture, (side, side)), Tile(frame=0, box=(0.0, 0.0, float(width), float(height)))

    return cutter


def _twice_resized(side: int) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        cell, box = pixels.twice_resized_crop(picture, side)
        yield cell, Tile(frame=0, box=box)

    return cutter


def _rounded(facts: ImageFacts) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        height, width = picture.shape[:2]
        size = _rounded_size(facts, (width, height))
        yield pixels.resize(picture, size), Tile(frame=0, box=(0.0, 0.0, float(width), float(height)))

    return cutter


def _rounded_size(facts: ImageFacts, size: tuple[int, int]) -> tuple[int, int]:
    return pixels.rounded_size(size, facts.multiple, facts.min_pixels, facts.max_pixels)


def _anyres(side: int, canvases: Sequence[anyres.Size], colour: Colour) -> Cutter:
    def cutter(picture: Pixels) -> Iterator[tuple[Pixels, Tile]]:
        height, width = picture.shape[:2]
        canvas = anyres.select_best_resolution((width, height), canvases)
        places = list(anyres.cells((width, height), canvas, side))
        fit = anyres.letterbox((width, height), canvas)
        whole = (0.0, 0.0, float(width), float(height))
        yield pixels.resize(picture, (side, side)), Tile(frame=0, box=whole, whole=True)
        scaled = pixels.resize(picture, fit.scaled)
        cells = pixels.cut(pixels.paste(scaled, canvas, fit.left, fit.top, colour), side)
        for cell, (row, col, box) in zip(cells, places, strict=True):
            yield cell, Tile(frame=0, row=row, col=col, box=box)

    return cutter


def _refuse_nothing(where: str, frames: Sequence[Frames]) -> None:
    if not frames:
        raise MediaError(f"{where}.frames: nothing is connected; wire at least one picture or clip")


def _refuse_clips(frames: Sequence[Frames]) -> None:
    if any(f.clip for f in frames):
        raise MediaError(
            "preprocess.frames: a clip, but of this checkpoint's family (Qwen2.5-VL) only pictures are "
            "supported; wire load_image"
        )


def _resized(where: str, facts: ImageFacts, size: int | None) -> ImageFacts:
    if size is None and not facts.size:
        raise CheckpointError(
            f"{where}: this checkpoint's pictures keep their own sizes and have no side S; use preprocess "
            "with aspect: auto"
        )
    return facts if size is None else replace(facts, size=size)


def _checked(colour: Colour) -> Colour:
    if any(not 0 <= part <= 255 for part in colour):
        raise MediaError(f"background: {list(colour)}, wanted red, green and blue of 0..255")
    return colour


def _canvas(text: str) -> anyres.Size:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise MediaError(f"tile_anyres.pinpoints: {text!r}, wanted WIDTHxHEIGHT such as '672x336'")
    return int(found[1]), int(found[2])
