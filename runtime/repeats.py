"""PVC's frame plan: which tiles are repeated how often, and which of them are the frames of which sequence.

A tile of a picture is a video of its own, that shows the same all the time; a clip is one video. Source:
PVC's README and specs/pvc.md, section 5.1; the order of copies is a proposal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from .errors import MediaError
from .values import Tile, Tiles

Flag = Literal["auto", "single", "multi", "video"]
Way = Literal["tile", "frame"]
Cells = Literal["apart", "together"]


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """How often tiles of pictures and of clips are repeated, and in which order.

    way: `tile`: all copies of a tile, then the next; `frame`: all tiles, then again. cells: frames of a clip
    that have several tiles each: one sequence for each place in the frame, or one of all.
    """

    flag: Flag = "auto"
    image: int = 4
    video: int = 1
    way: Way = "tile"
    cells: Cells = "apart"


def repeated(tiles: Tiles, how: Repeating) -> Tiles:
    """The frames that the tower is to see, each with its sequence and its number there; pixels are shared.

    Errors: MediaError for tiles that are repeated already, pictures that do not go with the flag, and frames
    of a clip that are not cut alike.
    """
    if tiles.shown:
        raise MediaError("repeat_frames.tiles: they are repeated already; wire the tiles themselves")
    clips = _clips(tiles, how.flag)
    _check_cells(tiles.layout, clips, how.cells)
    number: dict[Hashable, int] = {}
    frames: Counter[Hashable] = Counter()
    shown, layout, keys = list[int](), list[Tile](), list[Hashable]()
    for row in _order(tiles.layout, clips, how):
        tile = tiles.layout[row]
        key = _sequence(row, tile, clips, how.cells)
        sequence = number.setdefault(key, len(number))
        layout.append(replace(tile, sequence=sequence, time=frames[key]))
        shown.append(row)
        keys.append(key)
        frames[key] += 1
    layout = [replace(tile, length=frames[key]) for tile, key in zip(layout, keys, strict=True)]
    same = shown == list(range(len(tiles)))
    return replace(tiles, layout=tuple(layout), shown=() if same else tuple(shown))


def _clips(tiles: Tiles, flag: Flag) -> tuple[int, ...]:
    """The number of the clip of every picture, -1 for a picture in its own right."""
    pictures = len(tiles.sizes)
    if flag == "single" and pictures > 1:
        raise MediaError(
            f"repeat_frames.data_flag: single, but {pictures} pictures came; set multi, or video for "
            "the frames of a clip"
        )
    if flag in ("single", "multi"):
        return (-1,) * pictures
    if flag == "auto":
        return tiles.clips or (-1,) * pictures
    if not tiles.clips:
        return (0,) * pictures
    if -1 in tiles.clips:
        raise MediaError(
            f"repeat_frames.data_flag: video, but picture {tiles.clips.index(-1)} is no frame of a clip; set "
            "auto, or give it a wire of its own"
        )
    return tiles.clips


def _order(layout: Sequence[Tile], clips: Sequence[int], how: Repeating) -> Iterator[int]:
    """The tiles' numbers in the order of the frames: neighbouring pictures at once, clips frame by frame."""

    def block(row: int) -> tuple[int, int]:
        frame = layout[row].frame
        return clips[frame], -1 if clips[frame] < 0 else frame

    for (clip, _), rows in groupby(range(len(layout)), key=block):
        times, members = (how.image if clip < 0 else how.video), list(rows)
        if how.way == "frame":
            yield from members * times
        else:
            yield from (row for row in members for _ in range(times))


def _sequence(row: int, tile: Tile, clips: Sequence[int], cells: Cells) -> Hashable:
    clip = clips[tile.frame]
    if clip < 0:
        return "picture", row
    return ("clip", clip) if cells == "together" else ("clip", clip, tile.row, tile.col, tile.whole)


def _check_cells(layout: Sequence[Tile], clips: Sequence[int], cells: Cells) -> None:
    """A MediaError for frames of one clip with other places than its first: no sequence could follow."""
    if cells == "together":
        return
    first: dict[int, tuple[int, list[tuple[int, int, bool]]]] = {}
    for frame, tiles in groupby(layout, key=lambda tile: tile.frame):
        if clips[frame] < 0:
            continue
        places = [(tile.row, tile.col, tile.whole) for tile in tiles]
        model, wanted = first.setdefault(clips[frame], (frame, places))
        if places != wanted:
            came, first_came = f"{len(places)} tiles", f"{len(wanted)}"
            if len(places) == len(wanted):
                came, first_came = f"{came} in {_rows(places)}", f"them in {_rows(wanted)}"
            raise MediaError(
                f"repeat_frames.tiles: frame {frame} of a clip has {came}, frame {model} has {first_came}; "
                "cut all frames alike (max_num: 1), or set cells: together"
            )


def _rows(places: Sequence[tuple[int, int, bool]]) -> str:
    count = 1 + max(row for row, _, whole in places if not whole)
    return "1 row" if count == 1 else f"{count} rows"
