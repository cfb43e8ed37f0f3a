"""Attention on demand equals the maps of eager attention, in every family, form, batch and window."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tokenloom.runtime.errors import GraphError, NeedError
from tokenloom.runtime.models.language import LanguageModel, start
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Hiding, LLMInput, LLMState, Segment

from .tiny import DEPTH, FAMILIES, WIDTH, tiny_language

ALL_FAMILIES = (*FAMILIES, "qwen2_5_vl")
ROWS = ("text", "last", "all")
TEXT = 5  # rows after the picture


def a_prompt(rows: int, seed: int = 0, *, rope: bool = False, after: int = TEXT) -> LLMInput:
    """Three rows of text, a picture, and text."""
    random = torch.Generator().manual_seed(seed)
    segment = torch.full((rows,), int(Segment.VISUAL), dtype=torch.uint8)
    segment[:3] = int(Segment.TEXT_BEFORE)
    segment[rows - after :] = int(Segment.TEXT_AFTER)
    place = torch.randint(0, 9, (rows, 3), generator=random).cumsum(0) if rope else None
    position = torch.arange(rows) if place is None else place.amax(1)
    none = torch.full((rows,), -1)
    embeds = torch.randn(rows, WIDTH, generator=random)
    return LLMInput(embeds, position, segment, none, none, none, rope=place)


def seen(state: LLMState, window: int | None = None, visible: Tensor | None = None) -> Tensor:
    """[S, S] bool: causal, inside the window, visible; else itself."""
    row = torch.arange(len(state))
    out = row[:, None] >= row
    if window is not None:
        out &= state.position[:, None] - state.position < window
    if visible is not None:
        out &= visible
    return out | ((row[:, None] == row) & ~out.any(1, keepdim=True))


@torch.no_grad()
def eager(model: LanguageModel, state: LLMState, masks: list[Tensor]) -> list[dict[str, Tensor]]:
    """Per layer `map` [H, S, S], and q and k before rotation, of the stock modules with eager attention."""
    twin = LanguageModel(copy.deepcopy(model.module), model.facts)
    config: Any = twin.module.config
    config._attn_implementation = "eager"
    found: list[dict[str, Tensor]] = []
    hidden, position = state.hidden[None].to(model.dtype), state.place[None]
    for index, mask in enumerate(masks, state.layer):
        here: dict[str, Tensor] = {}
        attention: Any = twin.body.layers[index].self_attn
        attention.register_forward_hook(lambda *a, here=here: here.update(map=a[2][1][0]))
        for name in ("q_proj", "k_proj"):
            getattr(attention, name).register_forward_hook(
                lambda *a, here=here, name=name: here.update({name: a[2][0]})
            )
        added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min).to(model.dtype)
        rope = twin.rope(hidden, position)
        hidden = twin.layer(index, hidden, mask=added[None, None], position=position, rope=rope, store=None)
        found.append(here)
    return found


def reduced(map_HRS: Tensor, heads: str, over: str) -> Tensor:
    row_RS = map_HRS.amax(0) if heads == "max" else map_HRS.mean(0)
    return row_RS.amax(0) if over == "max" else row_RS.mean(0)


def query_rows(name: str, state: LLMState) -> slice:
    return slice(len(state) - {"text": TEXT, "last": 1, "all": len(state)}[name], None)


def before_rotation(here: dict[str, Tensor]) -> Tensor:
    """[H, S, S]: softmax over all keys, of four heads over two."""
    query = here["q_proj"].unflatten(-1, (4, -1)).transpose(0, 1).float()
    key = here["k_proj"].unflatten(-1, (2, -1)).transpose(0, 1).float().repeat_interleave(2, 0)
    return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)


EVERY = [
    Need("attention", None, rows, f"{kind},{heads},{over}")
    for kind, rows, heads, over in product(
        ("pre_rope_full", "post_rope_causal"), ROWS, ("max", "mean"), ("max", "mean")
    )
]


def check(state: LLMState, here: dict[str, Tensor]) -> None:
    for need in EVERY:
        kind, heads, over = str(need.form).split(",")
        map_HSS = here["map"] if kind == "post_rope_causal" else before_rotation(here)
        rows = query_rows(str(need.rows), state)
        torch.testing.assert_close(state.side[need.key], reduced(map_HSS[:, rows], heads, over))


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_form_equals_eager_attention(family: str) -> None:
    """All rows, kinds and reductions, alone and in a batch that is padded on the left."""
    model = tiny_language(family)
    prompts = [a_prompt(n, seed=n, rope=family == "qwen2_5_vl") for n in (23, 9, 14)]
    joint = model.run([start(p) for p in prompts], 3, needs=EVERY)
    for prompt, state in zip(prompts, joint, strict=True):
        before = start(prompt)
        here = eager(model, before, [seen(before)] * 3)[-1]
        check(state, here)
        check(model.run([before], 3, needs=EVERY)[0], here)


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
    ],
)
def test_windows_hold_for_the_true_attention(family: str, config: dict[str, Any]) -> None:
    """Keys outside the sliding window get nothing; before the rotation there is no window."""
    model = tiny_language(family, **config)
    before = start(a_prompt(17))
    for end in (1, 4):
        masks = [seen(before, model.window(layer)) for layer in range(end)]
        check(model.run([before], end, needs=EVERY)[0], eager(model, before, masks)[-1])


def test_a_named_layer() -> None:
    """Any layer that runs, and several of them at once, under names of their own."""
    model, before = tiny_language("llama"), start(a_prompt(12))
    needs = [Need("attention", layer, "last", "post_rope_causal,mean,mean") for layer in (0, 2)]
    state = model.run([before], DEPTH, needs=needs)[0]
    maps = eager(model, before, [seen(before)] * DEPTH)
    assert sorted(state.side) == [need.key for need in needs]
    for need in needs:
        torch.testing.assert_close(state.side[need.key], maps[need.layer or 0]["map"][:, -1].mean(0))


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_caches_know_the_attention_they_received(family: str) -> None:
    """Column sums per key-value head, for every layer that runs, alone and in a batch."""
    model = tiny_language(family)
    prompts = [a_prompt(n, seed=n, rope=family == "qwen2_5_vl") for n in (19, 11)]
    joint = model.run([start(p) for p in prompts], DEPTH, needs=[Need("cache_attention")])
    for prompt, state in zip(prompts, joint, strict=True):
        before = start(prompt)
        for here, cache in zip(eager(model, before, [seen(before)] * DEPTH), state.cache.layers, strict=True):
            assert cache.received is not None
            torch.testing.assert_close(
                cache.received, here["map"].sum(1).unflatten(0, (2, -1)).sum(1), atol=1e-4, rtol=1e-5
            )


@pytest.mark.gpu
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_scores_on_cuda_equal_those_on_the_cpu(family: str) -> None:
    """Every form and every cache, in a padded batch of prompts that lie on the CPU."""
    needs = [*EVERY, Need("cache_attention")]
    prompts = [start(a_prompt(n, seed=n, rope=family == "qwen2_5_vl")) for n in (23, 9, 14)]
    here, there = (
        tiny_language(family, device=device).run(prompts, DEPTH, needs=needs) for device in ("cpu", "cuda")
    )
    for a, b in zip(here, there, strict=True):
        for key, score in a.side.items():
            torch.testing.assert_close(b.side[key].cpu(), score, atol=1e-5, rtol=1e-4)
        for one, other in zip(a.cache.layers, b.cache.layers, strict=True):
            assert one.received is not None
            assert other.received is not None
            torch.testing.assert_close(other.received.cpu(), one.received, atol=1e-4, rtol=1e-4)


def test_layers_that_ran_before_keep_what_they_know() -> None:
    """Only the layers of this prefill are heard; the earlier ones' caches stay as they are."""
    model = tiny_language("llama")
    half = model.run([start(a_prompt(9))], 2)[0]
    done = model.run([half], DEPTH, needs=[Need("cache_attention")])[0]
    assert [cache.received is None for cache in done.cache.layers] == [True, True, False, False]


