"""Packing: reading order, newlines, padding, with and without compression, several pictures at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.pack import append_newline, pack_flat, pack_spatial_unpad, pack_visionzip_next
from tokenloom.nodes.pool import pool_tokens
from tokenloom.nodes.project import project_mlp
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.errors import CheckpointError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.values import Kind, Source, VisualTokens

from ..towers import anyres_source, image_facts, made_patches, square_source, tiny_projector

PROJECTOR = tiny_projector("identity", inputs=6, image=image_facts("spatial_unpad"))


def full(source: Source) -> VisualTokens:
    """All patches of all tiles."""
    return project_mlp(PROJECTOR, made_patches(source, cls_token=False))


def zipped(source: Source, keep: int = 3, targets: int = 1) -> VisualTokens:
    """[CLS], dominant and contextual tokens of all tiles."""
    picked = select_dominant(made_patches(source), keep=keep)
    return project_mlp(PROJECTOR, merge_contextual(picked.kept, picked.rest, targets=targets))


def shown(tokens: VisualTokens) -> list[int | str]:
    """Patch numbers; C [CLS], N newline, X contextual."""
    names = {int(Kind.CLS): "C", int(Kind.NEWLINE): "N", int(Kind.CONTEXTUAL): "X"}
    return [
        names.get(int(kind), int(tokens.member[start]) if start < len(tokens.member) else -1)
        for kind, start in zip(tokens.kind, tokens.start[:-1], strict=True)
    ]


def test_base_tile_then_the_map_with_newlines() -> None:
    """A 2 x 1 grid of 2 x 2 patches: tiles interleave row by row, and a newline ends each row."""
    packed = pack_spatial_unpad(full(anyres_source((2, 1))), PROJECTOR)
    assert shown(packed) == [0, 1, 2, 3, 4, 5, 8, 9, "N", 6, 7, 10, 11, "N"]
    lines = packed.kind == int(Kind.NEWLINE)
    assert packed.features[lines].eq(9).all()
    assert packed.home[lines].tolist() == [2, 2]


def test_padding_goes() -> None:
    """A flat picture on a square map: its first and last row are padding."""
    source = anyres_source((2, 2), sizes=((100, 50),))
    packed = pack_spatial_unpad(full(source), PROJECTOR)
    assert shown(packed) == [0, 1, 2, 3, 6, 7, 10, 11, "N", 12, 13, 16, 17, "N"]
    coverage = packed.coverage()
    assert coverage[0].eq(1).all()
    assert coverage[1:].sum() == 8


def test_a_tall_picture_loses_columns() -> None:
    """The same on the other axis, and every row stays."""
    packed = pack_spatial_unpad(full(anyres_source((2, 2), sizes=((50, 100),))), PROJECTOR)
    assert shown(packed)[4:] == [5, 8, "N", 7, 10, "N", 13, 16, "N", 15, 18, "N"]


def test_rounding_follows_the_checkpoint_or_the_widget() -> None:
    """99 x 176 on a map of 48 x 48 is one of the sizes where LLaVA and transformers differ."""
    source = anyres_source((2, 2), rows=24, cols=24, sizes=((99, 176),))
    counts = {
        rounding: len(pack_spatial_unpad(full(source), PROJECTOR, rounding=rounding))
        for rounding in ("auto", "int", "hf")
    }
    assert counts["auto"] == counts["int"] == 576 + 48 * (26 + 1)
    assert counts["hf"] == 576 + 48 * (28 + 1)


def test_one_tile_gets_one_newline_at_its_end() -> None:
    """With and without compression."""
    source = anyres_source((0, 0))
    assert shown(pack_spatial_unpad(full(source), PROJECTOR)) == [0, 1, 2, 3, "N"]
    assert shown(pack_visionzip_next(zipped(source), PROJECTOR))[-2:] == ["X", "N"]


def test_released_order_of_compressed_tiles() -> None:
    """Base tile; the grid's patches in raster order, padding too; its [CLS] tokens; its contextual tokens."""
    source = anyres_source((2, 1), sizes=((100, 10),))
    tokens = zipped(source)
    packed = pack_visionzip_next(tokens, PROJECTOR)
    assert len(packed) == len(tokens)
    assert shown(packed)[0] == "C"
    assert shown(packed)[3] == "X"
    grid = [p for p in shown(tokens)[4:] if isinstance(p, int)]
    raster = [4, 5, 8, 9, 6, 7, 10, 11]
    assert shown(packed)[4:] == [*(p for p in raster if p in grid), "C", "C", "X", "X"]
    assert packed.home[-4:].tolist() == [1, 2, 1, 2]


def test_spatial_layout_of_compressed_tiles() -> None:
    """Newlines after rows that are not empty, and no padding."""
    source = anyres_source((2, 2), sizes=((100, 50),))
    packed = pack_visionzip_next(zipped(source, keep=4), PROJECTOR, layout="spatial")
    line = shown(packed)[5:-8]
    assert line.count("N") <= 2
    assert {p for p in line if p != "N"} <= {6, 7, 10, 11, 12, 13, 16, 17}
    assert line[-1] == "N"
    assert shown(packed)[-8:] == ["C"] * 4 + ["X"] * 4


