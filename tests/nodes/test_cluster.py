"""PruneVid's first stage: segments, static places, spatial clusters; alone and after other methods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.nodes.cluster import cluster_spatial, cluster_temporal, merge_static
from tokenloom.nodes.merge import merge_contextual
from tokenloom.nodes.pool import pool_tokens
from tokenloom.nodes.select import select_dominant
from tokenloom.runtime.errors import WiringError
from tokenloom.runtime.foreseen import KnownTokens
from tokenloom.runtime.values import Kind, Patches, Segments, Source, Tile, Tokens, VisualTokens

from ..towers import made_patches, square_source


def clip(frames: int, rows: int = 4, cols: int = 4, *, seed: int = 0, width: int = 8) -> VisualTokens:
    """Scenes of four frames; the left half of the places is almost still."""
    rng = torch.Generator().manual_seed(seed)
    places = rows * cols
    scene = torch.randn(-(-frames // 4), places, width, generator=rng).repeat_interleave(4, 0)[:frames]
    scene = (
        scene + 2 * torch.randn(len(scene) // 4 + 1, 1, width, generator=rng).repeat_interleave(4, 0)[:frames]
    )
    moving = torch.randn(frames, places, width, generator=rng)
    right = (torch.arange(places) % cols >= cols // 2)[:, None]
    x = torch.where(right, moving, scene + 0.02 * moving)
    return VisualTokens.of_patches(square_source(frames, rows, cols), x.flatten(0, 1))


def stages(tokens: VisualTokens, **spatial: Any) -> VisualTokens:
    return cluster_spatial(merge_static(tokens, cluster_temporal(tokens)), **spatial)


def cut(*lengths: int) -> Segments:
    return Segments(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)))


def members(tokens: Tokens) -> list[list[int]]:
    return [tokens.member[a:b].tolist() for a, b in zip(tokens.start, tokens.start[1:], strict=False)]


# segments


def test_scenes_become_segments() -> None:
    """Four scenes of four frames."""
    assert cluster_temporal(clip(16)).of_frame.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 7])
def test_short_clips(frames: int) -> None:
    """Fewer frames than neighbours, or than one cluster needs, are no error."""
    segments = cluster_temporal(clip(frames))
    assert segments.frames == frames
    assert int(segments.lengths.min()) > 1


def test_a_still_clip_is_one_segment() -> None:
    """Identical frames, few and many."""
    for frames in (8, 40):
        still = clip(1).features.repeat(frames, 1)
        tokens = VisualTokens.of_patches(square_source(frames, 4, 4), still)
        assert len(cluster_temporal(tokens)) == 1


def test_one_frame_is_refused_unless_asked_for() -> None:
    """A picture in a video's place: one clear error, at once; a clip of one frame is one segment."""
    with pytest.raises(WiringError) as caught:
        cluster_temporal(clip(1))
    assert str(caught.value) == (
        "cluster_temporal.tokens: one frame, wanted a clip; for a picture leave out cluster_temporal and "
        "merge_static (cluster_spatial works alone), for a clip of one frame set single: one_segment"
    )
    segments = cluster_temporal(clip(1), single="one_segment")
    assert segments.of_frame.tolist() == [0]
    merged = merge_static(clip(1), segments)
    assert merged.features.equal(clip(1).features)
    assert merged.kind.tolist() == [int(Kind.DYNAMIC)] * 16


def test_one_frame_is_refused_by_a_plan() -> None:
    """Before any weight is read, however many tiles it is cut into."""
    foresee: Any = cluster_temporal.foresee
    known = KnownTokens(tiles=3, pictures=(3,))
    widgets = {"ratio": 0.25, "neighbours": 7, "noise": "none", "seed": 0}
    with pytest.raises(WiringError, match="one frame, wanted a clip"):
        foresee(known, **widgets, single="error")
    assert foresee(known, **widgets, single="one_segment") is None
    assert foresee(None, **widgets, single="error") is None


