"""Tokens: provenance stays exact under any chain of makers, and wrong parts are named at construction."""

# K = tiles, P = patches of a tile, N = tokens, D = width

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenloom.runtime.values import Kind, Patches, Source, Tile, Tokens, VisualTokens
from tokenloom.runtime.values.membership import grouped

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def source_of(tiles: int = 2, rows: int = 2, cols: int = 3) -> Source:
    return Source(tuple(Tile(frame=k // 2, box=(0, 0, 8, 8)) for k in range(tiles)), rows, cols)


def patches_of(source: Source, width: int = 4, cls_token: bool = False, device: str = "cpu") -> Patches:
    """Patches with random vectors; column 0 is 1 for a patch; a [CLS] is all 0."""
    torch.manual_seed(len(source))
    x = torch.randn(len(source.tiles), source.per_tile, width, device=device)
    x[..., 0] = 1
    if cls_token:
        x = torch.cat([torch.zeros_like(x[:, :1]), x], 1)
    return Patches.of_patches(source, x.flatten(0, 1), cls_token=cls_token)


def patch_rows(tokens: Tokens) -> Tensor:
    return tokens.features[tokens.kind == Kind.PATCH]


@st.composite
def sources(draw: st.DrawFn) -> Source:
    side = st.integers(1, 3)
    return source_of(draw(side), draw(side), draw(side))


@st.composite
def assignments(draw: st.DrawFn, n: int) -> Tensor:
    """Group ids 0..G-1 for n tokens, each used."""
    ids = torch.tensor(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=torch.long)
    return ids.unique(return_inverse=True)[1] if n else ids


@st.composite
def subsets(draw: st.DrawFn, n: int) -> Tensor:
    rows = st.lists(st.integers(0, n - 1), max_size=2 * n) if n else st.just([])
    return torch.tensor(draw(rows), dtype=torch.long)


def check_provenance(tokens: Tokens, patch: Tensor) -> None:
    """Features are the share-weighted patches, unless a special token was mixed in (column 0 below 1)."""
    mixed = torch.zeros_like(tokens.features).index_add_(
        0, tokens.owner, patch[tokens.member] * tokens.share[:, None]
    )
    pure = (tokens.features[:, 0] - 1).abs() < 1e-5
    torch.testing.assert_close(tokens.features[pure], mixed[pure], rtol=1e-4, atol=1e-4)
    total = torch.zeros(len(tokens)).index_add_(0, tokens.owner, tokens.share)
    torch.testing.assert_close(total, (tokens.count > 0).float())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_provenance_is_exact_under_any_chain(data: st.DataObject) -> None:
    """After any makers in any order, a token's vector is the share-weighted mean of its patches."""
    source = data.draw(sources())
    whole = patches_of(source, cls_token=data.draw(st.booleans()))
    tokens = whole.with_features(whole.features, into=Tokens)
    patch = patch_rows(tokens)
    for _ in range(data.draw(st.integers(1, 5))):
        match data.draw(st.sampled_from(["select", "merge", "concat", "map", "special"])):
            case "select":
                tokens = tokens.select(data.draw(subsets(len(tokens))))
            case "merge":
                n = len(tokens)
                weights = st.lists(st.floats(0.125, 8), min_size=n, max_size=n)
                weight = torch.tensor(data.draw(weights)) if data.draw(st.booleans()) else None
                tokens = tokens.merge(data.draw(assignments(n)), weight)
            case "concat":
                tokens = tokens.concat(tokens.select(data.draw(subsets(len(tokens)))))
            case "map":
                matrix = torch.block_diag(torch.ones(1, 1), torch.randn(3, 3))
                tokens, patch = tokens.with_features(tokens.features @ matrix), patch @ matrix
            case _:
                home = torch.tensor([len(source.tiles) - 1])
                line = Tokens.special(source, torch.zeros(1, 4), Kind.NEWLINE, home)
                tokens = tokens.concat(line)
        check_provenance(tokens, patch)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_merge_neither_loses_nor_doubles_patches(data: st.DataObject) -> None:
    """Every group holds exactly the patches of its tokens, each once, also if two tokens shared one."""
    tokens = patches_of(data.draw(sources()))
    tokens = tokens.concat(tokens.select(data.draw(subsets(len(tokens)))))
    assign = data.draw(assignments(len(tokens)))
    merged = tokens.merge(assign)
    for group in range(len(merged)):
        mine = merged.member[merged.start[group] : merged.start[group + 1]]
        assert mine.tolist() == sorted(set(tokens.member[assign[tokens.owner] == group].tolist()))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_merging_twice_is_merging_once_with_weights(data: st.DataObject) -> None:
    """Two rounds of means, weighted by count, give the shares of one round."""
    tokens = patches_of(source_of(2, 2, 3))
    first = data.draw(assignments(len(tokens)))
    once = tokens.merge(first)
    second = data.draw(assignments(len(once)))
    twice = once.merge(second, once.count)
    direct = tokens.merge(second[first])
    torch.testing.assert_close(twice.share, direct.share)
    torch.testing.assert_close(twice.features, direct.features)
    assert twice.member.equal(direct.member)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_kept_and_rest_share_no_patch_and_lose_none(data: st.DataObject) -> None:
    """A mask and its complement split the coverage in two."""
    tokens = patches_of(data.draw(sources()), cls_token=True)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens))))
    kept, rest = tokens.select(mask), tokens.select(~mask)
    assert (kept.coverage() + rest.coverage()).equal(tokens.coverage())
    assert (kept.coverage() * rest.coverage()).sum() == 0