@pytest.mark.parametrize("merge", ["spatial", "flat"])
def test_merge_types_without_newlines(merge: Any) -> None:
    """spatial: the map in raster order; flat: tile by tile; neither needs image_newline."""
    bare = tiny_projector("identity", inputs=6, newline=False, image=image_facts(merge))
    source = anyres_source((2, 1), sizes=((100, 10),))
    raster = [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]
    want = raster if merge == "spatial" else list(range(12))
    assert shown(pack_spatial_unpad(full(source), bare)) == want
    assert shown(pack_spatial_unpad(full(source), PROJECTOR, merge=merge)) == want
    assert len(pack_visionzip_next(zipped(source), bare)) == 12


def test_pictures_follow_each_other() -> None:
    """Several pictures with different grids in one value: each is packed on its own, in order."""
    source = anyres_source((2, 1), (0, 0), (1, 2))
    packed = pack_spatial_unpad(full(source), PROJECTOR)
    assert packed.frame.tolist() == sorted(packed.frame.tolist())
    assert torch.bincount(packed.frame).tolist() == [14, 5, 4 + 4 * 3]
    alone = pack_spatial_unpad(full(anyres_source((2, 1))), PROJECTOR)
    assert shown(packed)[:14] == shown(alone)


def test_flat_is_tile_by_tile() -> None:
    """Whatever the order that comes in."""
    tokens = full(anyres_source((2, 1)))
    mixed = tokens.select(torch.tensor([8, 0, 4, 9, 1]))
    assert shown(pack_flat(mixed)) == [0, 1, 4, 8, 9]


def test_pooled_tokens_find_their_place_on_the_map() -> None:
    """Tokens that stand for several patches lie at their centre."""
    source = anyres_source((2, 1), rows=4, cols=4, sizes=((8, 4),))
    tokens = full(source)
    patch = torch.arange(48)
    pooled = tokens.merge(patch // 16 * 4 + patch % 16 // 8 * 2 + patch % 4 // 2, kind=Kind.POOLED)
    packed = pack_spatial_unpad(pooled, PROJECTOR)
    assert shown(packed) == [0, 2, 8, 10, 16, 18, 32, 34, "N", 24, 26, 40, 42, "N"]


grids = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.just((0, 0)), min_size=1, max_size=3)
sizes = st.tuples(st.integers(1, 99), st.integers(1, 99))


@given(grids=grids, data=st.data())
def test_counts_for_any_grid_and_size(grids: list[tuple[int, int]], data: st.DataObject) -> None:
    """Base tokens, and for every row of the unpadded map its columns and a newline."""
    from tokenloom.runtime.anyres import unpad_span

    chosen = tuple(data.draw(sizes) for _ in grids)
    packed = pack_spatial_unpad(full(anyres_source(*grids, rows=3, cols=3, sizes=chosen)), PROJECTOR)
    want = []
    for (across, down), size in zip(grids, chosen, strict=True):
        rows, cols = unpad_span(size, 3 * down, 3 * across) if across else (slice(0, 0), slice(0, 0))
        height, width = max(rows.stop - rows.start, 0), max(cols.stop - cols.start, 0)
        want.append(9 + (height * (width + 1) if across and width else 0) + (not across))
    assert torch.bincount(packed.frame, minlength=len(grids)).tolist() == want


@given(grids=grids)
def test_the_released_layout_loses_nothing(grids: list[tuple[int, int]]) -> None:
    """Packing compressed tiles only reorders them and adds a newline per single tile."""
    tokens = zipped(anyres_source(*grids))
    packed = pack_visionzip_next(tokens, PROJECTOR)
    assert len(packed) == len(tokens) + sum(grid == (0, 0) for grid in grids)
    assert packed.coverage().equal(tokens.coverage())
    assert set(packed.side) == set(tokens.side)


def test_maps_above_the_limit_are_scaled_down_one_by_one() -> None:
    """Of three pictures the middle one is small enough; all keep their order, base tiles and newlines."""
    source = anyres_source((3, 3), (1, 1), (2, 3), rows=3, cols=3, sizes=((90, 90), (30, 30), (60, 90)))
    packed = pack_spatial_unpad(full(source), PROJECTOR, max_tiles=2)
    kinds = packed.kind.tolist()
    pooled, line, patch = int(Kind.POOLED), int(Kind.NEWLINE), int(Kind.PATCH)
    first = [patch] * 9 + 4 * [*[pooled] * 4, line]
    second = [patch] * 9 + 3 * [*[patch] * 3, line]
    third = [patch] * 9 + 5 * [*[pooled] * 3, line]
    assert kinds == first + second + third
    assert packed.frame.tolist() == [0] * len(first) + [1] * len(second) + [2] * len(third)
    centre = packed.centre()[9:13]
    assert centre[:, 2].unique().tolist() == [0.625]
    assert len(pack_spatial_unpad(full(source), PROJECTOR, max_tiles=0)) == 27 + 90 + 12 + 63