def test_tokens_without_patches_do_not_count_for_segments() -> None:
    """[CLS] tokens of any size change nothing."""
    patches = made_patches(square_source(8, 3, 3), seed=2)
    loud = patches.with_features(torch.where((patches.kind == Kind.CLS)[:, None], 1e4, patches.features))
    want = cluster_temporal(patches.select(patches.kind == Kind.PATCH))
    assert cluster_temporal(loud).of_frame.equal(want.of_frame)


def test_frames_without_tokens_go_with_the_frame_before() -> None:
    """Dropped at a start, inside a scene and at its end: scenes are still found, and places still static."""
    tokens = clip(16, seed=4)
    kept = torch.ones(16, dtype=torch.bool)
    kept[[0, 2, 8]] = False
    segments = cluster_temporal(tokens.select(kept[tokens.frame]), ratio=4 / 13)
    assert segments.lengths.tolist() == [4, 5, 3, 4]
    merged = merge_static(tokens.select(kept[tokens.frame]), segments)
    want = [[16 * t + p for t in (1, 3)] for p in range(16) if p % 4 < 2]
    assert members(merged)[:8] == want


def test_after_pooling_in_time() -> None:
    """Eight moments of a clip of 16 frames: two of every scene, in which the left half stands still."""
    pooled = pool_tokens(clip(16), grid=(4, 4), frames=8)
    segments = cluster_temporal(pooled, ratio=0.5)
    assert segments.lengths.tolist() == [4, 4, 4, 4]
    merged = merge_static(pooled, segments, tau=0.95)
    static = [m for m, kind in zip(members(merged), merged.kind, strict=True) if kind == Kind.STATIC]
    assert [m[0] % 16 for m in static] == [p for p in range(16) if p % 4 < 2] * 4
    assert len(merged) == 4 * (8 + 2 * 8)
    assert merged.coverage().gt(0).all()


def test_no_patches_at_all() -> None:
    """There is nothing to compare frames by."""
    with pytest.raises(WiringError) as caught:
        cluster_temporal(clip(4).select(torch.tensor([], dtype=torch.long)))
    assert str(caught.value) == (
        "cluster_temporal.tokens: none stands for a patch, and no frame can be compared; wire the tokens "
        "of the frames"
    )


def test_noise_is_seeded() -> None:
    """The same seed gives the same segments; of a still clip, too, one segment."""
    tokens = clip(24, seed=3)
    first, again = (cluster_temporal(tokens, noise="upstream", seed=5) for _ in range(2))
    assert first.of_frame.equal(again.of_frame)


# static places


def test_static_places_are_means_and_come_first() -> None:
    """Of each segment the static tokens, then frame by frame the others, at home in their first frame."""
    tokens = clip(8)
    out = merge_static(tokens, cut(4, 4))
    left, right = [p for p in range(16) if p % 4 < 2], [p for p in range(16) if p % 4 >= 2]
    want = [[16 * t + p for t in range(4)] for p in left] + [[16 * t + p] for t in range(4) for p in right]
    assert members(out) == want + [[64 + p for p in group] for group in want]
    assert out.kind.tolist() == ([int(Kind.STATIC)] * 8 + [int(Kind.DYNAMIC)] * 32) * 2
    assert out.home.tolist() == [
        h for s in (0, 4) for h in [s] * 8 + [s + t for t in range(4) for _ in right]
    ]
    torch.testing.assert_close(out.features[0], tokens.features[[0, 16, 32, 48]].mean(0))
    assert out.features[8].equal(tokens.features[2])


def test_tau_is_exceeded_not_met() -> None:
    """Strict, as released: equal vectors with cosine 1 are not above 1."""
    same = VisualTokens.of_patches(square_source(2, 1, 2), torch.tensor([[1.0, 0.0]] * 4))
    assert len(merge_static(same, cut(2), tau=0.99)) == 2
    assert len(merge_static(same, cut(2), tau=1.0)) == 4


