"""TokenPacker in miniature, in training: the same tower, one token for every 2 x 2 patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models.tokenpacker import TokenPacker, window_places
from .model import Seen, Sizes, TinyLlava

SCALE = 2
LEVELS = (1, 2, 3, 4)
"""Hidden states of the tower that keys and values come from; queries come from the layer before the last."""


class TinyTokenPacker(TinyLlava):
    """A CLIP tower, a TokenPacker of scale 2, and Llama."""

    def __init__(self, sizes: Sizes, vocabulary: int, *, motion_layer: int | None = None) -> None:
        super().__init__(sizes, vocabulary, motion_layer=motion_layer)
        self.projector = TokenPacker(sizes.vision_width, sizes.width, levels=len(LEVELS))
        for module in self.projector.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()  # the released std of 0.02 is for widths of 1024 and more

    def look(self, pixels: Tensor) -> Seen:
        """See `TinyLlava.look`; V = T * (g / 2)^2."""
        batch = len(pixels)
        states = self.encode(pixels.flatten(0, 1))
        grid = self.sizes.grid
        packer = self.projector
        assert isinstance(packer, TokenPacker)

        def by_place(state: Tensor) -> Tensor:
            return state[:, 1:].reshape(len(state), grid, grid, -1)

        maps = [by_place(states[level]) for level in LEVELS]
        tokens = packer(by_place(states[-2]), torch.cat(maps, -1), scale=SCALE)
        visual = tokens.reshape(batch, -1, tokens.shape[-1])
        return Seen(visual, states[-2][:, 1:], states[-2][:, 0], states[-1][:, 0])

    def token_change(self, change: Tensor) -> Tensor:
        """[B, V] of [B, T, g, g]: what happened to the object of each window; of two, to one."""
        return window_change(change, SCALE)


def window_change(change: Tensor, scale: int) -> Tensor:
    """[B, T * (g / scale)^2]: the highest label of each window of [B, T, g, g]; what is ignored is lowest."""
    place_GP, _ = window_places(change.shape[2], change.shape[3], scale, change.device)
    return change.flatten(2)[:, :, place_GP].amax(-1).flatten(1)
