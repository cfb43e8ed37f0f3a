"""A language model run layer by layer: the stock modules of transformers, our own loop, masks and KV cache.

B = items, S = rows (padded on the left), D = width, V = vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..values import KVCache, LayerCache, LLMInput, LLMState
from .handle import LanguageFacts
from .masks import prefill_mask, window_of


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
        out: Tensor = self.head(self.body.norm(hidden))
        return out

    def rope(self, hidden: Tensor, position: Tensor) -> Any:
        """The rotary cosines and sines of positions [B, S], or [B, S, 3] with M-RoPE."""
        if self.facts.rope_grid:
            place = position if position.ndim == 3 else position[..., None].expand(-1, -1, 3)
            return self.body.rotary_emb(hidden, position_ids=place.permute(2, 0, 1))
        return self.body.rotary_emb(hidden, position_ids=position)

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
    ) -> list[LLMState]:
        """The states after `until` layers; all of them have passed equally many before.

        on_layer: called with (layers done, layers wanted) before each layer.
        """
        first = states[0].layer
        assert all(state.layer == first for state in states)
        assert first <= until <= self.depth
        if first == until:
            return list(states)
        batch = _Batch.of(states, self.device, self.dtype)
        hidden = batch.hidden
        rope = self.rope(hidden, batch.place)
        masks: dict[int | None, Tensor | None] = {}
        kept: list[_Keep] = []
        for index in range(first, until):
            on_layer(index - first, until - first)
            window = self.window(index)
            if window not in masks:
                masks[window] = prefill_mask(batch.valid, batch.position, window)
            kept.append(_Keep())
            hidden = self.layer(
                index, hidden, mask=masks[window], position=batch.position, rope=rope, store=kept[-1]
            )
        return [_after(state, i, until, hidden, kept) for i, state in enumerate(states)]


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
        return cls(hidden, position, place, torch.arange(most, device=device) >= most - lengths[:, None])


def pad_left(x: Tensor, length: int) -> Tensor:
    """`x` [n, ...] with zeros in front, to [length, ...]; `x` itself when it is long enough."""
    missing = length - len(x)
    return x if missing <= 0 else torch.cat([x.new_zeros(missing, *x.shape[1:]), x])


def _after(state: LLMState, item: int, until: int, hidden: Tensor, kept: Sequence[_Keep]) -> LLMState:
    """The state of one item of a batch, padding cut off, sharing no memory with its neighbours."""
    rows = len(state)
    position, row = state.position.to(hidden.device), state.row.to(hidden.device)

    def own(x: Tensor) -> Tensor:
        return x[0] if len(x) == 1 else x[item].clone()

    layers = tuple(
        LayerCache(own(k.keys[:, :, -rows:]), own(k.values[:, :, -rows:]), position, row) for k in kept
    )
    return replace(
        state,
        hidden=own(hidden[:, -rows:]),
        position=position,
        row=row,
        layer=until,
        cache=KVCache((*state.cache.layers, *layers)),
    )