def test_a_segment_of_one_frame_is_dynamic() -> None:
    """Nothing to compare with, whatever tau is."""
    tokens = clip(3)
    out = merge_static(tokens, cut(2, 1), tau=-1)
    assert out.kind.tolist() == [int(Kind.STATIC)] * 16 + [int(Kind.DYNAMIC)] * 16


def test_a_place_missing_in_a_frame_is_dynamic() -> None:
    """Ragged frames: only places that every frame of the segment has can be static."""
    tokens = clip(4)
    out = merge_static(tokens.select(torch.arange(64) != 16), cut(4), tau=-1)
    assert out.kind.bincount().tolist()[Kind.STATIC :] == [15, 3]
    assert members(out)[15:] == [[0], [32], [48]]


def test_a_place_taken_twice_is_dynamic() -> None:
    """A token doubled by a selection does not stand for a missing one."""
    tokens = clip(2)
    twice = tokens.select(torch.cat([torch.arange(16), torch.tensor([0]), torch.arange(17, 32)]))
    out = merge_static(twice, cut(2), tau=-1)
    assert out.kind.bincount().tolist()[Kind.STATIC :] == [15, 2]


def test_tokens_without_patches_go_through() -> None:
    """[CLS] keeps its kind, its vector and its frame."""
    patches = made_patches(square_source(2, 2, 2), seed=1)
    out = merge_static(patches, cut(2), tau=-1)
    assert out.kind.tolist() == [int(Kind.STATIC)] * 4 + [int(Kind.CLS)] * 2
    assert out.features[4:].equal(patches.features[[0, 5]])
    assert isinstance(out, Patches)


def test_frames_out_of_order_are_put_in_order() -> None:
    """The order of tokens inside a frame stays."""
    tokens = clip(4)
    turned = tokens.select(torch.arange(64).reshape(4, 16).flip(0).flatten())
    assert members(merge_static(turned, cut(4))) == members(merge_static(tokens, cut(4)))


def test_a_named_place_counts() -> None:
    """Side channel `place` says which tokens of the frames are compared."""
    tokens = clip(2).select(torch.tensor([0, 17])).with_side(place=torch.tensor([0, 16]))
    assert len(merge_static(tokens, cut(2), tau=-1)) == 1
    assert len(merge_static(tokens.with_side(place=torch.tensor([0, 17])), cut(2), tau=-1)) == 2


def test_segments_of_another_clip() -> None:
    """How many frames each has."""
    with pytest.raises(WiringError) as caught:
        merge_static(clip(4), cut(5))
    assert str(caught.value) == (
        "merge_static.segments: of 5 frames, the tokens are of 4; wire the segments that cluster_temporal "
        "made of the same clip"
    )


# clusters


def test_each_group_has_its_own_clusters() -> None:
    """Static ones of a segment, others frame by frame; up to `least` they stay."""
    tokens = clip(8, 6, 6)
    merged = merge_static(tokens, cut(4, 4))
    out = cluster_spatial(merged, ratio=0.5, least=14)
    assert out.kind.bincount().tolist()[Kind.STATIC :] == [2 * 9, 8 * 9]
    group_of = {
        p: (int(merged.frame[i]), int(merged.kind[i])) for i, m in enumerate(members(merged)) for p in m
    }
    for i, group in enumerate(members(out)):
        assert {group_of[p] for p in group} == {(int(out.frame[i]), int(out.kind[i]))}
    assert cluster_spatial(merged, least=18).features.equal(merged.features)


def test_patches_alone_are_clustered_per_frame() -> None:
    """Without segments: int(n * ratio) of every frame, in order of frames."""
    out = cluster_spatial(clip(3), ratio=0.3)
    assert out.frame.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert out.kind.tolist() == [int(Kind.DYNAMIC)] * 12


def test_raster_order_is_by_mean_place() -> None:
    """The same clusters, group by group, by where their tokens stood."""
    tokens = clip(3, 5, 5)
    score, raster = cluster_spatial(tokens), cluster_spatial(tokens, order="raster")
    assert raster.frame.equal(score.frame)
    assert sorted(members(raster)) == sorted(members(score))
    mean = torch.tensor([sum(m) / len(m) for m in members(raster)])
    assert bool((mean.diff() >= 0).all())


