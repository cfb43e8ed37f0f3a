"""Visual tokens into the rows of a batch: against place_tokens, and with gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tokenloom.nodes.assemble import assemble_hd
from tokenloom.nodes.place import place_tokens
from tokenloom.runtime.errors import BudgetError, PromptError
from tokenloom.runtime.training.batch import Batch, Grid
from tokenloom.runtime.training.expand import expand, separators
from tokenloom.runtime.values import Prompt, Source, VisualTokens

from ..models.tiny import WIDTH, Held, language_handle, tiny_language
from .made import batch

COMMA, NEWLINE = 11, 12


@pytest.fixture(scope="module")
def llm() -> Held:
    return language_handle(tiny_language("llama"))


def test_rows_know_what_they_are() -> None:
    """Ids, visual tokens, labels and mask of a picture of 2 tokens, and of a text beside it."""
    made = expand(batch(([1, -200, 5], [None]), ([1, 6], [])), torch.tensor([2]))
    assert made.ids.tolist() == [[1, -1, -1, 5], [1, 6, 0, -1]]
    assert made.token.tolist() == [[-1, 0, 1, -1], [-1, -1, -1, -1]]
    assert made.labels.tolist() == [[1, -100, -100, 5], [1, 6, -100, -100]]
    assert made.mask.tolist() == [[True] * 4, [True, True, False, False]]


def test_separators_of_a_grid() -> None:
    """A comma within a row of crops, a newline behind each row and behind the global view; none if whole."""
    made = batch(([1, -200, -200, -200], [(2, 2), (1, 1), None]))
    after = separators(made, comma=COMMA, newline=NEWLINE)
    assert after.tolist() == [COMMA, NEWLINE, COMMA, NEWLINE, NEWLINE, NEWLINE, -1]
    rows = expand(made, torch.ones(7, dtype=torch.long), after)
    assert rows.ids.tolist() == [
        [1, -1, COMMA, -1, NEWLINE, -1, COMMA, -1, NEWLINE, -1, NEWLINE, -1, NEWLINE, -1]
    ]
    assert rows.labels[0, 1:].eq(-100).all()
    assert rows.token[rows.token >= 0].tolist() == list(range(7))


GRIDS = st.one_of(st.none(), st.tuples(st.integers(1, 2), st.integers(1, 3)))
TEXT = st.lists(st.integers(3, 90), max_size=4)


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[int], list[Grid | None]]:
    """Text with pictures in it."""
    grids = draw(st.lists(GRIDS, max_size=2))
    ids = [1, *draw(TEXT)]
    for _ in grids:
        ids += [-200, *draw(TEXT)]
    return ids, grids


@settings(max_examples=25, deadline=None)
@given(data=st.data(), given_samples=st.lists(samples(), min_size=1, max_size=3))
def test_rows_as_at_inference(
    llm: Held, data: st.DataObject, given_samples: list[tuple[list[int], list[Grid | None]]]
) -> None:
    """Every sample has the rows that place_tokens gives it alone, with assemble_hd's separators."""
    made = batch(*given_samples)
    tiles = 0 if made.tiles is None else len(made.tiles)
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=tiles, max_size=tiles))
    features = torch.randn(sum(sizes), WIDTH, generator=torch.Generator().manual_seed(0))
    rows = expand(made, torch.tensor(sizes, dtype=torch.long), separators(made, comma=COMMA, newline=NEWLINE))
    embeds = rows.embeds(llm.load().body.embed_tokens, features)
    wires = picture_tokens(llm, made, sizes, features)
    first = 0
    for i, (ids, grids) in enumerate(given_samples):
        placed = place_tokens(llm, Prompt.of_ids(ids), *wires[first : first + len(grids)])
        first += len(grids)
        assert int(rows.mask[i].sum()) == len(placed)
        assert embeds[i, : len(placed)].equal(placed.embeds)
    real = rows.mask.any(0)
    assert bool(real.all())  # no column is padding everywhere


