"""Golden cases of PruneVid's first stage: DPC-KNN, segments, and the merging of a clip's tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenloom.nodes.cluster import _frame_means, cluster_spatial, cluster_temporal, merge_static
from tokenloom.runtime.dpc import dpc_knn
from tokenloom.runtime.places import mean_cosine, norms
from tokenloom.runtime.segmentation import refine_clusters, run_numbers
from tokenloom.runtime.values import Kind, Segments, Source, Tile, Tokens, VisualTokens

from .runners import Case, runs


def clip_tokens(frames_TLC: Tensor, rows: int, cols: int) -> VisualTokens:
    """Frames of `rows` x `cols` patches, as they come from the projector."""
    t = len(frames_TLC)
    layout = tuple(Tile(frame=i, box=(0, 0, cols, rows)) for i in range(t))
    source = Source(layout, rows, cols, ((cols, rows),) * t, tuple(map(float, range(t))))
    return VisualTokens.of_patches(source, frames_TLC.flatten(0, 1))


def assignment(tokens: Tokens) -> Tensor:
    """[T, L] long: the token that stands for each patch."""
    out = torch.full((len(tokens.source),), -1)
    out[tokens.member] = tokens.owner
    return out.reshape(tokens.source.frames, -1)


@runs("prunevid", "models.pllava.modeling_pllava.cluster_dpc_knn")
def dpc(case: Case) -> None:
    args, x = case.facts["args"], case.inputs["x"]
    mask, noise = case.inputs.get("token_mask"), case.inputs.get("noise")
    valid = None if mask is None else mask > 0
    got = dpc_knn(x, args["cluster_num"], args["k"], valid=valid, noise=noise)
    case.check(got.label, "idx_cluster")
    if "center_index" in case.expected:
        case.check(got.centre, "center_index")
    if "density" in case.expected:
        case.check(got.density, "density", tolerance="density")
        case.check(_upstream_score(got.score, got.density, x, valid), "score", tolerance="score")
    if "cluster_means" in case.expected:
        joins = torch.nn.functional.one_hot(got.label, args["cluster_num"]).to(x)
        means = joins.mT @ x / joins.sum(1)[..., None]
        case.check(means, "cluster_means", tolerance="cluster_means")


def _upstream_score(score: Tensor, density: Tensor, x: Tensor, valid: Tensor | None) -> Tensor:
    """Upstream's filler for padding, the largest distance of the batch + 1, counts for the densest token."""
    if valid is None:
        return score
    filler = (torch.cdist(x, x) / x.shape[2] ** 0.5).max() + 1
    padded, first = (~valid).any(1), density.argmax(1)
    rows = padded.nonzero()[:, 0]
    score = score.clone()
    score[rows, first[rows]] = filler * density[rows, first[rows]]
    return score


@runs("prunevid", "models.pllava.modeling_pllava.refine_clusters")
def segments(case: Case) -> None:
    refined = refine_clusters(case.inputs["labels"])
    case.check(refined, "refined")
    numbers = run_numbers(refined)
    lengths = torch.zeros_like(case.expected["lengths"])
    case.check(lengths.scatter_add_(1, numbers, torch.ones_like(numbers)), "lengths")
    for row, want in zip(numbers, case.expected["lengths"], strict=True):
        assert Segments(row).lengths.equal(want[want > 0]), f"{case.name}: lengths"


@runs("prunevid", "PllavaForConditionalGeneration.merge_frames_dynamic")
def stage1(case: Case) -> None:
    args, frames = case.facts["args"], case.inputs["frames"]
    tokens = clip_tokens(frames, *args["grid"])
    gamma, tau, beta, k = (args[n] for n in ("temporal_segment_ratio", "tau", "cluster_ratio", "k"))
    cut = cluster_temporal(tokens, ratio=gamma, neighbours=k)
    merged = merge_static(tokens, cut, tau=tau)
    out = cluster_spatial(merged, ratio=beta, neighbours=k)
    case.check(out.features, "tokens", tolerance="tokens")
    case.check(assignment(out), "assignment")

    feature = _frame_means(tokens)[0][None]
    label = dpc_knn(feature, int(len(frames) * gamma), k).label
    case.check(label[0], "frame_labels")
    case.check(refine_clusters(label)[0], "refined_labels")
    case.check(cut.lengths, "window_sizes")
    segment = cut.of_frame[out.frame]
    for kind, name in ((Kind.STATIC, "static_sizes"), (Kind.DYNAMIC, "dynamic_sizes")):
        case.check(torch.bincount(segment[out.kind == int(kind)], minlength=len(cut)), name)

    places = frames.shape[1]
    group = (cut.of_frame[:, None] * places + torch.arange(places)).flatten()
    cosine = mean_cosine(tokens.features, norms(tokens), group, len(cut) * places)
    case.check(cosine.reshape(len(cut), places), "similarity", tolerance="similarity")
    count = torch.zeros(len(tokens.source), dtype=torch.bool)
    count[merged.member] = (merged.kind == int(Kind.STATIC))[merged.owner]
    static = torch.stack([count.reshape(-1, places)[cut.of_frame == s][0] for s in range(len(cut))])
    case.check(static, "static_mask")