def test_hidden_rows_get_nothing_from_others() -> None:
    """From the hiding layer on; one that would see nothing sees itself."""
    model = tiny_language("llama")
    visible = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1]).bool()
    half = replace(model.run([start(a_prompt(11))], 2)[0], hiding=Hiding(3, visible, 2))
    needs = [*EVERY, Need("cache_attention")]
    after = model.run([half], DEPTH, needs=needs)[0]
    check(after, eager(model, half, [seen(half), seen(half, visible=visible)])[-1])
    received = after.cache.layers[-1].received
    assert received is not None
    assert received[:, ~visible].tolist() == [[2.0, 0.0, 0.0, 0.0]] * 2  # the first row sees only itself


def test_pruned_states_are_read_at_their_own_rows() -> None:
    """After rows were dropped, scores are of the rows that are left, their positions with gaps."""
    model = tiny_language("mistral", sliding_window=6)
    half = model.run([start(a_prompt(16))], 2)[0].keep(torch.tensor([0, 2, 4, 5, 9, 10, 11, 12, 13, 14, 15]))
    after = model.run([half], DEPTH, needs=EVERY)[0]
    check(after, eager(model, half, [seen(half, 6)] * 2)[-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(dtype: torch.dtype) -> None:
    """Scores are float32, near those of eager attention, and rows of a map sum to one."""
    model = tiny_language("qwen2")
    model.module.to(dtype)
    before = start(a_prompt(13))
    needs = [*EVERY, Need("cache_attention")]
    state = model.run([before], 2, needs=needs)[0]
    here = eager(model, before, [seen(before)] * 2)[-1]
    for rows in ROWS:
        score = state.side[f"attention:{rows}/post_rope_causal,mean,mean"]
        assert score.dtype == torch.float32
        torch.testing.assert_close(score.sum(), torch.tensor(1.0))
        want = reduced(here["map"].float()[:, query_rows(rows, state)], "mean", "mean")
        torch.testing.assert_close(score, want, atol=2e-2, rtol=0)


def test_asking_changes_nothing_else() -> None:
    """Hidden states and caches are equal to the bit, and the modules have no hooks."""
    model, before = tiny_language("llama"), start(a_prompt(12))
    plain = model.run([before], DEPTH)[0]
    asked = model.run([before], DEPTH, needs=[*EVERY, Need("cache_attention")])[0]
    assert plain.hidden.equal(asked.hidden)
    assert plain.side == {}
    for a, b in zip(plain.cache.layers, asked.cache.layers, strict=True):
        assert a.keys.equal(b.keys)
        assert a.received is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_the_usual_form() -> None:
    """A need that names neither rows nor form gets the true attention of all rows, averaged."""
    usual, last = Need("attention"), Need("attention", rows="last")
    state = tiny_language("llama").run([start(a_prompt(9))], 2, needs=[usual, last, *EVERY])[0]
    assert state.side["attention"].equal(state.side["attention:all/post_rope_causal,mean,mean"])
    assert state.side["attention:last"].equal(state.side["attention:last/post_rope_causal,mean,mean"])


def test_channels_of_earlier_layers_are_dropped() -> None:
    """A layer that runs takes old scores away, asked or not: layer 1's are not to pass for layer 3's."""
    model = tiny_language("llama")
    first = model.run([start(a_prompt(9))], 2, needs=EVERY)[0]
    assert model.run([first], 2)[0].side == first.side
    assert model.run([first], 3)[0].side == {}
    assert list(model.run([first], 3, needs=EVERY[:1])[0].side) == [EVERY[0].key]


LAST = Need("attention", None, "last", "post_rope_causal,mean,mean")


def refusal(state: LLMState, until: int, *needs: Need) -> str:
    with pytest.raises(NeedError) as e:
        tiny_language("llama").run([state], until, needs=needs)
    return str(e.value)


def test_rows_that_are_not_there() -> None:
    """No text after the pictures: the scores would be of nobody."""
    assert refusal(start(a_prompt(8, after=0)), 2, EVERY[0]) == (
        "prefill: attention:text/pre_rope_full,max,max is asked for, but no text follows the visual rows; "
        "put the question after the pictures, and keep it when pruning"
    )
    assert refusal(start(a_prompt(8)).keep(torch.tensor([], dtype=torch.long)), 2, LAST) == (
        "prefill: attention:last/post_rope_causal,mean,mean is asked for, but no row is left; put the "
        "question after the pictures, and keep it when pruning"
    )


def test_layers_that_do_not_run() -> None:
    """Nothing to run, or a named layer that is not among those that run."""
    model = tiny_language("llama")
    done = model.run([start(a_prompt(8))], 3)[0]
    assert refusal(done, 3, LAST) == (
        "prefill: attention:last/post_rope_causal,mean,mean is asked for, but no layer runs: 3 have run "
        "already; leave the layers it is read from to this prefill"
    )
    assert refusal(done, 4, replace(LAST, layer=1)) == (
        "prefill: attention@1:last/post_rope_causal,mean,mean is asked for, but this prefill runs layers "
        "3..3; choose one of them, or change until"
    )
    assert model.run([done], 3, needs=[Need("cache_attention")])[0] is done


def test_scores_that_are_not_numbers() -> None:
    """nan is said, instead of being ranked."""
    prompt = a_prompt(8)
    prompt.embeds[4] = torch.nan
    model = tiny_language("llama")
    for need in (LAST, Need("cache_attention")):
        with pytest.raises(GraphError) as e:
            model.run([start(prompt)], 2, needs=[need])
        layer = 1 if need is LAST else 0
        assert str(e.value) == (
            f"prefill: {need.key} of layer {layer} holds values that are not numbers (nan); look for nan in "
            "the checkpoint and in the tokens that are placed, or set dtype: float32"
        )


def test_normed_queries_are_refused() -> None:
    """A family whose attention norms its queries would be read wrongly."""
    model = tiny_language("llama")
    model.body.layers[1].self_attn.q_norm = torch.nn.Identity()
    with pytest.raises(GraphError) as e:
        model.run([start(a_prompt(8))], 2, needs=[LAST])
    assert str(e.value) == (
        "attention of LlamaAttention cannot be read: its queries are normed, or projected together with the "
        "keys; use Llama, Vicuna, Mistral, Qwen2 or Qwen2.5-VL"
    )