def picture_tokens(llm: Held, made: Batch, sizes: list[int], features: torch.Tensor) -> list[VisualTokens]:
    """A wire per picture: its tiles' tokens, assembled if it was sliced."""
    wires: list[VisualTokens] = []
    if made.tiles is None:
        return wires
    home = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    source = Source(made.tiles.layout, 1, 3, made.tiles.sizes)
    patch = torch.cat([3 * k + torch.arange(n) for k, n in enumerate(sizes)])
    blank = VisualTokens.of_patches(source, torch.zeros(len(source), WIDTH))
    tokens = blank.select(patch).with_features(features)
    assert tokens.home.equal(home)
    for picture, grid in enumerate(made.grids):
        # only this picture's tiles: each wire is assembled for itself
        own = [k for k, tile in enumerate(made.tiles.layout) if tile.frame == picture]
        part = Source(tuple(made.tiles.layout[k] for k in own), 1, 3, made.tiles.sizes)
        rows = torch.cat([3 * i + torch.arange(sizes[k]) for i, k in enumerate(own)])
        bare = VisualTokens.of_patches(part, torch.zeros(len(part), WIDTH)).select(rows)
        wire = bare.with_features(features[torch.isin(home, torch.tensor(own))])
        wires.append(wire if grid is None else assemble_hd(llm, wire, column=COMMA, row=NEWLINE).tokens)
    return wires


def test_gradients_reach_visual_tokens_and_separators() -> None:
    """The projector's output and the embedding of text and separators learn; padding does not."""
    made = batch(([1, -200], [(1, 2)]), ([1, 5], []))
    rows = expand(made, torch.tensor([1, 1, 1]), separators(made, comma=COMMA, newline=NEWLINE))
    table = nn.Embedding(20, 4)
    visual = torch.randn(3, 4, requires_grad=True)
    rows.embeds(table, visual).sum().backward()
    assert visual.grad is not None
    assert visual.grad.eq(1).all()
    assert table.weight.grad is not None
    assert table.weight.grad[:, 0].nonzero()[:, 0].tolist() == [1, 5, COMMA, NEWLINE]
    assert table.weight.grad[[1, 5, COMMA, NEWLINE], 0].tolist() == [2, 1, 1, 2]


def test_texts_alone_keep_the_projector_in_the_graph() -> None:
    """Without any picture the visual tokens still have a gradient, of 0: workers wait for every parameter."""
    rows = expand(batch(([1, 5], [])), torch.zeros(0, dtype=torch.long))
    visual = torch.zeros(0, 4, requires_grad=True)
    embeds = rows.embeds(nn.Embedding(20, 4), visual)
    embeds.sum().backward()
    assert embeds.shape == (1, 2, 4)
    assert visual.grad is not None


def test_a_picture_whose_mark_was_cut_off() -> None:
    """It is left out, and the next sample has its own."""
    made = batch(([1, -200], [None]), ([1, -200], [None]))
    cut = Batch(
        ids=torch.tensor([[1, 5], [1, -200]]),
        labels=made.labels,
        mask=made.mask,
        tiles=made.tiles,
        grids=made.grids,
        pictures=made.pictures,
    )
    assert expand(cut, torch.tensor([2, 2])).token.tolist() == [[-1, -1, -1], [-1, 2, 3]]


def test_a_mark_without_a_picture() -> None:
    """The sample is named."""
    with pytest.raises(PromptError) as error:
        expand(batch(([1], []), ([1, -200, -200], [None])), torch.tensor([2]))
    assert str(error.value) == (
        "expand: sample 1 of the batch has 2 <image> and 1 pictures; give every mark its picture"
    )


def test_counts_for_every_tile() -> None:
    """As many numbers as tiles."""
    with pytest.raises(PromptError) as error:
        expand(batch(([1, -200], [None])), torch.tensor([2, 2]))
    assert str(error.value) == "expand.counts: numbers of tokens for 2 tiles, the batch has 1"


def test_too_long_for_the_model() -> None:
    """The longest sample is named, before anything is embedded."""
    with pytest.raises(BudgetError) as error:
        expand(batch(([1, 5], []), ([1, -200], [None])), torch.tensor([9]), max_length=9)
    assert str(error.value) == (
        "expand: sample 1 of the batch has 10 rows with its visual tokens, the limit is 9; make fewer visual "
        "tokens, or cut texts shorter (max_length)"
    )
