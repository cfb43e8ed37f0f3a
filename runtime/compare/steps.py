"""Steps that a comparison adds to graphs; no graph file can name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..foreseen import KnownTokens
from ..node import NodeType
from ..values import Kind, LLMState, Patches, Table

COLUMNS = ("layer", "rows", "visual", "cached bytes")


def _private(fn: Callable[..., Any], foresee: Callable[..., Any] | None = None) -> NodeType[..., Any]:
    return NodeType(
        fn,
        name=fn.__name__,
        version=1,
        pure=True,
        lane="cpu",
        provides=(),
        adds_to=(),
        batch=None,
        foresee=foresee,
    )


def _without_cls(patches: KnownTokens | None) -> KnownTokens | None:
    if patches is None:
        return None
    per_tile = None if patches.per_tile is None else patches.per_tile - 1
    return replace(patches, cls_token=False, per_tile=per_tile)


def patches_alone(patches: Patches) -> Patches:
    """The patches without the [CLS] of their tiles: what the tower gives a graph that does not ask for it."""
    return patches.select(patches.kind == int(Kind.PATCH))


def layer_table(state: LLMState) -> Table:
    """Rows that each layer of the language model ran on, the visual ones, and bytes of its cache after it.

    state: after all layers.
    """
    visual = state.input.visual
    rows = tuple(
        (
            layer,
            ran.shape[-1],
            int(visual[ran.to(visual.device)].sum()),
            kept.keys.nbytes + kept.values.nbytes,
        )
        for layer, (ran, kept) in enumerate(zip(state.ran, state.cache.layers, strict=True))
    )
    return Table(COLUMNS, rows)


PATCHES_ALONE = _private(patches_alone, _without_cls)
LAYER_TABLE = _private(layer_table)
