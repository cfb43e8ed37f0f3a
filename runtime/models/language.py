"""A language model run layer by layer: the stock modules of transformers, our own loop, masks and KV cache.

B = items, S = rows (padded on the left), D = width, V = vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import context, cost
from ..errors import GraphError
from ..needs import Need
from ..values import KVCache, LayerCache, LLMInput, LLMState
from .attention_rows import Sight
from .capture import Layer, check_layers, query_rows
from .handle import LanguageFacts
from .masks import prefill_mask, window_of
from .rope import DynamicRope


class LanguageModel:
    """A native LlamaForCausalLM, MistralForCausalLM or Qwen2ForCausalLM, or Qwen2.5-VL's text model with its
    head, in eval mode on its device.

    Its layers are called as modules, one after another, so that a graph can stop between any two.
    """

    def __init__(self, module: nn.Module, facts: LanguageFacts) -> None:
        attention = getattr(module.config, "_attn_implementation", None)
        assert attention == "sdpa", f"masks are made for SDPA, the module was built with {attention!r}"
        self.module, self.facts = module, facts
        self.body: Any = module.model
        self.head: Any = module.lm_head
        self._dynamic = DynamicRope.of(module.config)

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.body.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = self.body.embed_tokens.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format."""
        dtype: torch.dtype = self.body.embed_tokens.weight.dtype
        return dtype

    def window(self, layer: int) -> int | None:
        """How many positions back a layer sees (Mistral's sliding window); None: all."""
        return window_of(self.module.config, layer)

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """[..., D] embeddings of token ids [...] long."""
        out: Tensor = self.body.embed_tokens(ids.to(self.device))
        return out

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] from rows [..., D] that have passed every layer."""
        context.count(cost.lm_head(self.facts, hidden.shape[:-1].numel()))
        out: Tensor = self.head(self.body.norm(hidden))
        return out

    def rope(self, hidden: Tensor, position: Tensor) -> Any:
        """The rotary cosines and sines of positions [B, S], or [B, S, 3] with M-RoPE.

        Of a model with dynamic scaling, they depend on the last position of each item, so that `position` has
        to hold it.
        """
        if self.facts.rope_grid:
            place = position if position.ndim == 3 else position[..., None].expand(-1, -1, 3)
            return self.body.rotary_emb(hidden, position_ids=place.permute(2, 0, 1))
        if self._dynamic is not None:
            return self._dynamic(position.to(hidden.device), hidden.dtype)
        return self.body.rotary_emb(hidden, position_ids=position)

    def attention(self, index: int) -> Any:
        """The attention module of a layer. Errors: GraphError for one that this project cannot read."""
        module = self.body.layers[index].self_attn
        if hasattr(module, "q_norm") or hasattr(module, "qkv_proj"):
            raise GraphError(
                f"attention of {type(module).__name__} cannot be read: its queries are normed, or projected "
                "together with the keys; use Llama, Vicuna, Mistral, Qwen2 or Qwen2.5-VL"
            )
        return module

    def project(self, index: int, name: Literal["q_proj", "k_proj"], hidden: Tensor) -> Tensor:
        """[B, heads, S, d]: queries or keys of rows [B, S, D] that enter a layer, before their rotation."""
        heads = self.facts.heads if name == "q_proj" else self.facts.kv_heads
        context.count(cost.projection(self.facts, hidden.shape[:-1].numel(), heads))
        normed = self.body.layers[index].input_layernorm(hidden)
        out: Tensor = getattr(self.attention(index), name)(normed)
        return out.view(*out.shape[:2], -1, self.attention(index).head_dim).transpose(1, 2)

    def rotate(self, heads: Tensor, rope: Any) -> Tensor:
        """Queries or keys [B, H, S, d] turned to their places, `rope` as `rope` gives it for these rows."""
        cos, sin = (self._merged(x)[:, None] for x in rope)
        half = heads.shape[-1] // 2
        turned = torch.cat([-heads[..., half:], heads[..., :half]], -1)
        return heads * cos + turned * sin

    def _merged(self, x: Tensor) -> Tensor:
        """[B, S, d] of [3, B, S, d]: transformers 5.5 leaves choosing M-RoPE's axes to every layer."""
        if x.ndim == 3:
            return x
        config: Any = self.module.config
        sections: list[int] = config.rope_parameters["mrope_section"] * 2
        return torch.cat([part[i % 3] for i, part in enumerate(torch.split(x, sections, -1))], -1)

    def layer(
        self, index: int, hidden: Tensor, *, mask: Tensor | None, position: Tensor, rope: Any, store: Any
    ) -> Tensor:
        """One decoder layer: [B, S, D] to [B, S, D]; `store.update` takes its keys and values."""
        out = self.body.layers[index](
            hidden,
            attention_mask=mask,
            position_ids=position,
            past_key_values=store,
            use_cache=True,
            position_embeddings=rope,
        )
        hidden = out[0] if isinstance(out, tuple) else out
        return hidden

    @torch.no_grad()
    def run(
        self,
        states: Sequence[LLMState],
        until: int,
        on_layer: Callable[[int, int], None] = lambda done, total: None,
        needs: Collection[Need] = (),
    ) -> list[LLMState]:
        """The states after `until` layers; all of them have passed equally many before.

        on_layer: called with (layers done, layers wanted) before each layer. needs: side channels of the new
        states (`attention`), and of their caches (`cache_attention`); those of the given states are dropped
        when a layer runs. Errors: NeedError for layers that do not run and rows that are not there.
        """
        first = states[0].layer
        assert all(state.layer == first for state in states)
        assert first <= until <= self.depth
        check_layers(needs, first, until)
        for need in needs:
            assert need.channel == "cache_attention" or all(query_rows(s, need) for s in states)
        if first == until:
            return list(states)
        batch = _Batch.of(states, self.device, self.dtype)
        hidden = batch.hidden
        rope = self.rope(hidden, batch.place)
        masks = _Masks(batch)
        heard = _Heard(self, batch, needs, until - 1)
        kept: list[_Keep] = []
        for index in range(first, until):
            on_layer(index - first, until - first)
            mask, keep = masks.of(index, self.window(index)), _Keep()
            out = self.layer(index, hidden, mask=mask, position=batch.position, rope=rope, store=keep)
            heard.take(index, hidden, keep.keys)
            kept.append(keep)
            hidden = out
        lengths = [len(state) for state in states]
        context.count((until - first) * cost.layers_prefill(self.facts, lengths))
        return [_after(state, i, until, hidden, kept, heard) for i, state in enumerate(states)]