@pytest.mark.parametrize("device", DEVICES)
def test_patches_are_numbered_tile_by_tile_with_cls_first(device: str) -> None:
    """Each tile begins with its [CLS], which stands for no patch but sits in the tile."""
    tokens = patches_of(source_of(2, 1, 2), cls_token=True, device=device)
    assert tokens.kind.tolist() == [1, 0, 0, 1, 0, 0]
    assert tokens.home.tolist() == [0, 0, 0, 1, 1, 1]
    assert tokens.count.tolist() == [0, 1, 1, 0, 1, 1]
    assert tokens.member.tolist() == [0, 1, 2, 3]
    assert tokens.owner.tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("device", DEVICES)
def test_merge_is_the_weighted_mean(device: str) -> None:
    """Features, shares and side channels are means by weight; kind and home are the first token's."""
    tokens = patches_of(source_of(2, 1, 2), device=device).with_side(keys=torch.arange(4.0, device=device))
    merged = tokens.merge(torch.tensor([1, 0, 0, 1]), torch.tensor([3.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(merged.features[1], 0.75 * tokens.features[0] + 0.25 * tokens.features[3])
    assert merged.share.tolist() == [0.5, 0.5, 0.75, 0.25]
    assert merged.member.tolist() == [1, 2, 0, 3]
    assert merged.side["keys"].tolist() == [1.5, 0.75]
    assert merged.home.tolist() == [0, 0]
    assert merged.kind.tolist() == [Kind.PATCH, Kind.PATCH]


@pytest.mark.parametrize("device", DEVICES)
def test_index_and_assign_may_lie_on_the_cpu(device: str) -> None:
    """Rows chosen on the CPU select and merge tokens of any device."""
    tokens = patches_of(source_of(1, 2, 2), device=device)
    assert tokens.select(torch.tensor([2, 0])).member.tolist() == [2, 0]
    assert tokens.merge(torch.zeros(4, dtype=torch.long)).count.tolist() == [4]
    assert tokens.select(torch.tensor([True, False, True, False])).device == tokens.device


def test_merge_states_the_kind_that_it_is_told() -> None:
    """`kind=` holds for all results."""
    merged = patches_of(source_of()).merge(torch.arange(12) // 4, kind=Kind.CONTEXTUAL)
    assert merged.kind.tolist() == [Kind.CONTEXTUAL] * 3


def test_merging_vectors_of_width_0() -> None:
    """Provenance and channels alone are merged, when a node makes the vectors itself."""
    tokens = patches_of(source_of())
    bare = tokens.with_features(tokens.features[:, :0])
    merged, want = (x.merge(torch.arange(12) // 4) for x in (bare, tokens))
    assert merged.features.shape == (3, 0)
    assert merged.member.equal(want.member)
    assert merged.share.equal(want.share)


def test_a_token_of_weight_0_leaves_no_membership() -> None:
    """What does not count in the mean is not stood for."""
    merged = patches_of(source_of(1, 1, 3)).merge(torch.tensor([0, 0, 0]), torch.tensor([1.0, 0.0, 1.0]))
    assert merged.member.tolist() == [0, 2]
    assert merged.share.tolist() == [0.5, 0.5]


def test_merging_a_special_token_leaves_the_shares_whole() -> None:
    """[CLS] takes weight in the mean, but shares are of patches and sum to 1."""
    merged = patches_of(source_of(1, 1, 2), cls_token=True).merge(torch.zeros(3, dtype=torch.long))
    assert merged.share.tolist() == [0.5, 0.5]
    assert merged.kind.tolist() == [Kind.CLS]


def test_merging_only_specials_gives_a_special() -> None:
    """A group without patches has no memberships."""
    source = source_of(1, 1, 2)
    lines = Tokens.special(source, torch.ones(2, 4), Kind.NEWLINE, torch.tensor([0, 0]))
    merged = lines.merge(torch.tensor([0, 0]))
    assert (len(merged), len(merged.member), merged.count.tolist()) == (1, 0, [0])


def test_half_precision_means_are_summed_in_float32() -> None:
    """4096 halves of 1 plus one of 100 do not drown: the mean is right to half precision."""
    source = source_of(1, 64, 64)
    x = torch.ones(4096, 1, dtype=torch.float16)
    merged = Tokens.of_patches(source, x).merge(torch.zeros(4096, dtype=torch.long))
    assert merged.features.dtype == torch.float16
    assert merged.features.item() == 1.0


def test_no_token_is_a_value_too() -> None:
    """An empty selection goes through every maker."""
    tokens = patches_of(source_of()).select(torch.zeros(0, dtype=torch.long))
    assert len(tokens) == 0
    assert tokens.start.tolist() == [0]
    assert len(tokens.merge(torch.zeros(0, dtype=torch.long))) == 0
    assert len(tokens.concat(tokens).with_features(torch.zeros(0, 7))) == 0
    assert tokens.coverage().sum() == 0
    assert tokens.centre().shape == (0, 4)
    index, valid = tokens.by_tile()
    assert index.shape == (2, 0)
    assert valid.shape == (2, 0)


def test_concat_joins_side_channels_that_all_carry() -> None:
    """A channel that one part lacks is dropped, not invented."""
    tokens = patches_of(source_of(1, 1, 2))
    a = tokens.with_side(keys=torch.ones(2), cls_attention=torch.ones(2))
    joined = a.concat(tokens.with_side(keys=torch.zeros(2)))
    assert {k: v.tolist() for k, v in joined.side.items()} == {"keys": [1, 1, 0, 0]}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Patches, Patches, Patches),
        (Patches, VisualTokens, Tokens),
        (VisualTokens, Tokens, Tokens),
        (Tokens, VisualTokens, Tokens),
        (VisualTokens, VisualTokens, VisualTokens),
    ],
)
def test_concat_gives_the_common_type(one: type[Tokens], other: type[Tokens], both: type[Tokens]) -> None:
    """Two kinds of tokens together are what both are."""
    tokens = patches_of(source_of(1, 1, 2))
    a, b = (tokens.with_features(tokens.features, into=t) for t in (one, other))
    assert type(a.concat(b)) is both


def test_a_projector_changes_type_and_width_only() -> None:
    """with_features(into=...) keeps provenance and side channels."""
    tokens = patches_of(source_of()).with_side(keys=torch.ones(12))
    projected = tokens.with_features(torch.zeros(12, 9), into=VisualTokens)
    assert type(projected) is VisualTokens
    assert projected.width == 9
    assert projected.member is tokens.member
    assert projected.side["keys"].equal(tokens.side["keys"])


def test_centre_is_the_mean_place_of_the_patches() -> None:
    """frame, tile, row, column; nan for a token that stands for none."""
    tokens = patches_of(source_of(3, 2, 2), cls_token=True)
    merged = tokens.merge(torch.tensor([0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]))
    assert merged.centre()[0].isnan().all()
    assert merged.centre()[1:].tolist() == [[0, 0, 0.5, 0.5], [0, 1, 0.5, 0.5], [1, 2, 0.5, 0.5]]


def test_coverage_says_what_is_still_spoken_for() -> None:
    """A dropped patch has 0, a kept one 1, one merged with another a half."""
    tokens = patches_of(source_of(1, 2, 2)).select(torch.tensor([0, 2, 3])).merge(torch.tensor([0, 1, 1]))
    assert tokens.coverage().tolist() == [[[1.0, 0.0], [0.5, 0.5]]]


def test_by_tile_pads_ragged_tiles() -> None:
    """Tiles with different numbers of tokens: the mask names the true rows."""
    tokens = patches_of(source_of(3, 1, 3)).select(torch.tensor([7, 0, 2, 1, 6]))
    index, valid = tokens.by_tile()
    assert index.tolist() == [[1, 2, 3], [0, 0, 0], [0, 4, 0]]
    assert valid.tolist() == [[True, True, True], [False, False, False], [True, True, False]]


@given(st.lists(st.integers(0, 5), max_size=20))
@settings(max_examples=40, deadline=None)
def test_grouped_holds_every_row_once_in_order(ids: list[int]) -> None:
    """The true entries of each group are its rows, ascending."""
    index, valid = grouped(torch.tensor(ids, dtype=torch.long), 6)
    for group in range(6):
        assert index[group][valid[group]].tolist() == [i for i, g in enumerate(ids) if g == group]


def test_frames_of_tokens_come_from_their_tiles() -> None:
    """home is a tile, frame its picture."""
    tokens = patches_of(source_of(3, 1, 1))
    assert tokens.home.tolist() == [0, 1, 2]
    assert tokens.frame.tolist() == [0, 0, 1]
    assert tokens.source.frames == 2


def test_side_channels_cannot_be_written() -> None:
    """The mapping is read-only, and a caller's own dict is not kept."""
    mine = {"keys": torch.ones(12)}
    tokens = Tokens.of_patches(source_of(), torch.zeros(12, 4), mine)
    mine["more"] = torch.ones(12)
    assert list(tokens.side) == ["keys"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        tokens.side["x"] = torch.ones(12)  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def test_to_the_same_device_is_the_same_value() -> None:
    """No copy when nothing moves."""
    tokens = patches_of(source_of())
    assert tokens.to("cpu") is tokens


@pytest.mark.gpu
def test_to_moves_everything() -> None:
    """Features, bookkeeping and side channels travel together."""
    tokens = patches_of(source_of()).with_side(keys=torch.ones(12)).to("cuda")
    assert {t.device.type for t in (tokens.features, tokens.share, tokens.side["keys"])} == {"cuda"}


WRONG_PARTS = [
    ({"start": torch.zeros(12, dtype=torch.long)}, "start (12,) torch.int64, wanted (13,) torch.int64"),
    ({"share": torch.ones(11)}, "share (11,) torch.float32, wanted (12,) torch.float32"),
    ({"share": torch.ones(12).double()}, "share (12,) torch.float64, wanted (12,) torch.float32"),
    (
        {"member": torch.arange(12, dtype=torch.int32)},
        "member (12,) torch.int32, wanted (12,) torch.int64",
    ),
    ({"kind": torch.zeros(12)}, "kind (12,) torch.float32, wanted (12,) torch.uint8"),
    (
        {"home": torch.zeros(5, dtype=torch.long)},
        "home (5,) torch.int64, wanted (12,) torch.int64",
    ),
    ({"features": torch.zeros(12)}, "features (12,) torch.float32, wanted [N, D] float"),
    (
        {"features": torch.zeros(12, 4, dtype=torch.long)},
        "features (12, 4) torch.int64, wanted [N, D] float",
    ),
    ({"side": {"keys": torch.ones(3, 2)}}, "side['keys'] (3, 2), wanted (12, ...)"),
    ({"member": torch.arange(12) + 1}, "member is not within 0..11"),
    ({"home": torch.full((12,), 2)}, "home is not within 0..1"),
    ({"start": torch.arange(13) + 1}, "start does not rise from 0 to 12"),
    ({"start": torch.tensor([0, 2, 1, *range(3, 13)])}, "start does not rise from 0 to 12"),
    ({"share": -torch.ones(12)}, "share is negative or nan"),
    ({"share": torch.full((12,), torch.nan)}, "share is negative or nan"),
    ({"share": torch.tensor([1.0] * 7 + [0.5] * 5)}, "shares of token 7 do not sum to 1"),
    (
        {"home": torch.zeros(12, dtype=torch.long, device="meta")},
        "tensors on cpu, meta, wanted one device",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_PARTS)
def test_wrong_parts_are_named_at_construction(wrong: dict[str, Tensor], message: str) -> None:
    """Shapes, dtypes, devices and contents are checked before anyone computes with them."""
    with pytest.raises(ValueError) as caught:
        replace(patches_of(source_of()), **wrong)
    assert str(caught.value) == f"Patches: {message}"


def test_wrong_numbers_of_features_name_the_grid() -> None:
    """of_patches says what it counted."""
    with pytest.raises(ValueError) as caught:
        Patches.of_patches(source_of(), torch.zeros(11, 4))
    assert str(caught.value) == "11 features for 12 tokens: 2 tiles of 2 x 3 patches"


WRONG_CALLS = {
    "select: rows 0..12 of 12 tokens": lambda t: t.select(torch.tensor([0, 12])),
    "select: rows -1..3 of 12 tokens": lambda t: t.select(torch.tensor([3, -1])),
    "select: mask of (3,) for 12 tokens": lambda t: t.select(torch.ones(3, dtype=torch.bool)),
    "select: index is (1, 2) torch.int64, wanted [n] long or [N] bool": (
        lambda t: t.select(torch.tensor([[0, 1]]))
    ),
    "select: index is (0,) torch.float32, wanted [n] long or [N] bool": lambda t: t.select(torch.tensor([])),
    "merge: assign is (3,) torch.int64, wanted (12,) torch.int64": lambda t: t.merge(torch.arange(3)),
    "merge: assign is (12,) torch.float32, wanted (12,) torch.int64": lambda t: t.merge(torch.zeros(12)),
    "merge: groups 0..11 were assigned, wanted 0..4": lambda t: t.merge(torch.arange(12), groups=5),
    "merge: groups -1..10 were assigned, wanted 0..10": lambda t: t.merge(torch.arange(12) - 1),
    "merge: group 12 of 13 has no token, or only weight 0": (lambda t: t.merge(torch.arange(12), groups=13)),
    "merge: group 0 of 12 has no token, or only weight 0": (
        lambda t: t.merge(torch.arange(12), torch.arange(12))
    ),
    "merge: weights of (2,) for 12 tokens": lambda t: t.merge(torch.arange(12), torch.ones(2)),
    "merge: a negative or nan weight": lambda t: t.merge(torch.arange(12), -torch.ones(12)),
    "with_features: 3 rows for 12 tokens": lambda t: t.with_features(torch.zeros(3, 4)),
    "concat: the tokens come from different sources; join them in place_tokens instead": (
        lambda t: t.concat(patches_of(source_of(1)))
    ),
    "concat: widths 4 and 5 differ; project both first": (
        lambda t: t.concat(t.with_features(torch.zeros(12, 5)))
    ),
}


@pytest.mark.parametrize("message", WRONG_CALLS)
def test_wrong_calls_say_what_came_and_what_was_wanted(message: str) -> None:
    """Every maker refuses what it cannot do exactly."""
    with pytest.raises(ValueError) as caught:
        WRONG_CALLS[message](patches_of(source_of()))
    assert str(caught.value) == message


def test_a_group_beyond_the_last_is_refused() -> None:
    """grouped() does not drop rows silently."""
    with pytest.raises(ValueError, match=r"^grouped: group 3 of 2$"):
        grouped(torch.tensor([0, 3]), 2)