def test_tokens_without_patches_stay_around_their_frame() -> None:
    """[CLS] before the clusters of its frame; a newline at the end of the clip behind all."""
    patches = made_patches(square_source(2, 4, 4))
    line = Patches.special(patches.source, torch.ones(1, 6), Kind.NEWLINE, torch.tensor([1]))
    out = cluster_spatial(patches.concat(line), ratio=0.25)
    cls, dynamic = int(Kind.CLS), int(Kind.DYNAMIC)
    assert out.kind.tolist() == [cls, *[dynamic] * 4, cls, *[dynamic] * 4, int(Kind.NEWLINE)]
    assert out.features[-1].tolist() == [1.0] * 6


def test_tiles_of_a_picture_are_one_group() -> None:
    """Clusters may reach over tiles; they are at home in the first."""
    layout = tuple(Tile(frame=f, box=(0, 0, 4, 4)) for f in (0, 0, 1, 1))
    source = Source(layout, 3, 3, ((4, 4),) * 2, (0.0, 1.0))
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(1)).repeat(4, 1)
    out = cluster_spatial(VisualTokens.of_patches(source, x), ratio=0.5)
    assert out.frame.tolist() == [0] * 9 + [1] * 9
    assert all(len(m) % 2 == 0 for m in members(out))
    assert set(out.home.tolist()) == {0, 2}


def test_noise_of_clusters_is_seeded() -> None:
    """The same seed, the same tokens; all equally far apart, so that noise decides."""
    tokens = VisualTokens.of_patches(square_source(2, 4, 4), torch.eye(16).repeat(2, 1))
    first, again, other = (cluster_spatial(tokens, noise="upstream", seed=s) for s in (1, 1, 2))
    assert first.features.equal(again.features)
    assert members(first) != members(other)


# all three


