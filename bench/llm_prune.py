"""What pruning inside the language model saves: prefill and decode with fewer rows against all of them.

A Llama of random weights, scaled to what two cores can do (8 layers of width 1024; 2304 visual and 64 text
rows, float32); with `--clock cuda` Llama-7B's real shape in bfloat16. Every side is the public nodes, called
as a user calls them. The names say which part of the FLOPs a side needs (runtime/cost.py, causal kernels,
attention rows included): its time should follow, within 15 %, on CUDA 10 %.

prefill: whole; with the text rows captured at one layer; FastV (K = 2, R dropped: its two first layers see
    everything); PruneVid's stage 2 (alpha 0.4 of every frame, after M + 1 layers), alone and on what its
    stage 1 leaves on average (40.5 % of the tokens). "text rows alone" is the captured layer's extra work by
    itself, free of the noise between two prefills.
decode: 8 tokens over the caches that those leave behind, and over LOOK-M's, whose heads hold different rows.

    python bench/llm_prune.py --json bench/results/llm_prune-cpu-DATE.json

On the CPU one thread runs unless OMP_NUM_THREADS says otherwise: threads that wait for each other spin, which
counts as CPU time, and the more so the shorter the prompt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import harness

from tokenloom.runtime import cost
from tokenloom.runtime.models.handle import LanguageFacts

FRAMES, PLACES, TEXT, STEPS = 16, 144, 64, 8
VISUAL = FRAMES * PLACES
AFTER_STAGE_1 = 58  # tokens a frame: 40.5 % of 144


@dataclass(frozen=True)
class Shape:
    """A Llama, its number format, PruneVid's M (layers 0..M see everything), and time over FLOPs at most."""

    name: str
    facts: LanguageFacts
    dtype: str
    selected: int
    slack: float

    @property
    def depth(self) -> int:
        return self.facts.depth


def llama(hidden: int, intermediate: int, depth: int, head_dim: int, vocab: int) -> LanguageFacts:
    """A Llama without grouped heads."""
    return LanguageFacts(
        family="llama",
        hidden=hidden,
        depth=depth,
        heads=hidden // head_dim,
        kv_heads=hidden // head_dim,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=vocab,
        max_length=4096,
    )


SCALED = Shape("8 layers of 1024", llama(1024, 2752, 8, 128, 320), "float32", selected=2, slack=1.15)
LLAMA_7B = Shape("Llama-7B", llama(4096, 11008, 32, 128, 32000), "bfloat16", selected=10, slack=1.10)


@dataclass(frozen=True)
class Way:
    """A setting: visual rows that come in, layers that see all of them, visual rows that go on."""

    name: str
    before: int
    full: int
    after: int
    rows: int  # whose attention decides

    def lengths(self, shape: Shape) -> list[int]:
        """Rows that every layer runs on."""
        return [TEXT + self.before] * self.full + [TEXT + self.after] * (shape.depth - self.full)

    def flops(self, shape: Shape) -> float:
        """Part of a whole prefill's FLOPs."""
        looked = cost.attention_rows(shape.facts, self.rows, TEXT + self.before)
        whole = cost.layers_prefill(shape.facts, [TEXT + VISUAL] * shape.depth, causal=True)
        return (cost.layers_prefill(shape.facts, self.lengths(shape), causal=True) + looked) / whole

    def label(self, shape: Shape) -> str:
        return f"{self.name} (FLOPs x {self.flops(shape):.3f})"


def ways(shape: Shape) -> list[Way]:
    """FastV twice, PruneVid's stage 2 alone and after stage 1."""
    full, small = shape.selected + 1, FRAMES * AFTER_STAGE_1
    return [
        Way("FastV K 2, R 0.5", VISUAL, 2, round(VISUAL * 0.5), 1),
        Way("FastV K 2, R 0.7", VISUAL, 2, round(VISUAL * 0.3), 1),
        Way(f"PruneVid M {shape.selected}", VISUAL, full, FRAMES * int(PLACES * 0.4), TEXT),
        Way("PruneVid after stage 1", small, full, FRAMES * int(AFTER_STAGE_1 * 0.4), TEXT),
    ]


