"""Choose by hand which tokens reach the language model: by number, or by painting (VisionZip's chat demo)."""

# N = tokens, P = patches of all tiles

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor

from ..runtime.context import current
from ..runtime.errors import BudgetError, WiringError
from ..runtime.foreseen import KnownFrames, KnownPair, KnownTokens
from ..runtime.node import node
from ..runtime.painted import Mask, Painted, check_masks, check_paint, painted_patches, read_masks
from ..runtime.values import Frames, Kind, Source, Table, Tokens
from ..runtime.widgets import Range
from .select import Picked, check_cls

Index = Annotated[int, Range(0)]
Indices = Annotated[tuple[int, ...], Range(0)]
Level = Annotated[int, Range(1, 255)]
Part = Annotated[float, Range(0, 1)]
TokensT = TypeVar("TokensT", bound=Tokens)


def _foresee_mask(
    mask: KnownFrames | Frames | None,
    tokens: KnownTokens | None,
    *,
    tile: int | None,
    threshold: int,
    share: float,
    stretch: bool,
) -> None:
    """A mask of another size than its picture is refused before the tower runs, where both are known."""
    if tokens is None or tokens.sizes is None or mask is None or mask.sizes is None:
        return
    blank = [Mask(_name(i, len(mask)), torch.zeros(1).expand(h, w)) for i, (w, h) in enumerate(mask.sizes)]
    check_masks("mask_to_indices.mask", blank, tokens.sizes, Painted(stretch=stretch))


