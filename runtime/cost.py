"""What a forward pass costs, by formula: floating-point operations (a multiply-add is two) and bytes.

Matrix products only; norms, softmax, rotary embedding and activations are left out, as is usual. Nothing here
knows tensors: lengths in, whole numbers out (specs/prunevid.md, 1.5).
"""

# d = width, h = heads, g = key-value heads, D = head width, m = width inside the MLP, V = vocabulary
# n = rows that a layer runs on, c = rows in a layer's cache

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models.handle import LanguageFacts, ProjectorFacts, TowerFacts


# -- the language model ------------------------------------------------------------------------------------


def layer_weights(shape: LanguageFacts) -> int:
    """Multiply-adds of one row with one layer's matrices: d(2hD + 2gD) + 3dm."""
    attention = 2 * shape.heads * shape.head_dim + 2 * shape.kv_heads * shape.head_dim
    return shape.hidden * (attention + 3 * shape.intermediate)


def layer_prefill(shape: LanguageFacts, rows: int, *, causal: bool = False) -> int:
    """FLOPs of one layer on `rows` rows that see each other: 2nd(2hD + 2gD) + 4n^2 hD + 6ndm.

    causal: a kernel that leaves out the keys after each row; half of the attention's FLOPs.
    """
    attention = (2 if causal else 4) * rows**2 * shape.heads * shape.head_dim
    return 2 * rows * layer_weights(shape) + attention


def layers_prefill(shape: LanguageFacts, lengths: Sequence[int], *, causal: bool = False) -> int:
    """FLOPs of layers that run on `lengths` rows each."""
    return sum(layer_prefill(shape, rows, causal=causal) for rows in lengths)


def lm_head(shape: LanguageFacts, rows: int = 1) -> int:
    """FLOPs of the scores of the next token after `rows` rows: 2nVd."""
    return 2 * rows * shape.vocab * shape.hidden


def prefill(shape: LanguageFacts, lengths: Sequence[int], *, causal: bool = False, head_rows: int = 1) -> int:
    """FLOPs of a whole prompt: layers on `lengths` rows each, and the scores after `head_rows` of them."""
    return layers_prefill(shape, lengths, causal=causal) + lm_head(shape, head_rows)


def attention_rows(shape: LanguageFacts, rows: int, keys: int) -> int:
    """FLOPs of the attention weights of `rows` queries to `keys` keys, computed to score tokens: 2nchD.

    The released PruneVid computes all rows (`rows` == `keys`); only those of the text are needed.
    """
    return 2 * rows * keys * shape.heads * shape.head_dim


def projection(shape: LanguageFacts, rows: int, heads: int) -> int:
    """FLOPs of the queries, keys or values of `rows` rows for `heads` heads: 2ndhD."""
    return 2 * rows * shape.hidden * heads * shape.head_dim


def layers_decode(shape: LanguageFacts, lengths: Sequence[int]) -> int:
    """FLOPs of layers on a new row that sees `lengths` rows on each, with itself: 2d(...) + 4chD + 6dm."""
    return 2 * len(lengths) * layer_weights(shape) + 4 * sum(lengths) * shape.heads * shape.head_dim


def decode_step(shape: LanguageFacts, lengths: Sequence[int]) -> int:
    """FLOPs of one new token whose row sees `lengths` rows on each layer, and of its scores."""
    return layers_decode(shape, lengths) + lm_head(shape)


