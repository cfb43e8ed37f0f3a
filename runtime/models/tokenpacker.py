"""TokenPacker's projector: one token per window of patches, attended to by the window's middle.

"Coarse to fine": a window's query is what bilinear interpolation finds in its middle, at the layer of the
features; its keys and values are the window's patches at several layers. Tensor names are the released ones.
"""

# G = windows, P = patches of a window, N = rows, D = width, L = levels, E = L * D, H = width of the language
# model, h = heads, d = D / h

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from ..errors import CheckpointError
from .fast_linear import fast_linear, fast_module

EPSILON = 1e-6


def usual_heads(width: int) -> int:
    """Heads of a projector whose configuration does not say: 128 wide each, as released."""
    return max(width // 128, 1)


class TokenPacker(nn.Module):
    """From rows [N, D] and their levels [N, L * D] to one token [H] per window of rows.

    width: D. outputs: H. levels: L. heads: default width // 128. New weights are as the released code makes
    them. In training mode attention is torch's fused one; in eval mode it is rearranged, exactly, so that
    neither keys nor values pass the attention's own matrices: queries and results do, which are fewer.

    Source: TokenPacker, sec. 3, and its released code, which has separate MLPs for keys and values, a second
    linear map of both inside the attention, and no residual.
    """

    def __init__(self, width: int, outputs: int, *, levels: int = 4, heads: int | None = None) -> None:
        super().__init__()
        self.heads = check_heads("TokenPacker", width, usual_heads(width) if heads is None else heads)
        self.q_proj_1 = nn.Linear(width, width, bias=False)
        self.k_proj_1 = _mlp(levels * width, width, width)
        self.v_proj_1 = _mlp(levels * width, width, width)
        self.ln_q_1 = nn.LayerNorm(width, eps=EPSILON)
        self.ln_k_1 = nn.LayerNorm(width, eps=EPSILON)
        self.ln_v_1 = nn.LayerNorm(width, eps=EPSILON)
        self.clip_attn = nn.MultiheadAttention(width, self.heads)  # holds weights; its forward is not used
        self.mlp = _mlp(width, outputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, grid: Tensor, levels: Tensor, *, scale: int, heads: int | None = None) -> Tensor:
        """[K, r * c, H]: the windows of `scale` x `scale` places of whole grids, row by row.

        grid: [K, R, C, D], the layer of the queries. levels: [K, R, C, L * D]. Where `scale` does not divide,
        the windows at the lower and right edge are partial.
        """
        tiles, rows, cols = grid.shape[:3]
        place_GP, real_GP = window_places(rows, cols, scale, grid.device)
        first = torch.arange(tiles, device=grid.device)[:, None, None] * (rows * cols)
        row_GP = (first + place_GP).flatten(0, 1)
        real = None if real_GP is None else real_GP.repeat(tiles, 1)
        out = self.pack(grid.flatten(0, 2), levels.flatten(0, 2), row_GP, real, heads=heads)
        return out.view(tiles, len(place_GP), -1)

    def pack(
        self,
        x_ND: Tensor,
        level_NE: Tensor,
        row_GP: Tensor,
        real_GP: Tensor | None = None,
        *,
        heads: int | None = None,
    ) -> Tensor:
        """[G, H]: one token for every window of rows.

        row_GP: the rows of each window, s x s, row by row. real_GP: False where a window is partial and
        repeats a row instead (None: nowhere).
        """
        query_GD = self.queries(middles(x_ND, row_GP))
        key_ND, value_ND = self.keys(level_NE), self.values(level_NE)
        attend = self.attend if self.training else self.attend_rearranged
        found_GD = attend(query_GD, key_ND[row_GP], value_ND[row_GP], real_GP, heads=heads)
        return fast_module(self.mlp, found_GD)

    def queries(self, point_GD: Tensor) -> Tensor:
        """[G, D] of the windows' middles."""
        return cast("Tensor", self.ln_q_1(fast_linear(point_GD, self.q_proj_1.weight)))

    def keys(self, level_NE: Tensor) -> Tensor:
        """[N, D] of the levels."""
        return cast("Tensor", self.ln_k_1(fast_module(self.k_proj_1, level_NE)))

    def values(self, level_NE: Tensor) -> Tensor:
        """[N, D] of the levels."""
        return cast("Tensor", self.ln_v_1(fast_module(self.v_proj_1, level_NE)))

    def attend(
        self,
        query_GD: Tensor,
        key_GPD: Tensor,
        value_GPD: Tensor,
        real_GP: Tensor | None = None,
        *,
        heads: int | None = None,
    ) -> Tensor:
        """[G, D]: what each query finds in its window. No residual."""
        h = heads or self.heads
        weights, biases = self._in_proj()
        parts = (query_GD[:, None], key_GPD, value_GPD)
        q, k, v = (
            linear(x, w, b).view(*x.shape[:2], h, -1).transpose(1, 2)
            for x, w, b in zip(parts, weights, biases, strict=True)
        )
        mask = None if real_GP is None else real_GP[:, None, None]
        found_Gh1d = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast("Tensor", self.clip_attn.out_proj(found_Gh1d.flatten(1)))

    def attend_rearranged(
        self,
        query_GD: Tensor,
        key_GPD: Tensor,
        value_GPD: Tensor,
        real_GP: Tensor | None = None,
        *,
        heads: int | None = None,
    ) -> Tensor:
        """The same as `attend`: (W_k k + b_k) . q is k . W_k^T q and a constant, which softmax ignores; and
        the weighted mean of W_v v + b_v is W_v of the weighted mean of v, and b_v.
        """
        h = heads or self.heads
        (w_q, w_k, w_v), (b_q, _, b_v) = self._in_proj()
        groups, whole = query_GD.shape
        width = whole // h
        q_hGd = fast_linear(query_GD, w_q, b_q).view(groups, h, width).transpose(0, 1) * width**-0.5
        back_GhD = torch.bmm(q_hGd, w_k.view(h, width, whole)).transpose(0, 1)
        logit_GhP = torch.bmm(back_GhD, key_GPD.mT)
        if real_GP is not None:
            logit_GhP = logit_GhP.masked_fill(~real_GP[:, None], -torch.inf)
        mean_hGD = torch.bmm(logit_GhP.softmax(-1), value_GPD).transpose(0, 1)
        found_hGd = torch.baddbmm(b_v.view(h, 1, width), mean_hGD, w_v.view(h, width, whole).mT)
        out = self.clip_attn.out_proj
        return fast_linear(found_hGd.transpose(0, 1).flatten(1), out.weight, out.bias)

    def _in_proj(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Weights and biases of the attention's queries, keys and values."""
        weight, bias = self.clip_attn.in_proj_weight, self.clip_attn.in_proj_bias
        return weight.chunk(3), bias.chunk(3)


def middles(x_ND: Tensor, row_GP: Tensor) -> Tensor:
    """[G, D]: interpolate(mode="bilinear", size=(1, 1)) of each window of rows, row by row; in float32.

    Without antialias that is no mean of the window, but of its innermost place (odd sides) or four.
    """
    side = round(row_GP.shape[1] ** 0.5)
    inner = sorted({(side - 1) // 2, side // 2})
    found = [x_ND[row_GP[:, a * side + b]] for a in inner for b in inner]
    if len(found) == 1:
        return found[0]
    p, q, r, s = (x.float() for x in found)
    return (((p + q) + (r + s)) * 0.25).to(x_ND.dtype)


def window_places(
    rows: int, cols: int, scale: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor | None]:
    """[G, P] long: the places of every window of a grid, row by row; [G, P] bool: which are real.

    At an edge that `scale` does not divide the last row or column is repeated, and not real; None: all are.
    """
    down, across = torch.arange(-(-rows // scale) * scale), torch.arange(-(-cols // scale) * scale)
    place = down.clamp_max(rows - 1)[:, None] * cols + across.clamp_max(cols - 1)
    real = None
    if len(down) != rows or len(across) != cols:
        real = _windows((down < rows)[:, None] & (across < cols), scale).to(device)
    return _windows(place, scale).to(device), real


def _windows(map_RC: Tensor, scale: int) -> Tensor:
    """[G, P]: the windows of a map, row by row, each row by row."""
    down, across = (side // scale for side in map_RC.shape)
    return map_RC.view(down, scale, across, scale).transpose(1, 2).reshape(-1, scale**2)


def check_heads(where: str, width: int, heads: int) -> int:
    """`heads`; a CheckpointError when they do not divide the width."""
    if heads < 1 or width % heads:
        divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
        raise CheckpointError(f"{where}: {heads} heads of a width of {width}; wanted one of {divisors}")
    return heads


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
