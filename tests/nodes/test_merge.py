"""merge_contextual: targets, who joins whom, the two means, provenance and budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.errors import BudgetError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import Kind, Tokens

from ..towers import made_patches, square_source


def line(keys: list[list[float]], features: list[float] | None = None) -> Tokens:
    """One tile of one row of patches with these keys."""
    patches = made_patches(square_source(1, 1, len(keys)), cls_token=False)
    values = torch.tensor(features or [1.0 * i for i in range(len(keys))])[:, None]
    return patches.with_features(values).with_side(keys=torch.tensor(keys))


NEAR_A, NEAR_B = [1.0, 0.1], [0.1, 1.0]


def test_add_mean_is_the_target_plus_the_mean_of_the_others() -> None:
    """As released: patches 0 and 2 are targets of 4, 1 goes to 2 and 3 to 0."""
    out = merge_contextual(None, line([NEAR_A, NEAR_B, NEAR_B, NEAR_A], [1.0, 2.0, 4.0, 8.0]), targets=2)
    assert out.features[:, 0].tolist() == [1 + 8, 4 + 2]
    assert [out.member[out.start[i] : out.start[i + 1]].tolist() for i in (0, 1)] == [[0, 3], [1, 2]]
    assert out.kind.tolist() == [int(Kind.CONTEXTUAL)] * 2


def test_mean_counts_the_target_as_one_of_them() -> None:
    """The norm-preserving option."""
    rest = line([NEAR_A, NEAR_A, NEAR_A, NEAR_B, NEAR_A, NEAR_B], [3.0, 6.0, 9.0, 1.0, 6.0, 5.0])
    out = merge_contextual(None, rest, targets=2, merge="mean")
    assert out.features[:, 0].tolist() == [6.0, 3.0]


def test_a_target_alone_stays_as_it_is() -> None:
    """Nothing to merge: the features are the tokens' own."""
    rest = line([NEAR_A, NEAR_B, NEAR_A])
    for merge in ("add_mean", "mean"):
        out = merge_contextual(None, rest, targets=3, merge=merge)  # type: ignore[arg-type]
        assert out.features.equal(rest.features)
        assert out.share.tolist() == [1, 1, 1]


def test_targets_are_evenly_spaced_in_the_list_of_what_is_left() -> None:
    """step = R // T: the tail never holds a target; below 2 T the first ones are targets."""
    flat = [[1.0, 0.0]] * 11
    spread = merge_contextual(None, line(flat), targets=3)
    firsts = [int(spread.member[s]) for s in spread.start[:-1]]
    assert firsts == [0, 3, 6]
    close = merge_contextual(None, line(flat[:5]), targets=3)
    assert [int(close.member[s]) for s in close.start[:-1]] == [0, 1, 2]


def test_equally_near_targets_the_first_wins() -> None:
    """Ties go to the lower target."""
    out = merge_contextual(None, line([[1.0, 0.0]] * 6), targets=2)
    assert out.count.tolist() == [5, 1]


