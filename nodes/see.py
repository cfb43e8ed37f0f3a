"""Pictures of what a method keeps and attends to: tokens and attention over frames, and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import torch
from torch import Tensor

from ..runtime import tower_attention
from ..runtime.errors import MediaError, WiringError
from ..runtime.figure import Figure, Panel, panel_side
from ..runtime.foreseen import KnownFrames, KnownTokens
from ..runtime.ground import ground, marked_patch, plain_panel
from ..runtime.heat import bar_of, heated, over_patches
from ..runtime.needs import Needs
from ..runtime.node import node
from ..runtime.overlay import (
    TINT,
    Marked,
    counted,
    frame_label,
    label_of,
    panels_of,
    segment_colours,
    shown_views,
    together,
)
from ..runtime.patch_boxes import View, patches_at, views_of
from ..runtime.values import Frames, Picture, Segments, Source, Tokens
from ..runtime.widgets import Range

Index = Annotated[int, Range(0)]
Most = Annotated[int, Range(1)]
Side = Annotated[int, Range(48, 4096)]
Columns = Annotated[int, Range(0)]
Tint = Annotated[float, Range(0, 1)]
MOST_PIXELS = 100_000_000  # of all panels: 300 MB
Attention = Literal["received", "cls", "row"]


def _foresee_overlay(
    tokens: KnownTokens | None, *frames: KnownFrames | Frames | None, picture: int | None, **_: object
) -> None:
    _foresee_picture("overlay_tokens", frames, picture)


@node(version=1, foresee=_foresee_overlay)
def overlay_tokens(
    tokens: Tokens,
    *frames: Frames,
    picture: Index | None = None,
    tint: Tint = TINT,
    numbers: bool = True,
    most: Most = 36,
    side: Side | None = None,
    columns: Columns = 0,
    title: str = "",
) -> Picture:
    """What each token stands for, drawn over the pictures: kept, merged into what, dropped; with a legend.

    Patches lie where the tower saw them: through every resize, pad, crop and tile. A picture's grid of tiles
    and its whole view are panels of their own. Tokens of one kind differ in shade; a white dot is the patch
    that others were merged into. A patch that several tokens share has the colour of the one in which it
    weighs most. Errors: WiringError for pictures that the tokens are not of.

    tokens: of any stage: patches, merged, projected, or left in the language model (read_tokens).
    frames: the pictures that the tiles were made of, in the same order.
    picture: only this one, from 0; null: all.
    tint: how strong the colours are over what is merged; 0 leaves lines alone.
    numbers: the row of its token on every merged patch, where patches are large enough.
    most: panels at most; of more, evenly spaced ones.
    side: longest side of a panel in pixels; null: less for many panels.
    columns: panels in a row; 0: as many as look best.
    title: empty: how many tokens there are for how many patches.
    """
    pictures, clip = _pictures("overlay_tokens", tokens.source, frames)
    _check_picture("overlay_tokens", picture, len(pictures))
    views = shown_views(tokens.source, picture, most)
    marked = Marked.of(tokens, tint, numbers=numbers)
    drawn = panels_of(marked, pictures, views, _side("overlay_tokens", side, len(views)), clip)
    return Figure(
        panels=drawn.panels,
        title=title or f"{counted(len(tokens), 'token', 'tokens')} for {len(tokens.source)} patches",
        legend=marked.legend(drawn.unseen, drawn.numbered),
        columns=columns,
        unit=together(tokens.source),
    ).picture()


def _foresee_attention(
    patches: KnownTokens | None,
    *frames: KnownFrames | Frames | None,
    view: Attention,
    index: int,
    tile: int,
    point: tuple[int, int] | None,
    picture: int | None,
    **_: object,
) -> None:
    _foresee_picture("overlay_attention", frames, picture)
    sizes = [some.sizes for some in frames if some is not None and some.sizes is not None]
    if view == "row" and point is not None and len(sizes) == len(frames):
        _check_point(point, picture or 0, list(chain.from_iterable(sizes))[picture or 0])
    if patches is not None and view == "row" and point is None:
        for name, came, end in (("tile", tile, patches.tiles), ("index", index, _area(patches.patches))):
            if end is not None and came >= end:
                raise WiringError(f"overlay_attention.{name}: {came} is outside 0..{end - 1}")


def _area(grid: tuple[int, int] | None) -> int | None:
    return None if grid is None else grid[0] * grid[1]


@node(version=1, foresee=_foresee_attention)
def overlay_attention(
    patches: Annotated[
        Tokens,
        Needs("attention", layer="layer", when={"view": "row"}),
        Needs("attention", layer="layer", when={"view": "received"}),
        Needs("cls_attention", layer="layer", when={"view": "cls"}),
    ],
    *frames: Frames,
    view: Attention = "received",
    index: Index = 0,
    tile: Index = 0,
    point: tuple[int, int] | None = None,
    layer: int = -2,
    picture: Index | None = None,
    smooth: bool | None = None,
    alpha: Tint = 0.6,
    palette: Literal["plasma", "grey"] = "plasma",
    most: Most = 36,
    side: Side | None = None,
    columns: Columns = 0,
    title: str = "",
) -> Picture:
    """The tower's attention over the pictures, at the true places of the patches, with its scale.

    Both views of VisionZip's visualiser and that of [CLS]; a patch's number does not count [CLS], and the
    colours of all panels have one scale. Errors: WiringError for pictures that the patches are not of,
    NeedError for a patch that no token stands for. Source: VisionZip's demo; `heatmap_overlay` draws as it
    does.

    patches: as encode_vision returns them.
    frames: the pictures that the tiles were made of, in the same order.
    view: `received`: what each patch receives, mean over all patches of its tile; `cls`: what [CLS] attends
        to, sum over heads; `row`: what one patch attends to, mean over heads.
    index: the patch whose row is shown, from 0, row by row.
    tile: the tile of `index`.
    point: x, y in pixels of the picture, instead of `index` and `tile`: the patch that shows it, in the grid.
    layer: of the tower, numbered as hidden_states.
    picture: only this one, from 0; null: all, or with `row` that of its patch. `point` is in it, or in the
        first.
    smooth: blend between patches, or not; null: a `row` alone is smooth, as in the visualiser.
    alpha: 0 shows the picture alone, 1 the colours alone.
    palette: colours from low to high.
    most: panels at most; of more, evenly spaced ones.
    side: longest side of a panel in pixels; null: less for many panels.
    columns: panels in a row; 0: as many as look best.
    title: empty: what is shown.
    """
    where, source = "overlay_attention", patches.source
    pictures, clip = _pictures(where, source, frames)
    _check_picture(where, picture, len(pictures))
    patch = -1
    if view == "row":
        patch = _pointed(source, picture or 0, point) if point else -1
        patch = tower_attention.patch_of(where, patches, tile, index) if patch < 0 else patch
        value_P = tower_attention.row_view(where, patches, patch, layer)
        views: tuple[View, ...] = tuple(v for v in views_of(source) if patch // source.per_tile in v.tiles)
    else:
        read = tower_attention.cls_view if view == "cls" else tower_attention.received_view
        value_P = read(where, patches, layer)
        views = shown_views(source, picture, most)
    known = value_P[~value_P.isnan()]
    span = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    blend = view == "row" if smooth is None else smooth
    panels, long = list[Panel](), _side(where, side, len(views))
    for one in views:
        base = ground(source, one, pictures[one.frame], long)
        pixels = heated(base, over_patches(base, source, value_P, blend), span, alpha, palette)
        label = label_of(source, one, clip) if len(views_of(source)) > 1 else ""
        panels.append(Panel(marked_patch(base, pixels, patch).numpy(), label))
    return Figure(
        panels=panels,
        title=title or _attention_title(source, view, patch, layer),
        bar=bar_of(span, palette, "attention"),
        columns=columns,
        unit=together(source) if view != "row" else 1,
    ).picture()


def _pointed(source: Source, picture: int, point: tuple[int, int]) -> int:
    """The patch that shows a point of a picture, in the grid rather than in the whole view."""
    _check_point(point, picture, source.sizes[picture])
    x, y = (torch.tensor([value + 0.5], dtype=torch.float64) for value in point)
    found = [
        int(patches_at(source, view.tiles, x, y)[0])
        for view in views_of(source)
        if view.frame == picture and not view.copy
    ]
    if max(found, default=-1) < 0:
        raise WiringError(
            f"overlay_attention.point: {point[0]}, {point[1]} lies where no tile of picture {picture} looks, "
            "they crop it; give a point nearer to its middle"
        )
    return [patch for patch in found if patch >= 0][-1]


def _check_point(point: tuple[int, int], picture: int, size: tuple[int, int]) -> None:
    if not (0 <= point[0] < size[0] and 0 <= point[1] < size[1]):
        raise WiringError(
            f"overlay_attention.point: {point[0]}, {point[1]} is not on picture {picture}, which is "
            f"{size[0]}x{size[1]}; give x, y in its pixels, from 0"
        )


def _attention_title(source: Source, view: Attention, patch: int, layer: int) -> str:
    if view == "row":
        tile, index = divmod(patch, source.per_tile)
        row, col = divmod(index, source.cols)
        of = f" of tile {tile}" if len(source.tiles) > 1 else ""
        return f"What patch {index}{of} (row {row}, column {col}) attends to in layer {layer}"
    what = "What [CLS] attends to" if view == "cls" else "What each patch receives from all patches"
    return f"{what} in layer {layer}"


@node(version=1)
def contact_sheet(
    frames: Frames,
    segments: Segments | None = None,
    tokens: Tokens | None = None,
    *,
    most: Most = 64,
    side: Side | None = None,
    columns: Columns = 0,
    title: str = "",
) -> Picture:
    """The frames of a clip side by side in time, the segments of it as coloured bars above them.

    Errors: WiringError for segments or tokens of other frames.

    frames: of the clip.
    segments: as cluster_temporal makes them of the same frames.
    tokens: drawn over the frames, as overlay_tokens does; without them the frames are shown alone.
    most: frames at most; of more, evenly spaced ones.
    side: longest side of a frame in pixels; null: less for many frames.
    columns: frames in a row; 0: as many as look best.
    title: empty: how many frames, segments and tokens there are.
    """
    count = len(frames)
    if segments is not None and segments.frames != count:
        raise WiringError(
            f"contact_sheet.segments: of {segments.frames} frames, but {count} came; wire the segments that "
            "cluster_temporal made of the same clip"
        )
    numbers = list(range(count)) if count <= most else [i * count // most for i in range(most)]
    long = _side("contact_sheet", side, len(numbers))
    legend, of_frame = [], segments.of_frame.tolist() if segments is not None else [-1] * count
    if tokens is None:
        panels = [Panel(plain_panel(frames.pictures[n], long), frame_label(frames, n)) for n in numbers]
    else:
        pictures, clip = _pictures("contact_sheet", tokens.source, [frames])
        views = [view for view in views_of(tokens.source) if view.frame in set(numbers)]
        marked = Marked.of(tokens)
        drawn = panels_of(marked, pictures, views, long, clip)
        panels, legend = drawn.panels, marked.legend(drawn.unseen, drawn.numbered)
        numbers = [view.frame for view in views]
    panels = [Panel(panel.pixels, panel.label, of_frame[n]) for panel, n in zip(panels, numbers, strict=True)]
    return Figure(
        panels=panels,
        title=title or _sheet_title(count, segments, tokens),
        legend=legend,
        columns=columns,
        groups=segment_colours(segments) if segments is not None else {},
    ).picture()


def _sheet_title(count: int, segments: Segments | None, tokens: Tokens | None) -> str:
    parts = [counted(count, "frame", "frames")]
    parts += [f"in {counted(len(segments), 'segment', 'segments')}"] if segments is not None else []
    text = " ".join(parts)
    return text if tokens is None else f"{text}, {counted(len(tokens), 'token', 'tokens')}"


def _side(where: str, side: int | None, panels: int) -> int:
    """The longest side of a panel. Errors: MediaError when all of them would fill the memory."""
    chosen = side or panel_side(panels)
    if panels * chosen**2 > MOST_PIXELS:
        raise MediaError(
            f"{where}.side: {counted(panels, 'panel', 'panels')} of {chosen} x {chosen} pixels are more than "
            f"{MOST_PIXELS // 10**6} million; lower side, or most"
        )
    return chosen


def _pictures(where: str, source: Source, frames: Sequence[Frames]) -> tuple[list[Tensor], bool]:
    """The pictures, and whether they are moments of a clip. Errors: WiringError for other pictures."""
    pictures = list(chain.from_iterable(some.pictures for some in frames))
    sizes = tuple((picture.shape[1], picture.shape[0]) for picture in pictures)
    if sizes != source.sizes:
        came, wanted = _sizes_text(sizes), _sizes_text(source.sizes)
        raise WiringError(
            f"{where}.frames: {came}, but the tokens are of {wanted}; wire the frames that their tiles were "
            "made of, in the same order"
        )
    return pictures, any(some.clip for some in frames)


def _sizes_text(sizes: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{width}x{height}" for width, height in dict.fromkeys(sizes))
    return f"{counted(len(sizes), 'picture', 'pictures')}" + (f" of {shown}" if shown else "")


def _foresee_picture(where: str, frames: Sequence[KnownFrames | Frames | None], picture: int | None) -> None:
    known = [len(some) for some in frames if some is not None]
    if len(known) == len(frames):
        _check_picture(where, picture, sum(known))


def _check_picture(where: str, picture: int | None, count: int) -> None:
    if picture is not None and picture >= count:
        raise MediaError(f"{where}.picture: {picture} is outside 0..{count - 1}; they count from 0")
