"""Every way of making fewer tokens or rows that is mixed, and which nodes of the registry it covers.

A stage writes its steps behind an edge of the graph that is being written. `TOKENS`: before or after the
projector; `ROWS`: inside the language model. Projectors and layouts are taken from the registry as they are,
and so is a node that makes fewer tokens and that no stage here covers, with its defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenloom import nodes
from tokenloom.runtime.node import NodeType
from tokenloom.runtime.registry import all_nodes
from tokenloom.runtime.values import LLMState, Tokens, VisualTokens

Add = Callable[..., Any]
KEEP, PLACES, PART = 12, tuple(range(12)), 0.5
FASTV: dict[str, Any] = {
    "rows": "last",
    "attention": "post_rope_causal",
    "heads": "mean",
    "over": "mean",
    "select": "global",
}


@dataclass(frozen=True)
class Stage:
    """`add(tokens)` of tokens, `add(llm, inputs)` of a prompt or state: writes its steps, returns the edge.

    covers: names of nodes. features: what encode_vision is to give. keeps: of every tile, so many tokens;
    None: it depends on them.
    """

    name: str
    add: Add
    covers: tuple[str, ...] = ()
    features: str = "auto"
    keeps: int | None = None


def _zipped(tokens: Any) -> Any:
    kept, rest = nodes.select_dominant(tokens, keep=KEEP // 3 * 2)
    return nodes.merge_contextual(kept, rest, targets=KEEP // 3)


def _merged_over_time(tokens: Any) -> Any:
    return nodes.merge_static(tokens, nodes.cluster_temporal(tokens))


TOKENS = (
    Stage("every token", lambda tokens: tokens),
    Stage(
        "select_dominant",
        lambda tokens: nodes.select_dominant(tokens, keep=KEEP).kept,
        ("select_dominant",),
        keeps=KEEP,
    ),
    Stage(
        "select_dominant (received)",
        lambda tokens: nodes.select_dominant(tokens, keep=KEEP, score="received").kept,
        ("select_dominant",),
        keeps=KEEP,
    ),
    Stage(
        "VisionZip with [CLS]",
        _zipped,
        ("select_dominant", "merge_contextual"),
        features="cls_patch",
        keeps=KEEP,
    ),
    Stage(
        "merge_contextual",
        lambda tokens: nodes.merge_contextual(None, tokens, targets=KEEP),
        ("merge_contextual",),
        keeps=KEEP,
    ),
    Stage(
        "select_top",
        lambda tokens: nodes.select_top(tokens, keep=KEEP, score="received").kept,
        ("select_top",),
        keeps=KEEP,
    ),
    Stage(
        "select_manual",
        lambda tokens: nodes.select_manual(tokens, indices=PLACES, each_tile=True).kept,
        ("select_manual",),
    ),
    Stage("PruMerge", lambda tokens: nodes.prune_outliers(tokens), ("prune_outliers",)),
    Stage(
        "PruMerge+", lambda tokens: nodes.prune_outliers(tokens, plus=True, ratio=0.1), ("prune_outliers",)
    ),
    Stage(
        "pool_tokens",
        lambda tokens: nodes.pool_tokens(tokens, grid=(4, 4)),
        ("pool_tokens",),
        keeps=16,
    ),
    Stage("PruneVid over time", _merged_over_time, ("cluster_temporal", "merge_static")),
    Stage("PruneVid in a frame", lambda tokens: nodes.cluster_spatial(tokens), ("cluster_spatial",)),
    Stage(
        "PruneVid's stage 1",
        lambda tokens: nodes.cluster_spatial(_merged_over_time(tokens)),
        ("cluster_temporal", "merge_static", "cluster_spatial"),
    ),
)


def _fastv(state: Any) -> Any:
    return nodes.prune_by_attention(state, drop=PART, rounding="round", rewrite_cache=False, **FASTV)


def _masked(state: Any) -> Any:
    return nodes.prune_by_attention(
        state, drop=PART, mode="mask", special="count", rewrite_cache=False, **FASTV
    )


ONCE: dict[str, tuple[Add, str]] = {
    "PruneVid's stage 2": (lambda s: nodes.prune_by_attention(s, ratio=PART), "prune_by_attention"),
    "FastV": (_fastv, "prune_by_attention"),
    "FastV masked": (_masked, "prune_by_attention"),
    "prune_random": (lambda s: nodes.prune_random(s, ratio=PART), "prune_random"),
    "prune_uniform": (lambda s: nodes.prune_uniform(s, ratio=PART), "prune_uniform"),
    "LOOK-M": (lambda s: nodes.compress_kv(s), "compress_kv"),
    "H2O": (lambda s: nodes.compress_kv(s, mode="h2o"), "compress_kv"),
}
DROPPING = tuple(
    add for name, (add, node) in ONCE.items() if node != "compress_kv" and name != "FastV masked"
)


@dataclass(frozen=True)
class Rows:
    """Inside the language model: what happens to the state after so many layers (None: all of them)."""

    name: str
    at: tuple[tuple[int | None, Add], ...] = ()
    covers: tuple[str, ...] = ()

    @property
    def drops(self) -> int:
        """How often it drops a part of the visual tokens."""
        return sum(change in DROPPING for _, change in self.at)

    def add(self, llm: Any, inputs: Any) -> Any:
        """The state after all layers."""
        for layer, change in self.at:
            inputs = change(nodes.prefill(llm, inputs, until=layer))
        return inputs if self.at and self.at[-1][0] is None else nodes.prefill(llm, inputs)


def _rows() -> tuple[Rows, ...]:
    once = [
        Rows(name, ((None if "compress" in node else 2, add),), (node,)) for name, (add, node) in ONCE.items()
    ]
    pyramid = Rows("a pyramid", tuple((layer, _fastv) for layer in (1, 2, 3)), ("prune_by_attention",))
    return (Rows("every row"), *once, pyramid)


ROWS = _rows()
# every change of a state after every other, and each before a compression of all layers
PAIRS = tuple(
    Rows(f"{one}; {two}", ((2, ONCE[one][0]), (3, ONCE[two][0]))) for one in ONCE for two in ONCE
) + tuple(Rows(f"{one}; LOOK-M of all", ((2, ONCE[one][0]), (None, ONCE["LOOK-M"][0]))) for one in ONCE)


def _built_in() -> list[NodeType[..., Any]]:
    return [t for t in all_nodes().values() if t.fn.__module__.startswith("tokenloom.nodes.")]


def token_nodes() -> dict[str, NodeType[..., Any]]:
    """The registry's nodes that give back tokens of the class that comes in."""
    return {t.name: t for t in _built_in() if any(issubclass(t.outputs[name], Tokens) for name in t.echoes)}