def test_only_whole_maps_are_scaled_down() -> None:
    """After a selection there is nothing to interpolate between."""
    tokens = full(anyres_source((3, 3), rows=3, cols=3, sizes=((90, 90),)))
    some = tokens.select(torch.arange(len(tokens)) != 40)
    with pytest.raises(WiringError) as error:
        pack_spatial_unpad(some, PROJECTOR, max_tiles=2)
    assert str(error.value) == (
        "pack_spatial_unpad.tokens: 80 tokens on a map of 9 x 9 patches, but scaling it down takes all of "
        "its patches; compress after this node, or set max_tiles: 0"
    )


@pytest.mark.parametrize(
    ("every", "want"),
    [("auto", [11]), ("clip", [11]), ("frame", [3, 7, 11]), ("row", [1, 3, 5, 7, 9, 11]), ("none", [])],
)
def test_newlines_of_a_clip(every: Any, want: list[int]) -> None:
    """One after its last token, after the last of every frame, of every row, or none."""
    tokens = full(anyres_source((0, 0), (0, 0), (0, 0)))
    ended = append_newline(tokens, PROJECTOR, every=every)
    line = ended.kind == int(Kind.NEWLINE)
    assert (line.nonzero()[:, 0] - torch.arange(len(want)) - 1).tolist() == want
    assert ended.home[line].tolist() == [token // 4 for token in want]
    assert ended.features[line].eq(9).all()
    assert ended.select(~line).features.equal(tokens.features)
    assert append_newline(tokens.select(torch.arange(0)), PROJECTOR, every=every).kind.tolist() == []


def test_rows_of_pooled_frames_end_with_newlines() -> None:
    """LLaVA-Video's grid: rows of the pooled frame, whose places are fractions."""
    pooled = pool_tokens(
        project_mlp(PROJECTOR, made_patches(square_source(3, 5, 5), cls_token=False)),
        grid=(3, 3),
        method="bilinear",
    )
    facts = replace(image_facts("spatial_unpad"), newline="row")
    ended = append_newline(pooled, tiny_projector("identity", inputs=6, image=facts))
    assert ended.kind.tolist() == 9 * (3 * [int(Kind.POOLED)] + [int(Kind.NEWLINE)])


def features_of(tokens: VisualTokens) -> Tensor:
    """Without newlines, sorted, to compare as sets."""
    return tokens.features[tokens.kind != int(Kind.NEWLINE)].sort(0).values


def test_packing_does_not_touch_vectors() -> None:
    """The same vectors in another order."""
    tokens = zipped(anyres_source((2, 2)))
    assert features_of(pack_visionzip_next(tokens, PROJECTOR)).equal(features_of(tokens))


def test_a_missing_newline_vector() -> None:
    """Named when run, and before, when planned."""
    bare = tiny_projector("identity", inputs=6, newline=False, image=image_facts("spatial_unpad"))
    with pytest.raises(CheckpointError) as error:
        pack_spatial_unpad(full(anyres_source((2, 1))), bare)
    assert str(error.value) == (
        "pack_spatial_unpad: the checkpoint has no image_newline vector; set merge: spatial or flat"
    )
    assert pack_spatial_unpad.foresee is not None
    with pytest.raises(CheckpointError) as error:
        pack_spatial_unpad.foresee(KnownTokens(), bare, merge="auto", rounding="auto", max_tiles=None)
    assert str(error.value) == (
        "pack_spatial_unpad: tiny has no image_newline vector; set merge: spatial or flat"
    )
    assert pack_visionzip_next.foresee is not None
    known = pack_visionzip_next.foresee(
        KnownTokens(per_tile=4, width=8), PROJECTOR, layout="upstream", merge="auto", rounding="auto"
    )
    assert known == KnownTokens(width=8, grid=False, complete=False)
    assert append_newline.foresee is not None
    for call in (append_newline.foresee, append_newline):
        with pytest.raises(CheckpointError) as error:
            call(full(anyres_source((2, 1))), bare, every="clip")
        assert str(error.value) == ("append_newline: tiny has no image_newline vector; set every: none")
    known = KnownTokens(tiles=3, per_tile=4)
    assert append_newline.foresee(known, PROJECTOR, every="clip") == replace(known, grid=False)


def test_a_plan_refuses_to_scale_down_what_is_no_map() -> None:
    """A picture of more tiles than the checkpoint's most, of which some patches were dropped or merged."""
    assert pack_spatial_unpad.foresee is not None
    known = KnownTokens(pictures=(3, 11), grid=False)
    settings: dict[str, Any] = {"merge": "auto", "rounding": "auto"}
    with pytest.raises(WiringError) as error:
        pack_spatial_unpad.foresee(known, PROJECTOR, max_tiles=9, **settings)
    assert str(error.value) == (
        "pack_spatial_unpad.tokens: tokens that were chosen, merged or put in another order before on a map "
        "of more than 9 tiles, but scaling it down takes all of its patches; compress after this node, or "
        "set max_tiles: 0"
    )
    assert pack_spatial_unpad.foresee(known, PROJECTOR, max_tiles=10, **settings) is not None
    assert pack_spatial_unpad.foresee(known, PROJECTOR, max_tiles=0, **settings) is not None