def model(shape: Shape, device: str) -> Any:
    """A handle on a Llama with random weights, made where it runs."""
    import torch
    import transformers

    from tokenloom.runtime.models.handle import Model, ModelFacts
    from tokenloom.runtime.models.language import LanguageModel
    from tokenloom.runtime.models.pool import loader

    torch.manual_seed(0)
    facts, make = shape.facts, cast("Any", transformers.LlamaConfig)
    config = make(
        hidden_size=facts.hidden,
        intermediate_size=facts.intermediate,
        num_hidden_layers=facts.depth,
        num_attention_heads=facts.heads,
        vocab_size=facts.vocab,
        max_position_embeddings=facts.max_length,
        dtype=shape.dtype,
        attn_implementation="sdpa",
    )
    torch.set_default_dtype(getattr(torch, shape.dtype))
    with torch.device(device):
        module: Any = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    made = LanguageModel(module.eval().requires_grad_(False), facts)
    loader("bench")(lambda handle: made)
    return Model(
        kind=LanguageModel,
        loader="bench",
        folder="",
        fingerprint="bench",
        dtype=shape.dtype,
        device=device,
        facts=ModelFacts(name="bench", language=facts),
    )


def placed(llm: Any, per_frame: int) -> Any:
    """A prompt: 16 ids, 16 frames of tokens, 48 ids."""
    import torch

    from tokenloom.nodes import place_tokens
    from tokenloom.runtime.values import Prompt, Source, Tile, VisualTokens
    from tokenloom.runtime.values.prompt import IMAGE_TOKEN_INDEX

    width = llm.facts.language.hidden
    source = Source(tuple(Tile(frame=i, box=(0, 0, 1, 1)) for i in range(FRAMES)), 1, per_frame)
    features = torch.randn(len(source), width, generator=torch.Generator().manual_seed(1)) * 0.02
    ids = [1, *range(3, 18), IMAGE_TOKEN_INDEX, *range(20, 20 + TEXT - 16)]
    return place_tokens(llm, Prompt.of_ids(ids), VisualTokens.of_patches(source, features))


def prefills(shape: Shape, device: str) -> harness.Sides:
    """A whole prefill, one whose text rows are captured, and every way to prune."""
    from tokenloom.nodes import prefill, prune_by_attention
    from tokenloom.runtime.context import demand
    from tokenloom.runtime.needs import Need

    llm = model(shape, device)
    whole, less = placed(llm, PLACES), placed(llm, AFTER_STAGE_1)
    text = Need("attention", rows="text", form="pre_rope_full,max,max")
    last = Need("attention", rows="last", form="post_rope_causal,mean,mean")
    middle = Need("attention", shape.selected, "text", "pre_rope_full,max,max")

    def captured() -> Any:
        with demand(middle):
            return prefill(llm, whole)

    def fastv(drop: float) -> Any:
        with demand(last):
            state = prefill(llm, whole, until=2)
        with demand():
            state = prune_by_attention(
                state,
                drop=drop,
                rows="last",
                attention="post_rope_causal",
                heads="mean",
                over="mean",
                select="global",
                rounding="round",
                rewrite_cache=False,
            )
            return prefill(llm, state)

    def prunevid(inputs: Any) -> Any:
        with demand(text):
            state = prefill(llm, inputs, through=shape.selected)
        with demand():
            return prefill(llm, prune_by_attention(state, ratio=0.4))

    pruned = [partial(fastv, 0.5), partial(fastv, 0.7), partial(prunevid, whole), partial(prunevid, less)]
    with demand():
        short = prefill(llm, placed(llm, 4))  # warms up, and cheaply
        assert short.layer == shape.depth
    made: dict[str, Callable[[], object]] = {
        "whole": lambda: prefill(llm, whole),
        "text rows captured": captured,
        "text rows alone": rows_alone(llm, whole, middle),
    }
    for way, side in zip(ways(shape), pruned, strict=True):
        made[way.label(shape)] = partial(checked, side, way.lengths(shape))
    return {name: partial(waited, side, device) for name, side in made.items()}