@node(version=2, foresee=_foresee_mask)
def mask_to_indices(
    mask: Frames,
    tokens: Tokens,
    *,
    tile: Index | None = None,
    threshold: Level = 1,
    share: Part = 0.0,
    stretch: bool = False,
) -> Table:
    """The patches that somebody painted on and that tokens stand for, ascending: a table for `select_manual`.

    Errors: MediaError for a mask of another size than its picture, and when no patch is painted.
    Source: VisionZip's chat demo, which ignores that the model pads the picture.

    mask: black where nothing is painted; one for all pictures, or one for each. A file with alpha is read by
        `select_manual.mask`.
    tokens: they know where each patch lies in its picture, through every pad, resize, crop and tile.
    tile: only this one's patches; null: those of all tiles.
    threshold: brightness from which a pixel is painted.
    share: part of the patch that must be painted; 0: any of it.
    stretch: the mask was painted on a squeezed copy of the picture, as in the released demo.
    """
    masks = [Mask(_name(i, len(mask)), picture.amax(2)) for i, picture in enumerate(mask.pictures)]
    how = Painted(threshold=threshold, share=share, stretch=stretch)
    if tile is not None and tile >= len(tokens.source.tiles):
        raise WiringError(f"mask_to_indices.tile: {tile} is outside 0..{len(tokens.source.tiles) - 1}")
    patches = painted_patches("mask_to_indices.mask", masks, tokens.source, how)
    if tile is not None:
        patches = patches[patches // tokens.source.per_tile == tile]
    left = patches[_covered(tokens)[patches.to(tokens.device)].cpu()]
    return Table(("patch",), tuple((patch,) for patch in left.tolist()), "patches")


def _name(number: int, count: int) -> str:
    return "the mask" if count == 1 else f"mask {number}"


def _foresee(
    tokens: KnownTokens | None,
    chosen: Table | None,
    *,
    indices: tuple[int, ...] | None,
    mask: Path | tuple[Path, ...] | None,
    each_tile: bool,
    threshold: int,
    share: float,
    stretch: bool,
    include_cls: bool,
    order: str,
) -> KnownPair | None:
    _check_given(indices, mask, _wired(chosen))
    _check_once(indices or ())
    masks = _read(mask)
    how = Painted(threshold=threshold, share=share, stretch=stretch)
    if masks is not None:
        check_paint(MASK, masks, how)
    if tokens is None:
        return None
    check_cls("select_manual", include_cls, tokens.cls_token, tokens.cls_scores)
    if masks is not None and tokens.sizes is not None:
        check_masks(MASK, masks, tokens.sizes, how)
    tiles = 1 if each_tile else tokens.tiles
    if indices and tokens.patches is not None and tiles is not None:
        _check_range(indices, tiles, *tokens.patches)
    if tokens.complete is False:
        raise BudgetError(
            "select_manual.tokens: patches were dropped before, and which is only known when it runs; "
            "wire select_manual to encode_vision, or to tokens that were merged and not dropped"
        )
    exact = tokens.grid and tiles == 1 and mask is None and not _wired(chosen)
    return _known(tokens, indices if exact else None, include_cls)


def _known(tokens: KnownTokens, indices: tuple[int, ...] | None, include_cls: bool) -> KnownPair:
    """What is known of both outputs. indices: all that is chosen of each tile, None: not known."""
    varies = tokens.varies or indices is None
    some = replace(tokens, per_tile=None, grid=False, complete=False, varies=varies)
    kept, rest = replace(some, cls_token=tokens.cls_token and include_cls), replace(some, cls_token=False)
    if indices is None or tokens.per_tile is None or tokens.cls_token is None:
        return KnownPair(kept=kept, rest=rest)
    return KnownPair(
        kept=replace(kept, per_tile=len(indices) + bool(kept.cls_token)),
        rest=replace(rest, per_tile=tokens.per_tile - len(indices) - tokens.cls_token),
    )


@node(version=1, foresee=_foresee)
def select_manual(
    tokens: TokensT,
    chosen: Table | None = None,
    *,
    indices: Indices | None = None,
    mask: Path | tuple[Path, ...] | None = None,
    each_tile: bool = False,
    threshold: Level = 1,
    share: Part = 0.0,
    stretch: bool = False,
    include_cls: bool = False,
    order: Literal["given", "source"] = "given",
) -> Picked[TokensT]:
    """The tokens of the patches that a person chose, by number or by painting on the picture, and all others.

    A token that stands for several patches is taken with any of them. `chosen`, `mask` and `indices` add up;
    a patch that more than one of them names is taken once. Errors: WiringError for a number twice among
    `indices` or beyond the last patch, BudgetError for a patch that no token stands for, MediaError for a
    mask of another size than its picture or without paint. Source: VisionZip's chat demo.

    chosen: a table of patch numbers, as mask_to_indices makes it.
    indices: patch numbers from 0, row by row, tile by tile; [CLS] has none. [] chooses nothing, which sends
        no picture at all.
    mask: a picture file of the picture's size, painted where tokens shall stay: by its alpha or, if it is
        opaque, by its brightness; a list or a folder gives every picture (or frame) its own.
    each_tile: `indices` count within one tile, and are taken of every tile (or frame).
    threshold: alpha or brightness from which a pixel of the mask is painted.
    share: part of a patch that must be painted; 0: any of it, as in the released demo.
    stretch: the mask was painted on a squeezed copy of the picture, as in the released demo.
    include_cls: send [CLS] too; otherwise it goes, and is not in the rest either.
    order: given: [CLS] first, then patches of `chosen` and `mask`, then `indices` as listed (as released);
        source: as the tower had them.
    """
    masks = _read(mask)
    _check_given(indices, mask, chosen is not None)
    special_N = tokens.kind == int(Kind.CLS)
    check_cls("select_manual", include_cls, bool(special_N.any()), None)
    how = Painted(threshold=threshold, share=share, stretch=stretch)
    wanted = [
        _listed(tokens, chosen),
        _painted(tokens, masks, how),
        _numbered(tokens, indices or (), each_tile),
    ]
    row = _rows(tokens, torch.cat([part.to(tokens.device) for part in wanted]))
    kept_N = special_N.clone() if include_cls else torch.zeros_like(special_N)
    kept_N[row] = True
    if order == "given":
        kept = tokens.select(torch.cat([special_N.nonzero()[:, 0], row]) if include_cls else row)
    else:
        kept = tokens.select(kept_N)
    return Picked(kept, tokens.select(~kept_N & ~special_N))


MASK = "select_manual.mask"


def _wired(chosen: Table | None) -> bool:
    """While planning: a table comes, or will."""
    return chosen is not None or "chosen" in current().wired


def _read(mask: Path | tuple[Path, ...] | None) -> list[Mask] | None:
    return None if mask is None else read_masks(MASK, mask)


def _listed(tokens: Tokens, chosen: Table | None) -> Tensor:
    """[n] long: the numbers in the table's column `patch`."""
    if chosen is None:
        return torch.zeros(0, dtype=torch.long)
    at = chosen.columns.index("patch") if "patch" in chosen.columns else -1
    numbers = [row[at] for row in chosen.rows]
    if at < 0 or not all(isinstance(number, int) for number in numbers):
        raise WiringError(
            f"select_manual.chosen: a table of {', '.join(chosen.columns) or 'no columns'}, wanted a column "
            "'patch' of patch numbers, as mask_to_indices makes it"
        )
    patches = torch.tensor(numbers, dtype=torch.long)
    _check_there(tokens, patches, "chosen")
    return patches


def _painted(tokens: Tokens, masks: Sequence[Mask] | None, how: Painted) -> Tensor:
    """[n] long: the painted patches that some token stands for, ascending."""
    if masks is None:
        return torch.zeros(0, dtype=torch.long)
    patches = painted_patches(MASK, masks, tokens.source, how).to(tokens.device)
    left = patches[_covered(tokens)[patches]]
    if not len(left):
        raise BudgetError(
            f"{MASK}: no token stands for any of the {len(patches)} painted patches; they were dropped "
            "before; wire select_manual to encode_vision, or paint elsewhere"
        )
    return left


def _numbered(tokens: Tokens, indices: tuple[int, ...], each_tile: bool) -> Tensor:
    """[n] long: patch numbers of the whole source."""
    _check_once(indices)
    patches, tiles = torch.tensor(indices, dtype=torch.long), len(tokens.source.tiles)
    if not each_tile:
        _check_there(tokens, patches, "indices")
        return patches
    _check_range(indices, 1, tokens.source.rows, tokens.source.cols)
    patches = (torch.arange(tiles)[:, None] * tokens.source.per_tile + patches).flatten()
    _check_there(tokens, patches, "indices")
    return patches


def _rows(tokens: Tokens, patches: Tensor) -> Tensor:
    """[n] long: the tokens that stand for any of the patches, each once, in the order of these."""
    n = len(patches)
    place_P = torch.full((len(tokens.source),), n, device=tokens.device)
    place_P.scatter_reduce_(0, patches, torch.arange(n, device=tokens.device), "amin")
    place_N = torch.full((len(tokens),), n, device=tokens.device)
    place_N.scatter_reduce_(0, tokens.owner, place_P[tokens.member], "amin")
    order = place_N.argsort(stable=True)
    return order[: int((place_N < n).sum())]


def _covered(tokens: Tokens) -> Tensor:
    """[P] bool: whether a token stands for the patch."""
    out = torch.zeros(len(tokens.source), dtype=torch.bool, device=tokens.device)
    out[tokens.member] = True
    return out


def _check_given(indices: object, mask: object, chosen: bool) -> None:
    if indices is None and mask is None and not chosen:
        raise WiringError(
            "select_manual: nothing is chosen; set indices to patch numbers such as [0, 1], or mask to a "
            "picture that is painted where tokens shall stay"
        )


def _check_once(indices: tuple[int, ...]) -> None:
    twice = [index for index, times in Counter(indices).items() if times > 1]
    if twice:
        more = f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""
        raise WiringError(f"select_manual.indices: patch {twice[0]} is given twice{more}; name each once")


def _check_range(indices: Sequence[int], tiles: int, rows: int, cols: int) -> None:
    last = tiles * rows * cols - 1
    if max(indices, default=0) > last:
        what = f"{rows} x {cols} patches" if tiles == 1 else f"{tiles} tiles of {rows} x {cols} patches"
        raise WiringError(f"select_manual.indices: {max(indices)} is outside 0..{last} ({what})")


def _check_there(tokens: Tokens, patches: Tensor, name: str) -> None:
    """An error for the first patch that the source does not have, or no token stands for."""
    source: Source = tokens.source
    if not len(patches):
        return
    if name == "indices":
        _check_range(patches.tolist(), len(source.tiles), source.rows, source.cols)
    outside = (patches < 0) | (patches >= len(source))
    gone = outside | ~_covered(tokens).cpu()[patches.masked_fill(outside, 0)]
    if bool(gone.any()):
        raise BudgetError(
            f"select_manual.{name}: no token stands for patch {int(patches[gone.nonzero()[0, 0]])}; it was "
            "dropped before, or is none of this picture's; choose others, or wire select_manual to "
            "encode_vision"
        )
