"""Cut pictures into as many tiles as their shape asks for, and a thumbnail (InternVL)."""

from __future__ import annotations

from typing import Annotated

from ..runtime import dynamic
from ..runtime.dynamic import Tiling
from ..runtime.errors import CheckpointError, MediaError
from ..runtime.foreseen import KnownFrames, KnownTiles
from ..runtime.node import node
from ..runtime.values import Frames, Tiles
from ..runtime.widgets import Range
from .tile import Prepared, image_facts

Most = Annotated[int, Range(1, 4096)]


def _foresee(
    chat: Prepared | None,
    *frames: KnownFrames | Frames | None,
    max_num: int | None,
    min_num: int | None,
    thumbnail: bool | None,
) -> KnownTiles | None:
    """The tiles are counted from the pictures' sizes, where these are known."""
    if chat is None:
        return None
    return dynamic.foreseen(frames, _tiling(chat, max_num, min_num, thumbnail))


@node(version=1, foresee=_foresee)
def tile_dynamic(
    chat: Prepared,
    *frames: Frames,
    max_num: Most | None = None,
    min_num: Most | None = None,
    thumbnail: bool | None = None,
) -> Tiles:
    """Every picture squeezed onto the grid of tiles nearest its shape: row by row, then a thumbnail of it.

    A grid of one tile has no thumbnail. Bit for bit as InternVL's and PVC's released `dynamic_preprocess`.
    Errors: CheckpointError for pictures of their own size, MediaError for min_num over max_num.

    chat: the checkpoint (or its tower); its facts say the tile's size, mean and std.
    frames: pictures or frames of a clip, in order.
    max_num: tiles of a picture at most, the thumbnail not counted; null: the checkpoint's, or else 12, and
        one for a frame of a clip.
    min_num: tiles of a picture at least; null: the checkpoint's, or else 1.
    thumbnail: add the whole picture as a last tile when there is more than one; null: the checkpoint's, or
        else true.
    """
    how = _tiling(chat, max_num, min_num, thumbnail)
    if not frames:
        raise MediaError("tile_dynamic.frames: nothing is connected; wire at least one picture or clip")
    facts = image_facts("tile_dynamic", chat)
    return dynamic.tiled(frames, how, facts.mean, facts.std)


def _tiling(chat: Prepared, max_num: int | None, min_num: int | None, thumbnail: bool | None) -> Tiling:
    facts = image_facts("tile_dynamic", chat)
    if not facts.size:
        raise CheckpointError(
            "tile_dynamic: this checkpoint's pictures keep their own sizes and have no side S; use "
            "preprocess with aspect: auto"
        )
    how = Tiling.of(facts, max_num, min_num, thumbnail)
    if how.least > how.most:
        raise MediaError(f"tile_dynamic.min_num: {how.least}, wanted max_num {how.most} or less")
    return how
