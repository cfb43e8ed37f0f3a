"""Visual tokens into the rows of a batch: where every row comes from, and its embedding, with gradients.

B = samples, S = tokens before, L = rows after, P = pictures, K = tiles, N = visual tokens, D = width
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BudgetError, PromptError
from ..values.prompt import IMAGE_TOKEN_INDEX
from .batch import Batch
from .labels import IGNORE


@dataclass(frozen=True, eq=False, kw_only=True)
class Expansion:
    """What the language model reads, [B, L] each: ids and labels long, token long, mask bool.

    ids: text (and the batch's padding) and separators, -1 elsewhere. token: number of the visual token, -1
    elsewhere. A row with neither is padding made here. mask: False for both paddings.
    """

    ids: Tensor
    token: Tensor
    labels: Tensor
    mask: Tensor

    def embeds(self, table: Callable[[Tensor], Tensor], visual: Tensor) -> Tensor:
        """[B, L, D]: the table's rows, the visual tokens' [N, D], and 0 for padding.

        Gradients flow into both, separators' included, also when no sample has a picture (of value 0 then).
        """
        text = table(self.ids.clamp_min(0))
        zero = visual.new_zeros(1, visual.shape[1])
        other = torch.cat([visual, zero]).to(text.device, text.dtype)[self.token]  # -1 is the last: zero
        return torch.where((self.ids >= 0)[..., None], text, other)


def separators(batch: Batch, *, comma: int, newline: int) -> Tensor:
    """[K] long: the token id that follows every tile, -1 for pictures that were not sliced.

    A comma between the crops of a row, a newline at its end and after the global view.
    """
    if batch.tiles is None:
        return torch.zeros(0, dtype=torch.long)
    after = []
    for tile in batch.tiles.layout:
        grid = batch.grids[tile.frame]
        ends = grid is not None and (tile.whole or tile.col == grid[1] - 1)
        after.append(-1 if grid is None else newline if ends else comma)
    return torch.tensor(after)


def expand(
    batch: Batch, counts: Tensor, after: Tensor | None = None, *, max_length: int | None = None
) -> Expansion:
    """The rows of a batch with its pictures' tokens in their places; labels there are -100.

    The k-th picture of a sample goes where its k-th mark is; pictures whose marks were cut off are left out.
    Columns that are padding everywhere are cut. Made without a loop over samples or tokens.

    counts: [K] long, visual tokens of every tile, in order. after: [K] long, a separator's id behind each
    tile, -1 for none (`separators`). max_length: rows that the model can read; None: unlimited.
    Errors: PromptError for a mark without a picture, BudgetError for a sample that is too long.
    """
    device = batch.ids.device
    tile_ids, tile_rows = _tile_rows(counts.to(device, torch.long), after)
    picture_rows, first_row = _picture_rows(batch, tile_rows)
    marks = batch.ids == IMAGE_TOKEN_INDEX
    picture = _picture_of(batch, marks)[marks]
    count = torch.ones_like(batch.ids)
    count[marks] = picture_rows[picture]
    total = count.sum(1)
    # every new row knows the old one that it stands for, and how many rows of that came before it
    rows, size = int(total.sum()), batch.ids.shape[1]
    owner = torch.repeat_interleave(count.flatten(), output_size=rows)
    row = torch.arange(rows, device=device)
    within = row - (count.flatten().cumsum(0) - count.flatten())[owner]
    sample = owner // size
    column = row - (total.cumsum(0) - total)[sample]

    begins = torch.full_like(batch.ids, -1)
    begins[marks] = first_row[picture]
    begin = begins.flatten()[owner]
    visual = begin >= 0
    place = (begin + within)[visual]
    number = torch.where(tile_ids < 0, (tile_ids < 0).cumsum(0) - 1, -1)
    ids, labels = batch.ids.flatten()[owner], batch.labels.flatten()[owner]
    token, mask = torch.full_like(ids, -1), batch.mask.flatten()[owner]
    ids[visual], token[visual], labels[visual] = tile_ids[place], number[place], IGNORE
    width = _width(column, sample, mask, max_length)

    def laid(values: Tensor, fill: int) -> Tensor:
        out = values.new_full((len(batch), int(total.max())), fill)
        out[sample, column] = values
        return out[:, :width]

    return Expansion(
        ids=laid(ids, -1), token=laid(token, -1), labels=laid(labels, IGNORE), mask=laid(mask, 0)
    )


def _tile_rows(counts: Tensor, after: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of all tiles in order: each row's separator id, -1 for a visual token; and rows per tile [K]."""
    after = torch.full_like(counts, -1) if after is None else after.to(counts.device)
    rows = counts + (after >= 0)
    total = int(rows.sum())
    ids = torch.full((total,), -1, device=counts.device)
    ends = rows.cumsum(0) - 1
    ids[ends[after >= 0]] = after[after >= 0]
    return ids, rows


def _picture_rows(batch: Batch, tile_rows: Tensor) -> tuple[Tensor, Tensor]:
    """[P] long: rows of every picture, and the first of them."""
    layout = () if batch.tiles is None else batch.tiles.layout
    if len(tile_rows) != len(layout):
        raise PromptError(
            f"expand.counts: numbers of tokens for {len(tile_rows)} tiles, the batch has {len(layout)}"
        )
    picture = torch.tensor([tile.frame for tile in layout], dtype=torch.long, device=tile_rows.device)
    rows = torch.zeros(len(batch.grids), dtype=torch.long, device=tile_rows.device)
    rows.index_add_(0, picture, tile_rows)
    return rows, rows.cumsum(0) - rows


def _picture_of(batch: Batch, marks: Tensor) -> Tensor:
    """[B, S] long: which picture of the batch goes where a mark is."""
    has = torch.tensor(batch.pictures, device=marks.device)
    number = marks.cumsum(1) - 1
    short = (marks.sum(1) > has).nonzero()[:, 0].tolist()
    if short:
        raise PromptError(
            f"expand: sample {short[0]} of the batch has {int(marks[short[0]].sum())} <image> and "
            f"{batch.pictures[short[0]]} pictures; give every mark its picture"
        )
    return number + (has.cumsum(0) - has)[:, None]


def _width(column: Tensor, sample: Tensor, mask: Tensor, limit: int | None) -> int:
    """How many columns hold anything; a BudgetError when that is over the limit."""
    real = torch.where(mask, column + 1, 0)
    width = int(real.max())
    if limit is not None and width > limit:
        raise BudgetError(
            f"expand: sample {int(sample[real.argmax()])} of the batch has {width} rows with its visual "
            f"tokens, the limit is {limit}; make fewer visual tokens, or cut texts shorter (max_length)"
        )
    return width
