"""What a prefill is asked to report of its attention, and how a layer's own projections give it.

Nothing is hooked or patched: queries, and keys before their rotation, are projected once more from the rows
that entered the layer, and only for the rows and the layer that somebody asked for.
"""

# S = rows of the sequence, R = query rows (the last R of S), H = query heads, G = key-value heads,
# D = width, d = head width

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor

from .. import context, cost
from ..errors import GraphError, NeedError, did_you_mean
from ..needs import Need
from ..values import LLMState
from .attention_rows import Reduce, Sight, received, score_keys

if TYPE_CHECKING:
    from .language import LanguageModel

CHANNELS = ("attention", "cache_attention")
ROWS = ("text", "last", "all")  # after the last visual row, the last one, all; a need that names none: all
KINDS = ("pre_rope_full", "post_rope_causal")
# what an eager call offers that stops between layers: PruneVid's scores, and FastV's
PUBLISHED = (
    Need("attention", rows="text", form="pre_rope_full,max,max"),
    Need("attention", rows="last", form="post_rope_causal,mean,mean"),
)


@dataclass(frozen=True)
class Form:
    """`pre_rope_full,max,max`: before the rotation and unmasked, or as the layer attends; heads; rows."""

    kind: Literal["pre_rope_full", "post_rope_causal"]
    heads: Reduce
    over: Reduce

    @classmethod
    def of(cls, need: Need) -> Form:
        """A need's form, by default the true attention, averaged. Errors: NeedError for an unknown one."""
        parts = (need.form or "post_rope_causal,mean,mean").split(",")
        if len(parts) != 3 or parts[0] not in KINDS or not {*parts[1:]} <= {"max", "mean"}:
            raise NeedError(
                f"prefill: no attention has the form {need.form!r}; wanted KIND,HEADS,OVER with KIND "
                f"{' or '.join(KINDS)}, HEADS and OVER max or mean"
            )
        return cls(*cast("tuple[Any, Any, Any]", tuple(parts)))


def own_needs(needs: Collection[Need]) -> tuple[Need, ...]:
    """Those that a prefill can meet. Errors: NeedError for rows and forms that no prefill computes."""
    mine = tuple(sorted((n for n in needs if n.channel in CHANNELS), key=lambda need: need.key))
    for need in mine:
        if need.channel == "attention":
            Form.of(need)
            if need.rows is not None and need.rows not in ROWS:
                raise NeedError(
                    f"prefill: no rows of the prompt are called {need.rows!r}{did_you_mean(need.rows, ROWS)}"
                )
    return mine


def check_layers(needs: Collection[Need], first: int, end: int) -> None:
    """A NeedError unless `attention` can be read: some of the layers first..end-1 run, the named one too.

    `cache_attention` of no layers is nothing, and no mistake: earlier prefills may have run them all.
    """
    for need in needs:
        if need.channel != "attention":
            continue
        if first == end:
            raise NeedError(
                f"prefill: {need.key} is asked for, but no layer runs: {first} have run already; leave the "
                "layers it is read from to this prefill"
            )
        if need.layer is not None and not first <= need.layer < end:
            raise NeedError(
                f"prefill: {need.key} is asked for, but this prefill runs layers {first}..{end - 1}; choose "
                "one of them, or change until"
            )


def query_rows(state: LLMState, need: Need) -> int:
    """How many rows at the end of the state a need asks about. Errors: NeedError when there is none."""
    if need.rows == "text":
        count = int(state.input.text_after[state.row].sum())
    else:
        count = min(len(state), 1) if need.rows == "last" else len(state)
    if not count:
        raise NeedError(
            f"prefill: {need.key} is asked for, but no "
            + ("text follows the visual rows" if need.rows == "text" and len(state) else "row is left")
            + "; put the question after the pictures, and keep it when pruning"
        )
    return count


def offered(state: LLMState) -> tuple[Need, ...]:
    """The published forms that this state has query rows for."""
    text = bool(state.input.text_after[state.row].any())
    return PUBLISHED if text else PUBLISHED[1:] if len(state) else ()


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of one sequence: rows [S, D] that entered it, its keys [G, S, d] as cached, who sees whom."""

    model: LanguageModel
    index: int
    hidden: Tensor
    keys: Tensor
    state: LLMState
    sight: Sight

    def scores(self, need: Need) -> Tensor:
        """[S] float32: `attention` in the form of the need. Errors: GraphError for scores that are nan."""
        form, count = Form.of(need), query_rows(self.state, need)
        rotated = form.kind == "post_rope_causal"
        keys = self.keys if rotated else self.project("k_proj", len(self.state))
        context.count(cost.attention_rows(self.model.facts, count, len(self.state)))
        score_S = score_keys(
            self.queries(count, rotated=rotated),
            keys,
            self.scale,
            heads=form.heads,
            over=form.over,
            sight=self.sight if rotated else None,
        )
        return self._numbers(need.key, score_S)

    def received(self) -> Tensor:
        """[G, S] float32: `cache_attention`. Errors: GraphError for scores that are nan."""
        query_HSd = self.queries(len(self.state), rotated=True)
        context.count(cost.attention_rows(self.model.facts, len(self.state), len(self.state)))
        return self._numbers("cache_attention", received(query_HSd, self.keys, self.scale, self.sight))

    @property
    def scale(self) -> float:
        """What the layer multiplies its scores with before the softmax."""
        return float(self.model.attention(self.index).scaling)

    def queries(self, count: int, *, rotated: bool) -> Tensor:
        """[H, count, d] of the last rows."""
        query_HRd = self.project("q_proj", count)
        if not rotated:
            return query_HRd
        place = self.state.place[-count:].to(self.hidden.device)
        return self.model.rotate(query_HRd[None], self.model.rope(self.hidden[None], place[None]))[0]

    def project(self, name: Literal["q_proj", "k_proj"], count: int) -> Tensor:
        """[heads, count, d] of the last rows, before the rotation."""
        return self.model.project(self.index, name, self.hidden[None, -count:])[0]

    def _numbers(self, key: str, score: Tensor) -> Tensor:
        if bool(score.isnan().any()):
            raise GraphError(
                f"prefill: {key} of layer {self.index} holds values that are not numbers (nan); look for nan "
                "in the checkpoint and in the tokens that are placed, or set dtype: float32"
            )
        return score
