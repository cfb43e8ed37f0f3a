"""Which rows a query may attend to: bool masks for SDPA (True: attend), or None where the kernel knows.

B = items, S = query rows, G = key-value heads, C = rows in a layer's cache. Rows are padded on the left.
"""

from __future__ import annotations

import torch
from torch import Tensor


def prefill_mask(
    valid_BS: Tensor, position_BS: Tensor, window: int | None = None, shown_BS: Tensor | None = None
) -> Tensor | None:
    """[B, 1, S, S] bool for rows that enter a layer together, or None: causal, and nothing is padded.

    None lets SDPA take its causal kernel, which is what the stock model does without padding: the results are
    then equal to the bit. shown: rows that are seen at all, padding aside; None: every one. A row that would
    see nothing sees itself, so that no softmax is empty.
    """
    padded = not bool(valid_BS.all())
    far = window is not None and int((position_BS.amax(1) - position_BS.amin(1)).max()) >= window
    if not padded and not far and shown_BS is None:
        return None
    rows = torch.arange(valid_BS.shape[1], device=valid_BS.device)
    seen_BS = valid_BS if shown_BS is None else shown_BS
    mask_BSS = (rows[:, None] >= rows) & seen_BS[:, None, :]
    if window is not None:
        mask_BSS = mask_BSS & (position_BS[:, :, None] - position_BS[:, None, :] < window)
    alone_BS1 = ~mask_BSS.any(-1, keepdim=True)
    return (mask_BSS | (alone_BS1 & (rows[:, None] == rows)))[:, None]


def decode_mask(valid_BC: Tensor, position_BGC: Tensor, now_B: Tensor, window: int | None = None) -> Tensor:
    """[B, 1 or G, C] bool for one new row per item, at the positions `now_B`."""
    seen_BGC = valid_BC[:, None]
    return seen_BGC if window is None else seen_BGC & (now_B[:, None, None] - position_BGC < window)


def window_of(config: object, layer: int) -> int | None:
    """How far back a layer of this transformers configuration sees, in positions; None: all the way.

    Mistral slides in every layer; Qwen2 in those its `layer_types` name (none by default); Llama never.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[layer] != "sliding_attention":
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window
