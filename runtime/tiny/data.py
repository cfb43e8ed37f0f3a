"""The batches of a stage: each a pure function of seed, stage and number, so that runs can go on anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from .recipe import MOST_SAMPLES, Recipe
from .samples import Batch, collate, make_sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_STREAM = 0x5EED  # keeps these draws apart from those of the scenes


class StageBatches(Dataset[dict[str, Batch]]):
    """`steps` batches, each of one number of frames, drawn by the shares of the stage."""

    def __init__(self, recipe: Recipe, number: int, tokenizer: PreTrainedTokenizerFast) -> None:
        self.recipe, self.number, self.tokenizer = recipe, number, tokenizer
        self.stage = recipe.stages[number]

    def __len__(self) -> int:
        return self.stage.steps

    def frames(self, index: int) -> int:
        """Frames per sample of that batch."""
        counts, shares = list(self.stage.frames), np.array(list(self.stage.frames.values()))
        rng = np.random.default_rng([self.recipe.seed, _STREAM, self.number, index])
        return counts[int(rng.choice(len(counts), p=shares / shares.sum()))]

    def __getitem__(self, index: int) -> dict[str, Batch]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        frames = self.frames(index)
        first = self.number * MOST_SAMPLES + index * max(self.stage.batch, 4)
        samples = [
            make_sample(
                self.tokenizer,
                self.recipe.seed,
                "train",
                first + n,
                frames=frames,
                questions=self.stage.questions,
                grid=self.recipe.sizes.grid,
            )
            for n in range(self.stage.size(frames))
        ]
        pad: Any = self.tokenizer.pad_token_id
        return {"batch": collate(samples, pad)}


def only(batches: list[dict[str, Batch]]) -> dict[str, Batch]:
    """The one batch that the loader has taken."""
    (batch,) = batches
    return batch