def decode(shape: LanguageFacts, lengths: Sequence[int], steps: int) -> int:
    """FLOPs of `steps` decode steps that begin with caches of `lengths` rows; each step adds a row."""
    first = decode_step(shape, [length + 1 for length in lengths])
    growth = 4 * len(lengths) * shape.heads * shape.head_dim
    return steps * first + growth * (steps * (steps - 1) // 2)


def kv_bytes(shape: LanguageFacts, lengths: Sequence[int], itemsize: int) -> int:
    """Bytes of the keys and values of caches of `lengths` rows, numbers of `itemsize` bytes each."""
    return 2 * sum(lengths) * shape.kv_heads * shape.head_dim * itemsize


# -- the formula of the published tables -------------------------------------------------------------------


def table_layer(shape: LanguageFacts, tokens: float) -> float:
    """FastV's formula for one layer on visual tokens alone: 4nd^2 + 2n^2 d + 2ndm.

    It knows neither grouped key-value heads nor the third matrix of SwiGLU. `tokens` may be a mean.
    """
    d, m = shape.hidden, shape.intermediate
    return 4 * tokens * d**2 + 2 * tokens**2 * d + 2 * tokens * d * m


def table_ratio(shape: LanguageFacts, lengths: Sequence[float], full: float) -> float:
    """FLOPs on `lengths` visual tokens per layer relative to `full` on each, as the tables have it."""
    return sum(table_layer(shape, tokens) for tokens in lengths) / (len(lengths) * table_layer(shape, full))


# -- in front of the language model ------------------------------------------------------------------------


def tower_layer(shape: TowerFacts, rows: int, pairs: int, *, gated: bool = False) -> int:
    """FLOPs of one ViT layer on `rows` rows in which `pairs` rows see each other: 8nd^2 + 4pd + 4ndm.

    gated: an MLP of three matrices (Qwen2.5-VL) instead of two.
    """
    mlp = (6 if gated else 4) * rows * shape.hidden * shape.intermediate
    return tower_attention(shape, rows, pairs) + mlp


def tower_attention(shape: TowerFacts, rows: int, pairs: int) -> int:
    """FLOPs of the attention of one ViT layer, over a tile or over frames (PVC): 8nd^2 + 4pd."""
    return 8 * rows * shape.hidden**2 + 4 * pairs * shape.hidden


def patch_embedding(shape: TowerFacts, patches: int, *, colours: int = 3) -> int:
    """FLOPs of making vectors of patches."""
    return 2 * patches * colours * shape.temporal * shape.patch**2 * shape.hidden


def tower(shape: TowerFacts, tiles: int, patches: int, layers: int, *, extra: int = 0) -> int:
    """FLOPs of a plain ViT's first `layers` layers on tiles of `patches` patches and `extra` rows ([CLS])."""
    rows = patches + extra
    run = layers * tower_layer(shape, tiles * rows, tiles * rows**2)
    return run + patch_embedding(shape, tiles * patches)


def projector(shape: ProjectorFacts, rows: int, out: int) -> int:
    """FLOPs of a projector from `rows` rows to `out`: its last matrix may work on pooled rows."""
    if shape.kind == "identity":
        return 0
    if shape.merge:
        width = shape.inputs * shape.merge**2
        return 2 * out * width * (width + shape.outputs)
    if shape.kind == "pixel_shuffle":
        return 2 * out * shape.outputs * (shape.inputs * shape.side**2 + shape.outputs)
    found = re.fullmatch(r"mlp(\d+)x_gelu", shape.kind)
    widths = [shape.inputs, *[shape.outputs] * (int(found[1]) if found else 1)]
    *first, last = [2 * a * b for a, b in pairwise(widths)]
    return rows * sum(first) + out * last


def distances(sets: int, tokens: int, width: int) -> int:
    """FLOPs of the distances between all pairs of tokens of each set, by which clustering goes: 2n^2 d."""
    return 2 * sets * tokens**2 * width


def tokenpacker(shape: ProjectorFacts, rows: int, out: int, heads: int) -> int:
    """FLOPs of a TokenPacker from `rows` patches to `out` tokens, with its attention rearranged.

    Per patch the MLPs of keys and values and two sums per head; per token five matrices of queries and
    results, and the last MLP.
    """
    d, h = shape.inputs, shape.outputs
    patch = 2 * (shape.levels * d * d + d * d) + 2 * heads * d
    return 2 * (rows * patch + out * (5 * d * d + d * h + h * h))


def flops_text(count: float) -> str:
    """FLOPs for people: `812`, `1.2 k`, `32.6 T`."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if count < 999.5 or unit == "P":
            break
        count /= 1000
    return f"{count:.0f} {unit}".rstrip() if not unit or count >= 99.95 else f"{count:.1f} {unit}"