@settings(deadline=None)
@given(frames=st.integers(2, 9), rows=st.integers(1, 5), cols=st.integers(2, 5), seed=st.integers(0, 99))
def test_tokens_are_means_of_their_patches(frames: int, rows: int, cols: int, seed: int) -> None:
    """Every patch is in one token, and every token is the plain mean of its patches."""
    tokens = clip(frames, rows, cols, seed=seed)
    out = stages(tokens, least=3)
    assert out.member.sort().values.equal(torch.arange(len(tokens)))
    total = torch.zeros(len(out), 8).index_add_(0, out.owner, tokens.features[out.member])
    torch.testing.assert_close(out.features, total / out.count[:, None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.share, 1 / out.count[out.owner])


def test_twice_is_the_same() -> None:
    """Nothing is drawn."""
    first, again = (stages(clip(12, seed=7)) for _ in range(2))
    assert first.features.equal(again.features)
    assert members(first) == members(again)


def test_float64_agrees() -> None:
    """More digits, the same tokens."""
    tokens = clip(16, 6, 6, seed=8)
    want = stages(tokens.with_features(tokens.features.double()))
    assert members(stages(tokens)) == members(want)
    assert want.features.dtype == torch.float64


def test_bfloat16_is_computed_in_float32() -> None:
    """The decisions are those for the same numbers in float32; the tokens are bfloat16 again."""
    tokens = clip(16, 6, 6, seed=9)
    half = tokens.with_features(tokens.features.bfloat16())
    out, want = stages(half), stages(half.with_features(half.features.float()))
    assert out.features.dtype == torch.bfloat16
    assert members(merge_static(half, cluster_temporal(half))) == members(
        merge_static(half.with_features(half.features.float()), cluster_temporal(half))
    )
    assert len(out) == len(want)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("node", ["cluster_temporal", "merge_static", "cluster_spatial"])
def test_nan_is_refused(node: str, bad: float) -> None:
    """Which token, of which frame."""
    x = clip(4).features.clone()
    x[37, 3] = bad
    tokens = VisualTokens.of_patches(square_source(4, 4, 4), x)
    calls = {
        "cluster_temporal": lambda: cluster_temporal(tokens),
        "merge_static": lambda: merge_static(tokens, cut(4)),
        "cluster_spatial": lambda: cluster_spatial(tokens),
    }
    with pytest.raises(WiringError) as caught:
        calls[node]()
    assert str(caught.value) == (
        f"{node}.tokens: token 37 (frame 2) holds nan or inf; look at what made it (float16 overflows where "
        "float32 and bfloat16 do not)"
    )


def test_zero_features_are_no_error() -> None:
    """A black clip: one segment, nothing static (cosine 0), clusters of equal tokens."""
    tokens = VisualTokens.of_patches(square_source(8, 4, 4), torch.zeros(128, 4))
    segments = cluster_temporal(tokens)
    merged = merge_static(tokens, segments)
    assert len(segments) == 1
    assert len(merged) == 128
    assert len(cluster_spatial(merged)) == 64


def visionzip(seed: int = 0) -> Tokens:
    patches = made_patches(square_source(6, 5, 5), seed=seed)
    picked = select_dominant(patches, keep=9)
    return merge_contextual(picked.kept, picked.rest, targets=4)


def ragged() -> Tokens:
    tokens = clip(6, 5, 5)
    return tokens.select(torch.rand(150, generator=torch.Generator().manual_seed(1)) < 0.6)


@pytest.mark.parametrize("tokens", [visionzip(), ragged(), clip(6, 5, 5)], ids=["visionzip", "ragged", "all"])
def test_after_other_methods(tokens: Tokens) -> None:
    """Each node takes what any other made: no patch is lost, and the type stays."""
    segments = cluster_temporal(tokens)
    merged = merge_static(tokens, segments, tau=0.0)
    for out in (merged, cluster_spatial(merged, least=4), cluster_spatial(tokens, least=4)):
        assert out.coverage().gt(0).equal(tokens.coverage().gt(0))
        assert type(out) is type(tokens)
        assert not (out.kind == Kind.PATCH).any() or len(out) == len(tokens)


def test_nothing_at_all() -> None:
    """No tokens are clusters of none."""
    assert len(cluster_spatial(clip(2).select(torch.tensor([], dtype=torch.long)))) == 0


# positions


def test_mean_positions() -> None:
    """Side channel `position`: the mean of those of the tokens that came into the first of the two nodes."""
    tokens = clip(4)
    merged = merge_static(tokens, cut(4), positions="mean")
    out = cluster_spatial(merged, ratio=0.5, least=6, positions="mean")
    want = [sum(m) / len(m) for m in members(out)]
    assert out.side["position"].tolist() == pytest.approx(want)
    assert "position" not in stages(tokens).side


def test_a_named_place_is_not_averaged() -> None:
    """`place` names a patch; merged tokens have a new one."""
    tokens = clip(2).with_side(place=torch.arange(32))
    assert "place" not in merge_static(tokens, cut(2)).side
    assert "place" not in cluster_spatial(tokens).side


def test_known_tokens() -> None:
    """One picture's clusters are foreseen; a clip's are not."""
    foresee: Any = cluster_spatial.foresee
    widgets: dict[str, Any] = {"ratio": 0.5, "neighbours": 7, "least": 14, "order": "score"}
    widgets |= {"positions": "consecutive", "noise": "none", "seed": 0}
    picture = KnownTokens(tiles=1, per_tile=144, cls_token=False, width=8)
    assert foresee(picture, **widgets).per_tile == 72
    clips = foresee(KnownTokens(tiles=16, per_tile=144), **widgets)
    assert clips == KnownTokens(tiles=16, grid=False, varies=True)


@pytest.mark.gpu
def test_on_a_device() -> None:
    """The same tokens as on the CPU."""
    tokens = clip(16, 6, 6)
    got, want = stages(tokens.to("cuda")), stages(tokens)
    assert members(got.to("cpu")) == members(want)
    torch.testing.assert_close(got.features.cpu(), want.features, rtol=1e-4, atol=1e-5)