def checked(side: Callable[[], Any], lengths: list[int]) -> Any:
    """One call, whose last layers ran on as many rows as the FLOPs were counted for."""
    state = side()
    assert len(state) == lengths[-1], f"{len(state)} rows, the FLOPs are for {lengths[-1]}"
    return state


def rows_alone(llm: Any, inputs: Any, need: Any) -> Callable[[], object]:
    """What the captured layer does besides its own work: project once more, compare, reduce."""
    import torch

    from tokenloom.nodes import prefill
    from tokenloom.runtime.models.attention_rows import Sight
    from tokenloom.runtime.models.capture import Layer

    state, after = (prefill(llm, inputs, until=need.layer + more) for more in (0, 1))
    keys, sight = after.cache.layers[-1].keys, Sight(state.position)
    layer = Layer(llm.load(), need.layer, state.hidden, keys, state, sight)

    @torch.no_grad()
    def run() -> object:
        return layer.scores(need)

    return run


def waited(side: Callable[[], object], device: str) -> object:
    """One call, until the device is done."""
    import torch

    out = side()
    if device == "cuda":
        torch.cuda.synchronize()
    return out


def decodes(shape: Shape, device: str) -> harness.Sides:
    """Some tokens over caches of random numbers, as long as each method leaves them."""
    llm = model(shape, device)
    whole = [TEXT + VISUAL] * shape.depth
    made = {"whole": stepping(llm, whole)}
    for way in ways(shape):
        lengths = way.lengths(shape)
        if way.name.startswith("PruneVid"):  # it rewrites the caches of the layers before, too
            lengths = [lengths[-1]] * shape.depth
        made[way.name] = stepping(llm, lengths)
    made["LOOK-M 20 %"] = stepping(llm, [2 * int(whole[0] * 0.1)] * shape.depth, per_head=True)
    return {name: partial(waited, side, device) for name, side in made.items()}


def stepping(llm: Any, lengths: list[int], *, per_head: bool = False) -> Callable[[], object]:
    """The next tokens, behind caches of these lengths; every call goes on where the last one ended."""
    import torch

    from tokenloom.runtime.models.decode import Decoder
    from tokenloom.runtime.values import KVCache, LayerCache, LLMState

    facts, full = llm.facts.language, placed(llm, PLACES)
    keys, values = torch.randn(2, facts.kv_heads, len(full), facts.head_dim, device=full.embeds.device)
    layers = []
    for length in lengths:
        row = torch.arange(len(full) - length, len(full))
        row = row.expand(facts.kv_heads, -1) if per_head else row
        layers.append(LayerCache(keys[:, -length:], values[:, -length:], row, row))
    row = torch.arange(len(full))
    state = LLMState(full.embeds, row, row, facts.depth, KVCache(tuple(layers)), full, len(full))
    decoder = Decoder(llm.load(), [state])

    def run() -> object:
        for token in range(STEPS):
            decoder.step([token])
        return decoder.logits

    return run


def cases(shape: Shape, device: str) -> list[harness.Case]:
    """Prefill and decode of one shape."""
    target = {"text rows captured": 1.02, "text rows alone": 0.02}
    target |= {way.label(shape): round(way.flops(shape) * shape.slack, 3) for way in ways(shape)}
    decode = [*(way.name for way in ways(shape)), "LOOK-M 20 %"]
    return [
        harness.Case(
            f"prefill, {shape.name}",
            partial(prefills, shape, device),
            base="whole",
            repeats=7 if device == "cuda" else 1,
            warm=0,  # `prefills` does it, on a short prompt
            target=target,
        ),
        harness.Case(
            f"decode, {shape.name}",
            partial(decodes, shape, device),
            base="whole",
            repeats=7 if device == "cuda" else 3,
            per=STEPS,
            unit="ms",
            scale=1e3,
            target=dict.fromkeys(decode, 1.0),
        ),
    ]


if __name__ == "__main__":
    cuda = "cuda" in sys.argv
    if not cuda:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    harness.main(__file__, cases(LLAMA_7B, "cuda") if cuda else cases(SCALED, "cpu"))