def start(inputs: LLMInput) -> LLMState:
    """The state before the first layer."""
    rows = torch.arange(len(inputs), device=inputs.embeds.device)
    after = int(inputs.position.max()) + 1 if len(inputs) else 0
    return LLMState(inputs.embeds, inputs.position, rows, 0, KVCache(), inputs, after)


class _Keep:
    """Stands where a layer looks for transformers' cache: keeps the keys and values it is given.

    A plain object on purpose: the layers only ever call `update`, and a state's tensors are never written.
    """

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        return keys, values


@dataclass(frozen=True)
class _Batch:
    """Items side by side: hidden [B, S, D], position [B, S] and place [B, S(, 3)] long, valid [B, S] bool."""

    states: Sequence[LLMState]
    hidden: Tensor
    position: Tensor
    place: Tensor
    valid: Tensor

    @classmethod
    def of(cls, states: Sequence[LLMState], device: torch.device, dtype: torch.dtype) -> _Batch:
        most = max(map(len, states))
        hidden = torch.stack([pad_left(s.hidden.to(device, dtype), most) for s in states])
        position = torch.stack([pad_left(s.position.to(device), most) for s in states])
        place = torch.stack([pad_left(s.place.to(device), most) for s in states])
        lengths = torch.tensor([len(s) for s in states], device=device)
        valid = torch.arange(most, device=device) >= most - lengths[:, None]
        return cls(states, hidden, position, place, valid)

    def visible(self, item: int, layer: int) -> Tensor | None:
        """[S] bool, the item's rows that this layer sees; None: all of them."""
        hiding = self.states[item].hiding
        return None if hiding is None or layer < hiding.layer else hiding.visible.to(self.valid.device)