def test_share_of_target_and_others() -> None:
    """Of a released merge: half the target, and half the others together; they sum to one."""
    out = merge_contextual(None, line([NEAR_A, NEAR_A, NEAR_A, NEAR_B]), targets=1)
    assert out.share.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def reference(rest: Tokens, tile: int, targets: int, merge: str) -> Tensor:
    """The formulas of the paper and the released code, one token at a time."""
    rows = (rest.home == tile).nonzero()[:, 0].tolist()
    unit = torch.nn.functional.normalize(rest.side["keys"], dim=-1)
    step = max(1, len(rows) // targets)
    goals = [rows[i * step] for i in range(targets)]
    groups: dict[int, list[int]] = {goal: [] for goal in goals}
    for row in rows:
        if row not in groups:
            groups[goals[int((unit[goals] @ unit[row]).argmax())]].append(row)
    out = []
    for goal, others in groups.items():
        if merge == "mean":
            out.append(rest.features[[goal, *others]].mean(0))
        elif others:
            out.append(rest.features[goal] + rest.features[others].mean(0))
        else:
            out.append(rest.features[goal])
    return torch.stack(out)


@pytest.mark.parametrize("merge", ["add_mean", "mean"])
@pytest.mark.parametrize("targets", [1, 2, 5, 9])
def test_against_the_formulas_on_ragged_tiles(merge: Literal["add_mean", "mean"], targets: int) -> None:
    """All tiles at once give what each gives alone, whatever their lengths."""
    patches = made_patches(square_source(4, 4, 4), cls_token=False, seed=3)
    ragged = patches.select(
        torch.arange(64)[torch.arange(64) % 16 >= torch.tensor([0, 3, 7, 5]).repeat_interleave(16)]
    )
    out = merge_contextual(None, ragged, targets=targets, merge=merge)
    want = torch.cat([reference(ragged, tile, targets, merge) for tile in range(4)])
    torch.testing.assert_close(out.features, want, atol=1e-5, rtol=1e-5)


@given(
    tiles=st.integers(1, 4),
    keep=st.integers(1, 8),
    targets=st.integers(1, 8),
    merge=st.sampled_from(["add_mean", "mean"]),
)
def test_no_patch_is_lost(tiles: int, keep: int, targets: int, merge: Any) -> None:
    """Kept and contextual tokens together stand for every patch exactly once, [kept, contextual] per tile."""
    targets = min(targets, 10 - keep)
    picked = select_dominant(made_patches(square_source(tiles)), keep=keep)
    out = merge_contextual(picked.kept, picked.rest, targets=targets, merge=merge)
    assert out.member.sort().values.equal(torch.arange(9 * tiles))
    sums = torch.zeros(len(out)).index_add_(0, out.owner, out.share)
    torch.testing.assert_close(sums, (out.kind != int(Kind.CLS)).float())
    assert out.home.equal(torch.arange(tiles).repeat_interleave(keep + targets))
    contextual = (out.kind == int(Kind.CONTEXTUAL)).reshape(tiles, -1)
    assert not contextual[:, :keep].any()
    assert contextual[:, keep:].all()


def test_in_place_contextual_tokens_stay_where_their_targets_were() -> None:
    """Per tile, everything in source order, [CLS] first; `place` says where each token is."""
    patches = made_patches(square_source(2))
    picked = select_dominant(patches, keep=5)
    out = merge_contextual(picked.kept, picked.rest, targets=2, order="in_place")
    after = merge_contextual(picked.kept, picked.rest, targets=2)
    step = 5 // 2
    want: list[int] = []
    for tile in range(2):
        left = picked.rest.member[picked.rest.home == tile].tolist()
        stay = [m for m in picked.kept.member.tolist() if m // 9 == tile]
        want += [-1, *sorted([*stay, left[0], left[step]])]
    assert out.side["place"].tolist() == want
    assert out.features.sort(0).values.equal(after.features.sort(0).values)
    single = out.count == 1
    assert out.side["place"][single & (out.kind != int(Kind.CONTEXTUAL))].equal(picked.kept.member)


def test_zero_targets_are_pure_selection() -> None:
    """The kept tokens go through, the rest is dropped."""
    picked = select_dominant(made_patches(square_source(2)), keep=4)
    out = merge_contextual(picked.kept, picked.rest, targets=0)
    assert out.features.equal(picked.kept.features)
    assert len(merge_contextual(None, picked.rest, targets=0)) == 0


def test_a_total_may_leave_tiles_without_targets() -> None:
    """Such a tile's rest is dropped."""
    picked = select_dominant(made_patches(square_source(3)), keep=4)
    out = merge_contextual(picked.kept, picked.rest, total=2)
    assert torch.bincount(out.home).tolist() == [5, 5, 4]


@pytest.mark.parametrize(("ratio", "targets"), [(0.0, 1), (0.1, 1), (0.29, 5), (0.5, 9)])
def test_a_ratio_of_all_tokens_but_one_target_at_least(ratio: float, targets: int) -> None:
    """max(int(ratio * n), 1), n with the kept tokens."""
    picked = select_dominant(made_patches(square_source(2, 1, 19), cls_token=False), keep=4)
    out = merge_contextual(picked.kept, picked.rest, ratio=ratio)
    assert torch.bincount(out.home).tolist() == [4 + targets] * 2


def test_zero_keys_attract_nobody() -> None:
    """Where the released code's NaN pulls every token to such a target."""
    out = merge_contextual(None, line([[0.0, 0.0], NEAR_A, NEAR_A, NEAR_A]), targets=2)
    assert out.count.tolist() == [1, 3]


def test_merging_keeps_inputs_and_half_precision() -> None:
    """Features keep their dtype; nothing is written into the inputs."""
    rest = made_patches(square_source(1), cls_token=False)
    half = rest.with_features(rest.features.half())
    before = half.features.clone()
    assert merge_contextual(None, half, targets=2).features.dtype == torch.float16
    assert half.features.equal(before)


def test_more_targets_than_are_left() -> None:
    """One error that names tokens, keep, targets, and the way out; the same one from the plan."""
    message = (
        "merge_contextual: keep 7 + targets 4 of 10 tokens per tile, 3 of them left over; "
        "lower keep or targets so that both together are 10 or less"
    )
    picked = select_dominant(made_patches(square_source(2)), keep=7)
    with pytest.raises(BudgetError) as error:
        merge_contextual(picked.kept, picked.rest, targets=4)
    assert str(error.value) == message
    assert merge_contextual.foresee is not None
    widgets = {"targets": 4, "total": None, "ratio": None} | {
        "merge": "add_mean", "order": "after", "preset": None
    }  # fmt: skip
    with pytest.raises(BudgetError) as error:
        merge_contextual.foresee(KnownTokens(per_tile=7), KnownTokens(per_tile=3), **widgets)
    assert str(error.value) == message
    known = merge_contextual.foresee(KnownTokens(per_tile=7), KnownTokens(per_tile=4), **widgets)
    assert known == KnownTokens(per_tile=11, grid=False)


def test_presets() -> None:
    """The targets that belong to a published token count."""
    picked = select_dominant(made_patches(square_source(1, 9, 9)), preset=64)
    assert len(merge_contextual(picked.kept, picked.rest, preset=64)) == 64


def test_a_tile_with_little_left_over_may_get_fewer_targets() -> None:
    """short: fewer; a tile without any gets none."""
    kept, rest = select_dominant(made_patches(square_source(3)), keep=4)
    left = rest.select(torch.tensor([0, 1, 2, 3, 4, 5, 6]))  # six of the first tile, one of the second
    merged = merge_contextual(kept, left, targets=3, short="fewer")
    assert merged.home.bincount(minlength=3).tolist() == [7, 5, 4]


def test_what_varies_is_refused_by_a_plan() -> None:
    """Unless fewer will do; then the result varies, too."""
    node = all_nodes()["merge_contextual"]
    assert node.foresee is not None
    widgets = {name: widget.default for name, widget in node.widgets.items()}
    kept, rest = KnownTokens(varies=True, cls_token=True), KnownTokens(varies=True, cls_token=False)
    with pytest.raises(BudgetError) as error:
        node.foresee(kept, rest, **widgets)
    assert str(error.value) == (
        "merge_contextual.targets: how many tokens a tile has depends on what the pictures show here, and "
        "may be fewer; set short: fewer"
    )
    assert node.foresee(kept, rest, **widgets | {"short": "fewer"}) == replace(kept, grid=False)
    assert node.foresee(kept, rest, **widgets | {"targets": 0}) == replace(kept, grid=False)


def test_all_tokens_merged_are_all_spoken_for() -> None:
    """Without `kept`; there is no [CLS] among the result."""
    node = all_nodes()["merge_contextual"]
    assert node.foresee is not None
    widgets = {name: widget.default for name, widget in node.widgets.items()}
    rest = KnownTokens(per_tile=17, cls_token=True, grid=True, complete=True)
    known = node.foresee(None, rest, **widgets | {"targets": 10})
    assert known == replace(rest, per_tile=10, cls_token=False, grid=False)


@pytest.mark.parametrize(("side", "kept", "targets"), [(24, 54, 10), (8, 6, 1), (12, 14, 3), (2, 1, 1)])
def test_the_budget_of_nothing_said(side: int, kept: int, targets: int) -> None:
    """VisionZip's 54 and 10 of 576 patches, in proportion for other grids: to the nearest, one at least."""
    picked = select_dominant(made_patches(square_source(2, side, side)))
    merged = merge_contextual(picked.kept, picked.rest)
    assert (len(picked.kept), len(merged)) == (2 * kept, 2 * (kept + targets))
    known = KnownTokens(
        tiles=2, per_tile=side**2 + 1, cls_token=True, cls_scores=True, patches=(side, side), grid=True
    )
    pair = foreseen("select_dominant", known)
    after = foreseen("merge_contextual", pair.kept, pair.rest)
    assert (pair.kept.total, after.total) == (2 * kept, 2 * (kept + targets))
    assert after.notes == (
        f"keep {kept}: 54 of every 576 patches, of {side**2}",
        f"targets {targets}: 10 of every 576 patches, of {side**2}",
    )


def foreseen(name: str, *known: object) -> Any:
    """What a node with its default settings knows of what it gives."""
    node = all_nodes()[name]
    assert node.foresee is not None
    return node.foresee(*known, **{key: widget.default for key, widget in node.widgets.items()})


@pytest.mark.gpu
def test_the_gpu_merges_the_same() -> None:
    """Members and shares equal, features close."""
    picked = select_dominant(made_patches(square_source(3, 8, 8)), keep=20)
    cpu = merge_contextual(picked.kept, picked.rest, targets=6)
    gpu = merge_contextual(picked.kept.to("cuda"), picked.rest.to("cuda"), targets=6).to("cpu")
    assert gpu.member.equal(cpu.member)
    torch.testing.assert_close(gpu.features, cpu.features, atol=1e-5, rtol=1e-5)