def row_nodes() -> dict[str, NodeType[..., Any]]:
    """The registry's nodes that turn a state into a state; prefill, which runs layers, is none of them."""
    return {
        t.name: t
        for t in _built_in()
        if [*t.outputs.values()] == [LLMState] and any(s.type == LLMState for s in t.sockets.values())
    }


def projectors() -> dict[str, Add]:
    """By name: `add(handle, tokens)`."""
    return {
        t.name: t for t in _built_in() if {"projector", "tokens"} <= t.sockets.keys() and _makes_visual(t)
    }


def _makes_visual(t: NodeType[..., Any]) -> bool:
    return [*t.outputs.values()] == [VisualTokens] and t.sockets["tokens"].type != VisualTokens


def layouts() -> dict[str, Add]:
    """By name: `add(model, tokens)` for every node that puts visual tokens into an order of its own."""
    found = {
        t.name: t
        for t in _built_in()
        if t.sockets and t.sockets.get("tokens") and t.sockets["tokens"].type == VisualTokens
    }
    return {name: _laid_out(t) for name, t in found.items()}


def _laid_out(t: NodeType[..., Any]) -> Add:
    def add(model: Any, tokens: Any) -> Any:
        handles = {name: getattr(model, name) for name in ("llm", "projector", "chat") if name in t.sockets}
        edge = t(**handles, tokens=tokens)
        return edge.tokens if "tokens" in t.outputs else edge

    return add


def token_stages() -> tuple[Stage, ...]:
    """`TOKENS`, and with its defaults every node of the registry that none of them covers."""
    covered = {name for stage in TOKENS for name in stage.covers}
    own = [t for name, t in token_nodes().items() if name not in covered and _alone(t)]
    return (*TOKENS, *(Stage(t.name, _by_itself(t), (t.name,)) for t in own))


def _alone(t: NodeType[..., Any]) -> bool:
    """It runs on tokens and nothing else."""
    required = [s for s in t.sockets.values() if s.required]
    return len(required) == 1 and not any(w.required for w in t.widgets.values())


def _by_itself(t: NodeType[..., Any]) -> Add:
    def add(tokens: Any) -> Any:
        edge = t(tokens)
        return edge if "" in t.outputs else getattr(edge, next(iter(t.outputs)))

    return add
