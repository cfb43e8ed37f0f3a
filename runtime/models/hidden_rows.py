"""FastV's mask mode while decoding: at every step, the visual rows that the new row sees are chosen anew.

B = items, N = rows of the longest prompt, H = query heads, G = key-value heads, C = keys of a layer
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..values import LLMState


class Shown:
    """Which rows of the prompts are seen, [B, N] bool in `visible`; and the `score` [B, N] of the last step.

    Items without `hiding` see everything. score: attention of the newest row to each row at the layer before
    the hiding one, heads averaged; 0 for rows that the layer does not hold.
    """

    def __init__(self, states: Sequence[LLMState], device: torch.device) -> None:
        most = max(len(state.input) for state in states)
        self.layers = [None if s.hiding is None else s.hiding.layer for s in states]
        never = max(state.layer for state in states)
        first = [never if layer is None else layer for layer in self.layers]
        self._first = torch.tensor(first, device=device)[:, None]
        self._keep = torch.tensor([0 if s.hiding is None else s.hiding.keep for s in states], device=device)
        self.visible = torch.ones(len(states), most, dtype=torch.bool, device=device)
        self._visual = torch.zeros_like(self.visible)
        self.score = torch.zeros(len(states), most, device=device)
        for i, state in enumerate(states):
            self._visual[i, : len(state.input)] = state.input.visual.to(device)
            if state.hiding is not None:
                self.visible[i, state.row.to(device)] = state.hiding.visible.to(device)

    def hides(self, layer: int) -> bool:
        """Whether some item hides rows in this layer."""
        return any(first is not None and layer >= first for first in self.layers)

    def chooses(self, layer: int) -> bool:
        """Whether some item chooses its rows by this layer's attention."""
        return any(first is not None and layer == first - 1 for first in self.layers)

    def of(self, layer: int, row_BGC: Tensor) -> Tensor:
        """[B, 1 or G, C] bool: which of a layer's keys are seen; generated ones (row -1) always are."""
        seen_BGC = self.visible.gather(1, row_BGC.clamp(min=0).flatten(1)).view(row_BGC.shape)
        return seen_BGC | (row_BGC < 0) | (layer < self._first[:, None])

    def choose(self, layer: int, weight_BHC: Tensor, row_BGC: Tensor, valid_BC: Tensor) -> None:
        """The `keep` visual rows of the highest weight are the visible ones now; earlier rows win ties."""
        items, heads = weight_BHC.shape[:2]
        most = self.visible.shape[1]
        row_BHC = row_BGC.repeat_interleave(heads // row_BGC.shape[1], 1)
        spot = torch.where(row_BHC < 0, most, row_BHC).flatten(1)  # generated rows go into an extra column
        score = weight_BHC.new_zeros(items, most + 1).scatter_add_(1, spot, weight_BHC.flatten(1)) / heads
        held = weight_BHC.new_zeros(items, most + 1)
        held.scatter_add_(1, spot, valid_BC[:, None].expand(-1, heads, -1).flatten(1).to(held.dtype))
        eligible_BN = (held[:, :most] > 0) & self._visual
        order = score[:, :most].masked_fill(~eligible_BN, -1.0).argsort(dim=1, descending=True, stable=True)
        first_BN = torch.arange(most, device=order.device) < self._keep[:, None]
        chosen_BN = torch.zeros_like(self.visible).scatter_(1, order, first_BN) & eligible_BN
        here = self._first == layer + 1
        self.score = torch.where(here, score[:, :most], self.score)
        self.visible = torch.where(here & self._visual, chosen_BN, self.visible)