class _Masks:
    """The masks of a prefill, each made once: layers share them."""

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._made: dict[tuple[int | None, tuple[bool, ...]], Tensor | None] = {}

    def of(self, layer: int, window: int | None) -> Tensor | None:
        """[B, 1, S, S] bool or None, as `prefill_mask` gives it for this layer."""
        batch = self._batch
        seen = [batch.visible(i, layer) for i in range(len(batch.states))]
        key = window, tuple(one is not None for one in seen)
        if key not in self._made:
            shown = batch.valid.clone()
            for i, one in enumerate(seen):
                if one is not None:
                    shown[i, -len(one) :] = one
            hides = any(key[1])
            self._made[key] = prefill_mask(batch.valid, batch.position, window, shown if hides else None)
        return self._made[key]


class _Heard:
    """The attention that was asked for: `side` of every item, `received` of every item and layer."""

    def __init__(self, model: LanguageModel, batch: _Batch, needs: Collection[Need], last: int) -> None:
        self._model, self._batch = model, batch
        self._at = [(last if n.layer is None else n.layer, n) for n in needs if n.channel == "attention"]
        self._all = any(n.channel == "cache_attention" for n in needs)
        self.side: list[dict[str, Tensor]] = [{} for _ in batch.states]
        self.received: list[list[Tensor]] = [[] for _ in batch.states]

    def take(self, index: int, hidden: Tensor, keys: Tensor) -> None:
        """What is wanted of this layer, from the rows that entered it and the keys that it made."""
        here = [need for at, need in self._at if at == index]
        if not here and not self._all:
            return
        for i, state in enumerate(self._batch.states):
            rows = slice(hidden.shape[1] - len(state), None)
            sight = Sight(
                self._batch.position[i, rows], self._model.window(index), self._batch.visible(i, index)
            )
            layer = Layer(self._model, index, hidden[i, rows], keys[i, :, rows], state, sight)
            self.side[i] |= {need.key: layer.scores(need) for need in here}
            if self._all:
                self.received[i].append(layer.received())


def pad_left(x: Tensor, length: int) -> Tensor:
    """`x` [n, ...] with zeros in front, to [length, ...]; `x` itself when it is long enough."""
    missing = length - len(x)
    return x if missing <= 0 else torch.cat([x.new_zeros(missing, *x.shape[1:]), x])


def _after(
    state: LLMState, item: int, until: int, hidden: Tensor, kept: Sequence[_Keep], heard: _Heard
) -> LLMState:
    """The state of one item of a batch, padding cut off, sharing no memory with its neighbours."""
    rows = len(state)
    position, row = state.position.to(hidden.device), state.row.to(hidden.device)

    def own(x: Tensor) -> Tensor:
        return x[0] if len(x) == 1 else x[item].clone()

    received: Sequence[Tensor | None] = heard.received[item] or [None] * len(kept)
    layers = tuple(
        LayerCache(own(k.keys[:, :, -rows:]), own(k.values[:, :, -rows:]), position, row, heard_of)
        for k, heard_of in zip(kept, received, strict=True)
    )
    side: Mapping[str, Tensor] = heard.side[item]
    return replace(
        state,
        hidden=own(hidden[:, -rows:]),
        position=position,
        row=row,
        layer=until,
        cache=KVCache((*state.cache.layers, *layers)),
        side=side,
        ran=(*state.ran, *[row] * len(layers)) if len(state.ran) == state.layer else (),
    )
