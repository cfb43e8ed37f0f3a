"""Decoding over every kind of cache equals recomputing all of it, with what is gone masked out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import starmap
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.runtime.models.attention_rows import Sight, softmax_rows
from tokenloom.runtime.models.decode import BLOCK, Decoder
from tokenloom.runtime.models.language import LanguageModel, start
from tokenloom.runtime.values import Hiding, KVCache, LayerCache, LLMState

from .test_capture import a_prompt, seen
from .tiny import DEPTH, FAMILIES, tiny_language

IDS = (3, 50, 9, 77, 12)
HEADS, GROUPS = 4, 2
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in FAMILIES),
    ("mistral", {"sliding_window": 5}),
]

Masks = Callable[[int], Tensor]


@torch.no_grad()
def recomputed(
    model: LanguageModel,
    state: LLMState,
    mask: Masks,
    ids: Sequence[int] = IDS,
    position: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """[1 + ids, V]: prompt and answer in one pass through the stock layers, who sees whom given per layer.

    state: before the first layer. mask: [n, n] or [H, n, n] bool. position: [n] of a layer, if not 0, 1, ...
    """
    hidden = torch.cat([state.hidden, model.embed(torch.tensor(ids, dtype=torch.long))])[None]
    for index in range(DEPTH):
        place = (torch.arange(hidden.shape[1]) if position is None else position(index))[None]
        seen_HSS = mask(index)
        seen_HSS = seen_HSS if seen_HSS.ndim == 3 else seen_HSS[None]
        rope = model.rope(hidden, place)
        hidden = model.layer(index, hidden, mask=seen_HSS[None], position=place, rope=rope, store=None)
    return model.logits(hidden)[0, len(state) - 1 :]


def told(model: LanguageModel, states: Sequence[LLMState], ids: Sequence[int] = IDS) -> Tensor:
    """[B, 1 + ids, V]: the same answer told to every item."""
    decoder = Decoder(model, states)
    logits = [decoder.logits, *(decoder.step([i] * len(states)) for i in ids)]
    return torch.stack(logits, 1)


def causal(count: int, window: int | None = None) -> Tensor:
    row = torch.arange(count)
    far = row[:, None] - row >= (window or count)
    return (row[:, None] >= row) & ~far


def chosen(rows: int, count: int, seed: int) -> Tensor:
    """[G, count] rows that stay, per head, ascending."""
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(rows, generator=random)[:count].sort().values for _ in range(GROUPS)])


def thinned(cache: LayerCache, row_GC: Tensor) -> LayerCache:
    """What a compression per head leaves."""
    spot = row_GC[..., None].expand(-1, -1, cache.keys.shape[-1])
    return LayerCache(
        cache.keys.gather(1, spot), cache.values.gather(1, spot), cache.position[row_GC], cache.row[row_GC]
    )


@pytest.mark.parametrize(("family", "config"), CONFIGS)
def test_caches_chosen_per_head(family: str, config: dict[str, Any]) -> None:
    """Each head sees the rows it kept: in a batch with whole caches, of other lengths, inside a window."""
    model = tiny_language(family, **config)
    counts = (7, 9, 7, 4)
    prompts = [start(a_prompt(n, seed=n)) for n in (15, 10, 12)]
    whole = model.run(prompts, DEPTH)
    kept = [[chosen(len(p), n, 7 * i + n) for n in counts] for i, p in enumerate(prompts[:2])]
    states = [
        replace(s, cache=KVCache(tuple(starmap(thinned, zip(s.cache.layers, rows, strict=True)))))
        for s, rows in zip(whole, kept, strict=False)
    ]

    def mask(item: int) -> Masks:
        n = len(prompts[item])

        def of(layer: int) -> Tensor:
            out = causal(n + len(IDS), model.window(layer)).repeat(HEADS, 1, 1)
            if item < len(kept):
                stays = torch.zeros(GROUPS, n, dtype=torch.bool).scatter(1, kept[item][layer], True)
                out[:, n:, :n] &= stays.repeat_interleave(HEADS // GROUPS, 0)[:, None]
            return out

        return of

    joint = told(model, [*states, whole[2]])
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(joint[i], recomputed(model, prompt, mask(i)), atol=1e-5, rtol=1e-5)
    for i, state in enumerate(states):
        torch.testing.assert_close(told(model, [state])[0], joint[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "config"), CONFIGS)
def test_rows_dropped_between_layers(family: str, config: dict[str, Any]) -> None:
    """Other rows and counts per item, at two layers, in a padded batch: the stock layers with masked keys."""
    model = tiny_language(family, **config)
    prompts = [start(a_prompt(n, seed=n)) for n in (14, 9, 17)]
    gone = {1: [[4, 5], [3], [6, 7, 8, 9]], 3: [[7, 8], [], [3, 4, 10, 11]]}  # of the original rows
    states = prompts
    for layer, rows in gone.items():
        after = model.run(states, layer)
        states = [s.keep(~torch.isin(s.row, torch.tensor(r))) for s, r in zip(after, rows, strict=True)]
    joint = told(model, model.run(states, DEPTH))

    def mask(item: int) -> Masks:
        def of(layer: int) -> Tensor:
            out = causal(len(prompts[item]) + len(IDS), model.window(layer))
            for first, rows in gone.items():
                if layer >= first:
                    out[:, rows[item]] = False
            return out | torch.eye(len(out), dtype=torch.bool)

        return of

    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(joint[i], recomputed(model, prompt, mask(i)), atol=1e-5, rtol=1e-5)


def test_rewritten_caches() -> None:
    """PruneVid: the answer does not see dropped rows in any layer, though the prompt's first layers did."""
    model, prompt = tiny_language("llama"), start(a_prompt(13))
    keep = torch.tensor([0, 1, 2, 5, 7, 8, 9, 10, 11, 12])
    state = model.run([prompt], 2)[0].keep(keep, rewrite_cache=True)

    def mask(layer: int) -> Tensor:
        out = causal(13 + len(IDS))
        gone = [row for row in range(13) if row not in keep.tolist()]
        out[0 if layer >= 2 else 13 :, gone] = False
        return out | torch.eye(len(out), dtype=torch.bool)

    done = model.run([state], DEPTH)
    assert done[0].cache.lengths == (10,) * DEPTH
    torch.testing.assert_close(told(model, done)[0], recomputed(model, prompt, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [{}, {"sliding_window": 6}])
def test_repacked_positions(config: dict[str, Any]) -> None:
    """Layers before the repack go on behind their own keys, later ones behind the rows that were left."""
    model, prompt = tiny_language("mistral", **config), start(a_prompt(12))
    keep = torch.tensor([0, 1, 2, 4, 7, 8, 9, 10, 11])
    state = model.run([prompt], 2)[0].keep(keep).repacked()
    other = start(a_prompt(7, seed=1))
    joint = told(model, [model.run([state], DEPTH)[0], model.run([other], DEPTH)[0]])
    n = 12 + len(IDS)
    alive = torch.ones(n, dtype=torch.bool)
    alive[:12] = torch.isin(torch.arange(12), keep)

    def position(layer: int) -> Tensor:
        return torch.arange(n) if layer < 2 else alive.cumsum(0) - 1

    def mask(layer: int) -> Tensor:
        place = position(layer)
        window = model.window(layer) or n
        out = (torch.arange(n)[:, None] >= torch.arange(n)) & (place[:, None] - place < window)
        out = out if layer < 2 else out & alive
        return out | torch.eye(n, dtype=torch.bool)

    want = recomputed(model, prompt, mask, position=position)
    torch.testing.assert_close(joint[0], want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        joint[1],
        recomputed(model, other, lambda layer: causal(7 + len(IDS), model.window(layer))),
        atol=1e-5,
        rtol=1e-5,
    )


HIDING_FROM, SHOWN = 2, 3


def hidden(model: LanguageModel, prompt: LLMState) -> tuple[LLMState, list[int]]:
    """The state of FastV's mask mode, and the visual rows that the prompt's later layers see."""
    half = model.run([prompt], HIDING_FROM)[0]
    visual = half.visual.nonzero()[:, 0].tolist()
    rows = visual[::2][:SHOWN]
    visible = ~half.visual
    visible[rows] = True
    return replace(half, hiding=Hiding(HIDING_FROM, visible, SHOWN)), rows


@torch.no_grad()
def by_hand(
    model: LanguageModel, prompt: LLMState, rows: list[int]
) -> tuple[list[Tensor], list[Tensor], list[list[int]]]:
    """Logits, scores and shown rows of every step: each step a full pass, choosing by its own last row."""
    shown, scores, logits = [rows], [torch.zeros(len(prompt))], list[Tensor]()
    n = len(prompt)
    for step in range(len(IDS) + 1):
        count = n + step

        def mask(layer: int, count: int = count) -> Tensor:
            out = causal(count, model.window(layer))
            if layer < HIDING_FROM:
                return out
            for row in range(count):
                gone = prompt.visual.clone()
                gone[shown[max(0, row - n + 1)]] = False
                out[row, :n] &= ~gone
                out[row, row] |= not bool(out[row].any())
            return out

        if step:
            text = torch.cat([prompt.hidden, model.embed(torch.tensor(IDS[:step]))])
            before = text[None]
            place = torch.arange(count)[None]
            for layer in range(HIDING_FROM - 1):
                seen_SS = mask(layer)[None, None]
                rope = model.rope(before, place)
                before = model.layer(layer, before, mask=seen_SS, position=place, rope=rope, store=None)
            rope = model.rope(before, place)
            query, key = (model.rotate(model.project(HIDING_FROM - 1, name, before), rope)[0]
                          for name in ("q_proj", "k_proj"))  # fmt: skip
            sight = Sight(place[0], model.window(HIDING_FROM - 1))
            [weight] = softmax_rows(query[:, -1:], key, query.shape[-1] ** -0.5, sight)
            score = weight.flatten(0, 1)[:, 0].mean(0)[:n]
            ranked = score.masked_fill(~prompt.visual, -1).argsort(descending=True, stable=True)
            shown.append(sorted(ranked[:SHOWN].tolist()))
            scores.append(score)
        logits.append(recomputed(model, prompt, mask, IDS[:step])[-1])
    return logits, scores, shown


@pytest.mark.parametrize(("family", "config"), CONFIGS)
def test_mask_mode_chooses_anew_at_every_step(family: str, config: dict[str, Any]) -> None:
    """Scores, shown rows and logits of FastV's mask mode, in a batch with an item that hides nothing."""
    model = tiny_language(family, **config)
    prompts = [start(a_prompt(n, seed=n)) for n in (18, 11, 14)]
    states, rows = zip(*(hidden(model, prompt) for prompt in prompts[:2]), strict=True)
    done = model.run([*states, model.run([prompts[2]], HIDING_FROM)[0]], DEPTH)
    decoder = Decoder(model, done)
    want = [by_hand(model, prompt, shown) for prompt, shown in zip(prompts, rows, strict=False)]
    plain = recomputed(model, prompts[2], lambda layer: causal(14 + len(IDS), model.window(layer)))
    for step in range(len(IDS) + 1):
        for i, (logits, scores, shown) in enumerate(want):
            visible, score = decoder.visible[i], decoder.score[i]
            assert visible is not None
            assert score is not None
            assert (visible & prompts[i].visual).nonzero()[:, 0].tolist() == shown[step]
            assert bool(visible[~prompts[i].visual].all())
            torch.testing.assert_close(score, scores[step], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(decoder.logits[i], logits[step], atol=1e-5, rtol=1e-5)
        assert decoder.visible[2] is decoder.score[2] is None
        torch.testing.assert_close(decoder.logits[2], plain[step], atol=1e-5, rtol=1e-5)
        if step < len(IDS):
            decoder.step([IDS[step]] * 3)


@pytest.mark.gpu
def test_every_kind_of_state_on_cuda() -> None:
    """Pruned, hiding and per-head states, decoded together, give the logits that the CPU gives."""
    here, there = (tiny_language("qwen2", device=device) for device in ("cpu", "cuda"))
    told_by = []
    for model in (here, there):
        prompt = start(a_prompt(15))
        half = model.run([prompt], HIDING_FROM)[0]
        rows = torch.tensor([0, 1, 2, 4, 9, 10, 11, 12, 13, 14], device=model.device)
        visible = ~half.visual
        visible[3:6] = True
        hiding = replace(half, hiding=Hiding(HIDING_FROM, visible, SHOWN))
        states = model.run(
            [half, half.keep(rows, rewrite_cache=True), half.keep(rows).repacked(), hiding], DEPTH
        )
        kept = chosen(15, 8, 1).to(model.device)
        caches = tuple(thinned(layer, kept) for layer in states[0].cache.layers)
        told_by.append(told(model, [*states, replace(states[0], cache=KVCache(caches))]).cpu())
    torch.testing.assert_close(*told_by, atol=1e-4, rtol=1e-4)


def test_hidden_rows_in_prefill() -> None:
    """Layers from the hiding one on, run in one go or in two, equal the stock layers with a 4-D mask."""
    model, prompt = tiny_language("qwen2"), start(a_prompt(13))
    state, rows = hidden(model, prompt)
    once = model.run([state], DEPTH)[0]
    twice = model.run(model.run([state], 3), DEPTH)[0]
    assert once.hidden.equal(twice.hidden)
    visible = ~prompt.visual
    visible[rows] = True
    masks = [seen(prompt), seen(prompt, visible=visible)]
    want = recomputed(model, prompt, lambda layer: masks[layer >= HIDING_FROM], ids=())
    torch.testing.assert_close(model.logits(once.hidden[None])[0, -1:], want, atol=1e-5, rtol=1e-5)


def test_more_rows_shown_than_there_are() -> None:
    """Then all visual rows are, and nothing differs from decoding without hiding."""
    model, prompt = tiny_language("llama"), start(a_prompt(12))
    half = model.run([prompt], 1)[0]
    state = replace(half, hiding=Hiding(1, torch.ones(12, dtype=torch.bool), 99))
    states = model.run([state, half], DEPTH)
    torch.testing.assert_close(*told(model, states), atol=1e-5, rtol=1e-5)


def tensors(state: LLMState) -> list[Tensor]:
    caches = [t for c in state.cache.layers for t in (c.keys, c.values, c.position, c.row)]
    hiding = [] if state.hiding is None else [state.hiding.visible]
    return [state.hidden, state.position, state.row, *caches, *hiding, *state.side.values()]


def test_no_kind_of_state_is_written_into() -> None:
    """Whole, pruned, hiding and compressed per head: all tensors are as before, and a second run agrees."""
    model, prompt = tiny_language("llama"), start(a_prompt(15))
    half = model.run([prompt], HIDING_FROM)[0]
    pruned = half.keep(~torch.isin(half.row, torch.tensor([4, 6, 7])), rewrite_cache=True)
    whole, thin, hiding = model.run([half, pruned, hidden(model, prompt)[0]], DEPTH)
    per_head = replace(
        whole, cache=KVCache(tuple(thinned(layer, chosen(15, 8, 1)) for layer in whole.cache.layers))
    )
    states = [half, pruned, whole, thin, hiding, per_head]
    before = [[t.clone() for t in tensors(state)] for state in states]
    ids = list(range(BLOCK + 3))
    together = told(model, states[2:], ids)
    for state, old in zip(states, before, strict=True):
        assert all(a.equal(b) for a, b in zip(tensors(state), old, strict=True))
    for i, state in enumerate(states[2:]):
        torch.testing.assert_close(told(model, [state], ids)[0], together[i], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(told(model, model.run([half], DEPTH), ids)[0], together[0])
