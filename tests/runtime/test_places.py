"""Where tokens sit in their picture, and how alike those of one place are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenloom.runtime.places import mean_cosine, norms, place_of
from tokenloom.runtime.values import Source, Tile, Tokens

from ..towers import made_patches, square_source


def test_patches_sit_where_they_are() -> None:
    """In every picture alike; [CLS] nowhere."""
    place, places = place_of(made_patches(square_source(2, 2, 2), cls_token=True))
    assert place.tolist() == [-1, 0, 1, 2, 3] * 2
    assert places == 4


def test_tiles_of_a_picture_are_counted_through() -> None:
    """A second tile's places follow the first's, wherever it stands in the list."""
    layout = tuple(Tile(frame=f, box=(0, 0, 1, 1)) for f in (0, 1, 0, 1))
    place, places = place_of(Tokens.of_patches(Source(layout, 1, 2), torch.zeros(8, 3)))
    assert place.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert places == 4


def test_merged_tokens_sit_where_most_of_them_is() -> None:
    """The patch of the largest share, of equal ones the first."""
    patches = made_patches(square_source(2, 2, 2), cls_token=False)
    weight = torch.tensor([1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    merged = patches.merge(torch.tensor([0, 0, 1, 1, 2, 2, 2, 2]), weight)
    assert place_of(merged)[0].tolist() == [0, 3, 0]


def test_a_named_place_counts() -> None:
    """Side channel `place`, as merge_contextual leaves it; -1 for none."""
    patches = made_patches(square_source(1, 2, 2), cls_token=False)
    named = patches.with_side(place=torch.tensor([3, 2, -1, 0]))
    assert place_of(named)[0].tolist() == [3, 2, -1, 0]


@settings(deadline=None)
@given(n=st.integers(2, 9), seed=st.integers(0, 99))
def test_mean_cosine_is_that_of_all_pairs(n: int, seed: int) -> None:
    """Over the ordered pairs of two different tokens."""
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    unit = torch.nn.functional.normalize(x, dim=1).double()
    want = ((unit @ unit.T).sum() - n) / (n * (n - 1))
    tokens = Tokens.of_patches(square_source(1, 1, n), x)
    got = mean_cosine(x, norms(tokens), torch.zeros(n, dtype=torch.long), 1)
    torch.testing.assert_close(got.double(), want[None], rtol=0, atol=1e-5)


def test_a_zero_vector_is_unlike_everything() -> None:
    """Cosine 0 with the others: of three pairs one counts."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    got = mean_cosine(x, x.norm(dim=1), torch.zeros(3, dtype=torch.long), 1)
    assert got.tolist() == pytest.approx([1 / 3])


def test_a_token_alone_is_like_nothing() -> None:
    """-inf, below every tau; tokens beyond the last group are left out."""
    x = torch.ones(3, 2)
    got = mean_cosine(x, x.norm(dim=1), torch.tensor([0, 1, 1]), 1)
    assert got.tolist() == [-torch.inf]


def test_nothing_is_read_back() -> None:
    """It runs where tensors have no numbers: none of them decides what is done next."""
    x, group = torch.empty(12, 6, device="meta"), torch.empty(12, dtype=torch.long, device="meta")
    assert mean_cosine(x, x[:, 0], group, 3).shape == (3,)


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    """On CUDA without one synchronisation; and as on the CPU."""
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    group = torch.arange(12) % 4
    there = x.cuda(), x.norm(dim=1).cuda(), group.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = mean_cosine(*there, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(got.cpu(), mean_cosine(x, x.norm(dim=1), group, 3))
