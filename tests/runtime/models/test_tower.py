"""The tower, layer by layer, against the native modules' own outputs."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tokenloom.runtime.errors import MediaError, NeedError, WiringError
from tokenloom.runtime.models import tower as tower_module
from tokenloom.runtime.models.handle import TowerFacts
from tokenloom.runtime.models.tower import VisionTower, layer_number
from tokenloom.runtime.needs import Need

from ...towers import DEPTH, HEADS, SIZE, WIDTH, core_of, random_tiles, tiny_tower

Family = Literal["clip", "siglip"]
FAMILIES = ("clip", "siglip")
PIXELS = random_tiles(3).pixels


def eager(family: Family, device: str = "cpu") -> Any:
    """All hidden states and attentions of the module itself, by eager attention."""
    module = tiny_tower(family, device=device, attention="eager").module
    with torch.no_grad():
        return module(PIXELS.to(device), output_hidden_states=True, output_attentions=True)


def own_states(family: Family) -> Any:
    """All hidden states of the module itself, by SDPA."""
    with torch.no_grad():
        return tiny_tower(family).module(PIXELS, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 1, -2, -1])
def test_hidden_states_are_the_modules_own(family: Family, layer: int) -> None:
    """Every layer number gives what output_hidden_states gives under that number."""
    out = tiny_tower(family).encode(PIXELS, layer=layer, cls_token=True)
    torch.testing.assert_close(out.hidden, own_states(family)[layer], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_wanted_hidden_layers_come_along(family: Family) -> None:
    """hidden@L lies beside the features, before and after their layer."""
    needs = [Need("hidden", 1), Need("hidden", DEPTH), Need("hidden", -3)]
    out = tiny_tower(family).encode(PIXELS, layer=-2, wanted=needs, cls_token=True)
    states = own_states(family)
    for need in needs:
        torch.testing.assert_close(out.side[need.key], states[need.layer], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layer", [1, -2, -1])
def test_cls_attention_is_the_row_of_eager_attention(layer: int) -> None:
    """The recomputed [CLS] row, summed over heads, is that of the same layer's eager attention."""
    out = tiny_tower().encode(PIXELS, layer=layer, wanted=[Need("cls_attention")], cls_token=True)
    want = eager("clip").attentions[layer - 1 if layer > 0 else layer + (layer < -DEPTH)]
    torch.testing.assert_close(out.side["cls_attention"], want[:, :, 0].sum(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_received_attention_in_chunks_of_queries(
    family: Family, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Column sums, mean over heads, whatever the chunk."""
    monkeypatch.setattr(tower_module, "CHUNK", chunk)
    needs = [Need("received_attention"), Need("attention")]
    out = tiny_tower(family).encode(PIXELS, layer=-2, wanted=needs, cls_token=True)
    weights = eager(family).attentions[-2].mean(1)
    torch.testing.assert_close(out.side["received_attention"], weights.sum(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(out.side["attention"], weights, atol=1e-6, rtol=1e-5)


def test_keys_are_the_mean_over_heads_of_raw_keys() -> None:
    """As k_proj gives them inside the features' layer, with bias, unscaled."""
    tower = tiny_tower()
    block = core_of(tower).encoder.layers[DEPTH - 2]
    caught: list[Tensor] = []
    handle = block.self_attn.k_proj.register_forward_hook(lambda m, i, o: caught.append(o))
    out = tower.encode(PIXELS, layer=-2, wanted=[Need("keys")], cls_token=True)
    handle.remove()
    assert len(caught) == 2  # once for the channel, once in the layer itself
    want = caught[1].unflatten(-1, (HEADS, WIDTH // HEADS)).mean(2)
    torch.testing.assert_close(out.side["keys"], want, atol=1e-6, rtol=1e-5)


def test_unsplit_channels_have_one_head() -> None:
    """Raw keys of full width, and attention as if the layer had a single head, of the asked layer."""
    tower, caught = tiny_tower(), dict[str, Tensor]()
    attention = core_of(tower).encoder.layers[-1].self_attn
    handles = [
        getattr(attention, name).register_forward_hook(lambda m, i, o, name=name: caught.update({name: o}))
        for name in ("q_proj", "k_proj")
    ]
    with torch.no_grad():
        tower.module(PIXELS)
    for handle in handles:
        handle.remove()
    needs = {name: Need(name, -1, form="unsplit") for name in ("cls_attention", "keys", "received_attention")}
    out = tower.encode(PIXELS, layer=-2, wanted=needs.values(), cls_token=True)
    weights = (caught["q_proj"] @ caught["k_proj"].mT * WIDTH**-0.5).softmax(-1)
    close = {name: out.side[need.key] for name, need in needs.items()}
    torch.testing.assert_close(close["keys"], caught["k_proj"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(close["cls_attention"], weights[:, 0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(close["received_attention"], weights.sum(1), atol=1e-5, rtol=1e-4)
    assert sorted(out.side) == [f"{name}@-1/unsplit" for name in sorted(needs)]


def test_forms_lie_side_by_side() -> None:
    """A channel may be wanted in two forms at once."""
    needs = [Need("keys"), Need("keys", form="unsplit")]
    out = tiny_tower().encode(PIXELS, layer=-2, wanted=needs)
    heads = out.side["keys/unsplit"].unflatten(-1, (HEADS, -1))
    torch.testing.assert_close(heads.mean(2), out.side["keys"], atol=1e-6, rtol=1e-5)


def test_without_cls_row() -> None:
    """Features and channels lose the [CLS] row together; attention keeps its column."""
    needs = [Need("cls_attention"), Need("keys"), Need("attention"), Need("hidden", 1)]
    full = tiny_tower().encode(PIXELS, layer=-2, wanted=needs, cls_token=True)
    less = tiny_tower().encode(PIXELS, layer=-2, wanted=needs)
    assert less.hidden.equal(full.hidden[:, 1:])
    assert {k: v.shape for k, v in less.side.items()} == {
        "cls_attention": (3, 16),
        "keys": (3, 16, 8),
        "attention": (3, 16, 17),
        "hidden@1": (3, 16, 24),
    }
    assert all(less.side[k].equal(full.side[k][:, 1:]) for k in less.side)


def test_later_layers_do_not_run() -> None:
    """The tower stops at the last layer that anyone needs, and runs each layer as a module, once."""
    tower, seen = tiny_tower(), []
    for number, block in enumerate(core_of(tower).encoder.layers):
        block.register_forward_hook(lambda m, i, o, number=number: seen.append(number))
    tower.encode(PIXELS, layer=-3)
    assert seen == [0, 1]
    seen.clear()
    tower.encode(PIXELS, layer=-3, wanted=[Need("cls_attention", -2)])
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_other_tile_sizes_by_interpolation(family: Family) -> None:
    """Position embeddings are fitted as the native module fits them."""
    tower, pixels = tiny_tower(family), random_tiles(1, height=20, width=24).pixels
    out = tower.encode(pixels, layer=-2, cls_token=True, interpolate=True)
    with torch.no_grad():
        want = tower.module(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[
            -2
        ]
    torch.testing.assert_close(out.hidden, want, atol=1e-6, rtol=1e-5)


class Nested(nn.Module):
    """A model as transformers 5.5 nests it, whose layers return tuples."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.vision_model = module
        for block in module.encoder.layers:
            block.register_forward_hook(lambda m, i, o: (o, None))


def test_nested_modules_and_tuples() -> None:
    """The older module layout gives the same."""
    tower = tiny_tower()
    want = tower.encode(PIXELS, layer=-2)
    got = VisionTower(Nested(core_of(tower)), tower.facts).encode(PIXELS, layer=-2)
    assert got.hidden.equal(want.hidden)


def test_no_gradients() -> None:
    """Encoding keeps no graph, even when the weights want gradients."""
    assert not tiny_tower().encode(PIXELS, layer=-2, wanted=[Need("keys")]).side["keys"].requires_grad


def test_half_precision_scores_are_float32() -> None:
    """Features stay in the tower's dtype; scores and keys are float32."""
    tower = tiny_tower()
    tower.module.to(torch.bfloat16)
    out = tower.encode(PIXELS, layer=-2, wanted=[Need("cls_attention"), Need("keys")])
    assert out.hidden.dtype == torch.bfloat16
    assert {v.dtype for v in out.side.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("family", "need", "message"),
    [
        ("siglip", Need("cls_attention"), "encode_vision: SigLIP has no [CLS] token; set score: received"),
        (
            "clip",
            Need("keys", 0),
            "encode_vision: keys@0 of layer 0, but the embeddings have no attention; wanted 1 or more",
        ),
        (
            "siglip",
            Need("cls_attention", -1, form="unsplit"),
            "encode_vision: SigLIP has no [CLS] token; use a CLIP tower",
        ),
        (
            "clip",
            Need("keys", form="unsplitted"),
            "encode_vision: keys has no form 'unsplitted'; did you mean 'unsplit'?",
        ),
        ("clip", Need("hidden", form="unsplit"), "encode_vision: hidden has no form 'unsplit'"),
        ("clip", Need("key"), "encode_vision: no side channel is called 'key'; did you mean 'keys'?"),
    ],
)
def test_needs_that_cannot_be_met(family: Family, need: Need, message: str) -> None:
    """A channel that the tower cannot compute is an error before it runs."""
    with pytest.raises(NeedError) as error:
        tiny_tower(family).encode(PIXELS, layer=-2, wanted=[need])
    assert str(error.value) == message


def test_layers_outside_the_tower() -> None:
    """A layer that is not there is named with the range."""
    facts = TowerFacts(
        family="clip", hidden=8, intermediate=16, depth=24, heads=2, patch=2, size=8, has_cls=True
    )
    assert [layer_number("x", facts, n) for n in (-25, -2, 0, 24)] == [0, 23, 0, 24]
    with pytest.raises(WiringError) as error:
        layer_number("encode_vision.layer", facts, -26)
    assert str(error.value) == "encode_vision.layer: layer -26 is outside -25..24"


@pytest.mark.parametrize(
    ("size", "interpolate", "message"),
    [
        (
            20,
            False,
            "encode_vision: tiles of 20x20 for a tower of 16x16; resize the pictures, or set "
            "interpolate: true",
        ),
        (3, True, "encode_vision: tiles of 3x3 are smaller than a patch of 4"),
    ],
)
def test_tiles_of_a_wrong_size(size: int, interpolate: bool, message: str) -> None:
    """Tiles that the tower cannot take are an error that says what to do."""
    with pytest.raises(MediaError) as error:
        tiny_tower().encode(
            random_tiles(1, height=size, width=size).pixels, layer=-2, interpolate=interpolate
        )
    assert str(error.value) == message


@pytest.mark.gpu
def test_on_a_gpu_as_on_the_cpu() -> None:
    """Features and scores agree between devices."""
    needs = [Need("cls_attention"), Need("keys"), Need("received_attention")]
    cpu = tiny_tower().encode(PIXELS, layer=-2, wanted=needs, cls_token=True)
    gpu = tiny_tower(device="cuda").encode(PIXELS, layer=-2, wanted=needs, cls_token=True)
    torch.testing.assert_close(gpu.hidden.cpu(), cpu.hidden, atol=1e-4, rtol=1e-4)
    for need in needs:
        torch.testing.assert_close(gpu.side[need.key].cpu(), cpu.side[need.key], atol=1e-4, rtol=1e-4)


def test_size_of_the_test_tower() -> None:
    """The tower of these tests has 4 x 4 patches."""
    assert tiny_tower().facts.grid == SIZE // 4
