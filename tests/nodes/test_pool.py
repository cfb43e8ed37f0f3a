"""pool_tokens: torch's own numbers, whose patches each token stands for, and what is not a grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d, interpolate

from tokenloom.nodes.models import load_model
from tokenloom.nodes.pool import pool_tokens
from tokenloom.runtime.errors import BudgetError, WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Kind, Tokens, VisualTokens

from ..towers import anyres_source, made_patches, square_source


def grids(tiles: int, rows: int, cols: int) -> Tokens:
    """Random patches without [CLS]."""
    return made_patches(square_source(tiles, rows, cols), cls_token=False)


def as_volume(tokens: Tokens, x: Tensor) -> Tensor:
    """[D, K, R, C]."""
    source = tokens.source
    return x.reshape(len(source.tiles), source.rows, source.cols, -1).permute(3, 0, 1, 2)


def by_shares(tokens: Tokens, features: Tensor) -> Tensor:
    """The vectors that the memberships alone say: share-weighted sums of patches."""
    out = torch.zeros(len(tokens), features.shape[1])
    return out.index_add_(0, tokens.owner, features[tokens.member] * tokens.share[:, None])


def message(kind: type[Exception], tokens: Tokens, **widgets: Any) -> str:
    with pytest.raises(kind) as error:
        pool_tokens(tokens, **widgets)
    return str(error.value)


@settings(deadline=None)  # the first call warms torch up
@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["average", "bilinear"]),
    st.data(),
)
def test_vectors_and_shares_are_torchs(tiles: int, rows: int, cols: int, method: Any, data: Any) -> None:
    """Vectors equal torch's operation, and the shares give the same vectors from the patches."""
    grid = (data.draw(st.integers(1, rows)), data.draw(st.integers(1, cols)))
    average = method == "average"
    frames = data.draw(st.none() | st.integers(1, tiles)) if average else None
    tokens = grids(tiles, rows, cols)
    out = pool_tokens(tokens, grid=grid, frames=frames, method=method)
    x_DKRC = as_volume(tokens, tokens.features)
    if average:
        want = adaptive_avg_pool3d(x_DKRC, (frames or tiles, *grid)).permute(1, 2, 3, 0)
    else:
        want = interpolate(x_DKRC.transpose(0, 1), grid, mode="bilinear", align_corners=False)
        want = want.permute(0, 2, 3, 1)
    for one, other in (
        (out.features, want.reshape(-1, 6)),
        (by_shares(out, tokens.features), out.features),
        (by_shares(out, tokens.side["keys"]), out.side["keys"]),
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    assert out.kind.eq(int(Kind.POOLED)).all()


def test_a_grid_that_divides() -> None:
    """Each token stands for its own window in equal parts, and every patch is spoken for."""
    out = pool_tokens(grids(2, 4, 6), grid=(2, 3))
    assert out.member.reshape(12, 4)[:4].tolist() == [
        [0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19],
    ]  # fmt: skip
    assert out.share.eq(0.25).all()
    assert out.home.tolist() == [0] * 6 + [1] * 6
    assert out.coverage().eq(0.25).all()


def test_windows_overlap_where_the_grid_does_not_divide() -> None:
    """Five columns to three: the second window shares a column with each neighbour."""
    out = pool_tokens(grids(1, 1, 5), grid=(1, 3))
    assert out.start.tolist() == [0, 2, 5, 7]
    assert out.member.tolist() == [0, 1, 1, 2, 3, 3, 4]
    torch.testing.assert_close(out.share, torch.tensor([1 / 2] * 2 + [1 / 3] * 3 + [1 / 2] * 2))


def test_bilinear_takes_two_of_four() -> None:
    """27 to 14 as in OneVision: taps with their true weights; an edge token may stand for one patch."""
    out = pool_tokens(grids(1, 1, 27), grid=(1, 14), method="bilinear")
    first = out.share[out.start[0] : out.start[1]]
    at = 0.5 * 27 / 14 - 0.5
    torch.testing.assert_close(first, torch.tensor([1 - at, at]))
    assert out.member[-2:].tolist() == [25, 26]
    assert pool_tokens(grids(3, 27, 27), grid=(14, 14), method="bilinear").features.shape == (3 * 196, 6)


def test_time_is_pooled_only_when_asked() -> None:
    """Four frames to two: each token of both, at home in the first of its window."""
    tokens = grids(4, 2, 2)
    assert torch.bincount(pool_tokens(tokens, grid=(1, 1)).home).tolist() == [1, 1, 1, 1]
    out = pool_tokens(tokens, grid=(1, 2), frames=2)
    assert out.home.tolist() == [0, 0, 2, 2]
    assert out.member[:4].tolist() == [0, 2, 4, 6]


def test_the_type_stays_and_tiles_of_one_picture_are_pooled_on_their_own() -> None:
    """Visual tokens in, visual tokens out; a grid of tiles is no clip."""
    patches = made_patches(anyres_source((2, 1)), cls_token=False)
    visual = patches.with_features(patches.features, into=VisualTokens)
    out: VisualTokens = pool_tokens(visual, grid=(1, 2))
    assert type(out) is VisualTokens
    assert out.home.tolist() == [0, 0, 1, 1, 2, 2]
    assert message(WiringError, patches, grid=(1, 1), frames=2) == (
        "pool_tokens: 3 tiles of 1 pictures, but pooling in time wants one tile per picture; leave frames out"
    )


def test_half_precision_stays() -> None:
    """The dtype of the vectors is the dtype that came."""
    tokens = grids(1, 4, 4)
    half = tokens.with_features(tokens.features.bfloat16())
    assert pool_tokens(half, grid=(2, 2)).features.dtype == torch.bfloat16


NOT_WHOLE = (
    "pool_tokens: {} are not whole grids of 3 x 3 patches, each once and in order; wire the tower's or "
    "projector's tokens, and select after"
)
CLS = (
    "pool_tokens: [CLS] tokens among the patches, but they have no place in a grid; set features: patch on "
    "encode_vision"
)
LARGER = "pool_tokens: a grid of 3 x 4 from 3 x 3 patches per tile; set 3 x 3 or less"


def test_tokens_that_are_no_grid() -> None:
    """Selected, shuffled, merged and pooled tokens, and [CLS]."""
    tokens = grids(2, 3, 3)
    for other in (
        tokens.select(torch.arange(9)),
        tokens.merge(torch.arange(18) // 2),
        pool_tokens(tokens, grid=(2, 2)),
    ):
        said = NOT_WHOLE.format(f"{len(other)} tokens of 2 tiles")
        assert message(WiringError, other, grid=(1, 1)) == said
    shuffled = tokens.select(torch.arange(17, -1, -1))
    assert message(WiringError, shuffled, grid=(1, 1)) == NOT_WHOLE.format("18 tokens of 2 tiles")
    assert message(WiringError, made_patches(square_source(1)), grid=(1, 1)) == CLS


@pytest.mark.parametrize(
    ("widgets", "said"),
    [
        ({"grid": (3, 4)}, LARGER),
        ({"grid": (0, 1)}, "pool_tokens: 0 x 1 places per tile; wanted 1 x 1 or more"),
        ({"grid": (1, 1), "frames": 3}, "pool_tokens: 3 frames from 2; set frames to 1..2"),
    ],
)
def test_grids_that_cannot_be(widgets: dict[str, Any], said: str) -> None:
    """Refused when run and when planned."""
    assert message(BudgetError, grids(2, 3, 3), **widgets) == said
    with pytest.raises(BudgetError) as error:
        foresee(KnownTokens(tiles=2, patches=(3, 3)), **widgets)
    assert str(error.value) == said


def test_bilinear_in_time() -> None:
    """Refused before anything is known of the tokens."""
    said = (
        "pool_tokens: frames 1, but bilinear does not pool in time; set method: average, or leave frames out"
    )
    widgets: dict[str, Any] = {"grid": (1, 1), "frames": 1, "method": "bilinear"}
    assert message(WiringError, grids(2, 3, 3), **widgets) == said
    with pytest.raises(WiringError) as error:
        foresee(None, **widgets)
    assert str(error.value) == said


def foresee(known: KnownTokens | None, **widgets: Any) -> Any:
    assert pool_tokens.foresee is not None
    return pool_tokens.foresee(known, **{"frames": None, "method": "average", **widgets})


def test_the_checkpoints_own_grid() -> None:
    """12 x 12 of a PLLaVA; a LLaVA's tokens stay as they are; nobody to ask is a mistake."""
    tokens = grids(2, 24, 24)
    pooling = load_model(checkpoint="tiny-random-pllava").projector
    plain = load_model(checkpoint="tiny-random").projector
    assert pool_tokens(tokens, pooling).features.equal(pool_tokens(tokens, grid=(12, 12)).features)
    assert pool_tokens(tokens, pooling, grid=(3, 3)).features.shape[0] == 18
    assert pool_tokens(tokens, plain) is tokens
    assert pool_tokens(tokens, plain, frames=1).features.shape[0] == 576
    said = (
        "pool_tokens.grid: null is the checkpoint's own grid, but no projector of a checkpoint is wired; "
        "wire projector (load_model's), or set grid, e.g. [12, 12]"
    )
    assert message(WiringError, tokens) == said
    assert message(WiringError, tokens, frames=1) == said


def test_a_plan_tells_the_checkpoints_own_grid() -> None:
    """As a note; what is not pooled is still a whole grid."""
    known = KnownTokens(tiles=2, per_tile=576, cls_token=False, patches=(24, 24), grid=True)
    assert pool_tokens.foresee is not None
    settings: dict[str, Any] = {"grid": None, "frames": None, "method": "average"}
    pooled = pool_tokens.foresee(known, load_model(checkpoint="tiny-random-pllava").projector, **settings)
    assert (pooled.total, pooled.notes) == (288, ("grid 12 x 12: the checkpoint's pooling_shape",))
    plain = pool_tokens.foresee(known, load_model(checkpoint="tiny-random").projector, **settings)
    assert plain == replace(known, notes=("no pooling: the checkpoint has no pooling_shape",))


def test_what_a_plan_knows() -> None:
    """Counts after pooling; [CLS] and selected tokens are refused."""
    known = KnownTokens(tiles=4, per_tile=9, cls_token=False, width=5, patches=(3, 3))
    assert foresee(known, grid=(2, 1)).total == 8
    assert foresee(known, grid=(2, 1), frames=3).total == 6
    assert foresee(KnownTokens(), grid=(2, 1)).per_tile == 2
    with pytest.raises(WiringError) as error:
        foresee(KnownTokens(per_tile=10, cls_token=True, patches=(3, 3)), grid=(1, 1))
    assert str(error.value) == CLS
    with pytest.raises(WiringError) as error:
        foresee(KnownTokens(per_tile=5, cls_token=False, patches=(3, 3)), grid=(1, 1))
    assert str(error.value) == NOT_WHOLE.format("5 tokens per tile")


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["average", "bilinear"])
def test_on_a_gpu_as_on_the_cpu(method: Any) -> None:
    """The same provenance, vectors but for rounding."""
    tokens = grids(2, 9, 9)
    cpu = pool_tokens(tokens, grid=(5, 4), method=method)
    gpu = pool_tokens(tokens.to("cuda"), grid=(5, 4), method=method).to("cpu")
    torch.testing.assert_close(gpu.features, cpu.features, atol=1e-5, rtol=1e-5)
    assert gpu.member.equal(cpu.member)
    torch.testing.assert_close(gpu.share, cpu.share)


def test_a_plan_knows_what_is_no_grid_any_more() -> None:
    """Chosen, merged or reordered tokens, however many there are."""
    node = all_nodes()["pool_tokens"]
    assert node.foresee is not None
    widgets = {name: widget.default for name, widget in node.widgets.items()}
    with pytest.raises(WiringError) as error:
        node.foresee(KnownTokens(grid=False), **widgets | {"grid": (2, 2)})
    assert str(error.value) == (
        "pool_tokens: tokens that were chosen, merged or put in another order before are not whole grids of "
        "patches, each once and in order; wire the tower's or projector's tokens, and select after"
    )
