"""Cut pictures into crops and a global view, as many as their shape asks for (TokenPacker-HD)."""

from __future__ import annotations

from typing import Annotated

from ..runtime import slicing
from ..runtime.errors import CheckpointError, MediaError
from ..runtime.foreseen import KnownFrames, KnownTiles
from ..runtime.models.handle import ImageFacts
from ..runtime.node import node
from ..runtime.slicing import MOST, GlobalSource, Slicing
from ..runtime.values import Frames, Tiles
from ..runtime.widgets import Range
from .tile import Prepared, image_facts

Most = Annotated[int, Range(1, MOST)]


def _foresee(
    chat: Prepared | None,
    *frames: KnownFrames | Frames | None,
    patch_num: int | None,
    global_source: GlobalSource,
    antialias: bool,
    max_upscale: float | None,
) -> KnownTiles | None:
    """The crops are counted from the pictures' sizes, where these are known."""
    if chat is None:
        return None
    facts = image_facts("slice_hd", chat)
    how = _slicing(facts, patch_num, global_source, antialias, max_upscale)
    return slicing.foreseen(frames, how)


@node(version=1, foresee=_foresee)
def slice_hd(
    chat: Prepared,
    *frames: Frames,
    patch_num: Most | None = None,
    global_source: GlobalSource = "canvas",
    antialias: bool = False,
    max_upscale: Annotated[float, Range(0)] | None = None,
) -> Tiles:
    """Every picture on the grid of crops that its shape fills best, row by row, and then a global view of it.

    The picture lies at the top left, the rest is the mean colour; on a grid of one crop there is no global
    view. Grids are any of at most `patch_num` crops that are no more than 9 times longer than wide. Small
    pictures are enlarged to fill them. Errors: CheckpointError for pictures of their own size. Source:
    TokenPacker-HD's released code, which differs from its paper in `global_source`.

    chat: the checkpoint (or its tower); its facts say the crops' size, mean and std.
    frames: pictures, in order; frames of a clip are cut up like pictures.
    patch_num: crops at most, the global view not counted; null: the checkpoint's, or else 9.
    global_source: `canvas`: the global view is the padded canvas squeezed, as released checkpoints were
        trained; `image`: the picture itself, undistorted.
    antialias: resize as with filters, without the released code's aliasing when pictures shrink.
    max_upscale: grids are left out that would enlarge the picture more than so many times; one crop is
        always allowed.
    """
    facts = image_facts("slice_hd", chat)
    how = _slicing(facts, patch_num, global_source, antialias, max_upscale)
    if not frames:
        raise MediaError("slice_hd.frames: nothing is connected; wire at least one picture")
    return slicing.sliced(frames, how, facts.mean, facts.std)


def _slicing(
    facts: ImageFacts,
    patch_num: int | None,
    global_source: GlobalSource,
    antialias: bool,
    max_upscale: float | None,
) -> Slicing:
    if not facts.size:
        raise CheckpointError(
            "slice_hd: this checkpoint's pictures keep their own sizes and have no side S; use preprocess "
            "with aspect: auto"
        )
    return Slicing.of(facts, patch_num, source=global_source, antialias=antialias, max_upscale=max_upscale)
