"""Rows of the attention map: blockwise equals the whole map, for every form, sight and grouping of heads."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tokenloom.runtime.models.attention_rows import Reduce, Sight, received, score_keys, softmax_rows

HEADS, GROUPS, ROWS, WIDTH = 6, 2, 11, 4
REDUCES: tuple[Reduce, ...] = ("max", "mean")


def heads(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Queries [H, S, d] and keys [G, S, d]."""
    random = torch.Generator().manual_seed(3)
    query = torch.randn(HEADS, ROWS, WIDTH, generator=random)
    key = torch.randn(GROUPS, ROWS, WIDTH, generator=random)
    return query.to(dtype), key.to(dtype)


def whole_map(query: Tensor, key: Tensor, scale: float, seen: Tensor | None) -> Tensor:
    """[H, S, S] by the book: keys repeated for the heads that share them, masked, softmax."""
    score = query.float() @ key.float().repeat_interleave(HEADS // GROUPS, 0).mT * scale
    return (score if seen is None else score.masked_fill(~seen, -torch.inf)).softmax(-1)


def seen(window: int | None = None, visible: Tensor | None = None) -> Tensor:
    """[S, S] bool, written out row by row."""
    out = torch.zeros(ROWS, ROWS, dtype=torch.bool)
    for r in range(ROWS):
        for c in range(r + 1):
            out[r, c] = (window is None or r - c < window) and (visible is None or bool(visible[c]))
        if not out[r].any():
            out[r, r] = True
    return out


VISIBLE = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1]).bool()
SIGHTS = [(None, None), (3, None), (None, VISIBLE), (3, VISIBLE)]


@pytest.mark.parametrize(("window", "visible"), SIGHTS)
@pytest.mark.parametrize("count", [1, 4, ROWS])
def test_scores_equal_the_whole_map(window: int | None, visible: Tensor | None, count: int) -> None:
    """Heads, then rows reduced, in blocks of one, few and all rows."""
    query, key = heads()
    want = whole_map(query, key, 0.4, seen(window, visible))[:, -count:]
    sight = Sight(torch.arange(ROWS), window, visible)
    for one, two, block in product(REDUCES, REDUCES, (1, 3 * HEADS * ROWS, 1 << 20)):
        got = score_keys(query[:, -count:], key, 0.4, heads=one, over=two, sight=sight, block=block)
        per_row = want.amax(0) if one == "max" else want.mean(0)
        torch.testing.assert_close(got, per_row.amax(0) if two == "max" else per_row.mean(0))


def test_without_sight_every_key_is_seen() -> None:
    """No causal mask: rows attend to what comes after them, too."""
    query, key = heads()
    got = score_keys(query[:, -3:], key, 0.5, heads="max", over="max", block=1)
    torch.testing.assert_close(got, whole_map(query, key, 0.5, None)[:, -3:].amax((0, 1)))


@pytest.mark.parametrize(("window", "visible"), SIGHTS)
def test_received_is_the_column_sum(window: int | None, visible: Tensor | None) -> None:
    """Over all rows, and over the query heads that share a key-value head."""
    query, key = heads()
    want = whole_map(query, key, 0.4, seen(window, visible)).sum(1).unflatten(0, (GROUPS, -1)).sum(1)
    sight = Sight(torch.arange(ROWS), window, visible)
    for block in (1, 4 * HEADS * ROWS, 1 << 20):
        torch.testing.assert_close(received(query, key, 0.4, sight, block=block), want)


def test_a_window_goes_by_positions() -> None:
    """Rows that were dropped between leave gaps, which count."""
    query, key = heads()
    far = Sight(torch.arange(ROWS) * 2, window=3)
    near = Sight(torch.arange(ROWS), window=2)
    args = (query, key, 0.4)
    torch.testing.assert_close(received(*args, far), received(*args, near))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_float32_scores(dtype: torch.dtype) -> None:
    """The softmax of rounded queries and keys is itself not rounded."""
    query, key = heads(dtype)
    got = score_keys(query, key, 0.4, heads="mean", over="mean", sight=Sight(torch.arange(ROWS)))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, whole_map(query, key, 0.4, seen()).mean((0, 1)))
    torch.testing.assert_close(got.sum(), torch.tensor(1.0))


def test_no_more_is_held_than_a_block() -> None:
    """A block has as many rows as fit, at least one, and in causal maps only the keys they can see."""
    query, key = heads()
    blocks = [tuple(b.shape) for b in softmax_rows(query, key, 1.0, Sight(torch.arange(ROWS)), 4 * 6 * 11)]
    assert blocks == [(2, 3, 4, 4), (2, 3, 4, 8), (2, 3, 3, 11)]
    assert {b.shape[2] for b in softmax_rows(query, key, 1.0, None, 1)} == {1}
