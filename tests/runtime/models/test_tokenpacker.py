"""TokenPacker's module: windows, middles, both forms of attention, new weights, linear layers by oneDNN."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tokenloom.runtime import cost
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.handle import ProjectorFacts
from tokenloom.runtime.models.projector import build_projector
from tokenloom.runtime.models.tokenpacker import TokenPacker, middles, usual_heads, window_places

WIDTH, OUTPUTS = 16, 12


def packer(*, levels: int = 3, heads: int = 4, seed: int = 0) -> TokenPacker:
    """A tiny one with weights so large that attention is sharp, norms and biases included."""
    torch.manual_seed(seed)
    made = TokenPacker(WIDTH, OUTPUTS, levels=levels, heads=heads).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.requires_grad_(False)


def straightforward(made: TokenPacker, grid: Tensor, levels: Tensor, scale: int) -> Tensor:
    """The published computation, window by window, with torch's own attention module."""
    tiles, rows, cols, _ = grid.shape
    small = interpolate(grid.movedim(-1, 1), (rows // scale, cols // scale), mode="bilinear").movedim(1, -1)
    out: list[Tensor] = []
    for tile in range(tiles):
        for r in range(rows // scale):
            for c in range(cols // scale):
                window = levels[tile, r * scale : (r + 1) * scale, c * scale : (c + 1) * scale].flatten(0, 1)
                query = made.ln_q_1(made.q_proj_1(small[tile, r, c]))[None, None]
                key, value = made.ln_k_1(made.k_proj_1(window)), made.ln_v_1(made.v_proj_1(window))
                found, _ = made.clip_attn(query, key[:, None], value[:, None])
                out.append(made.mlp(found[0, 0]))
    return torch.stack(out).view(tiles, -1, OUTPUTS)


@pytest.mark.parametrize(("scale", "rows", "cols"), [(1, 2, 3), (2, 4, 6), (3, 6, 3), (4, 8, 4), (6, 6, 12)])
def test_is_the_published_computation(scale: int, rows: int, cols: int) -> None:
    """Every scale, square grids and others, both forms."""
    made = packer()
    grid, levels = torch.randn(2, rows, cols, WIDTH), torch.randn(2, rows, cols, 3 * WIDTH)
    want = straightforward(made, grid, levels, scale)
    for training in (False, True):
        made.train(training)
        torch.testing.assert_close(made(grid, levels, scale=scale), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_heads_can_be_chosen_for_a_call(heads: int) -> None:
    """As a module that was made with so many; no weight's shape hangs on it."""
    few, chosen = packer(), packer(heads=heads)
    grid, levels = torch.randn(1, 4, 4, WIDTH), torch.randn(1, 4, 4, 3 * WIDTH)
    assert few(grid, levels, scale=2, heads=heads).equal(chosen(grid, levels, scale=2))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))
def test_partial_windows_see_only_what_is_there(scale: int, rows: int, cols: int) -> None:
    """Each as if it alone had been given, its middle being that of a window that repeats the edge."""
    made = packer()
    grid, levels = torch.randn(1, rows, cols, WIDTH), torch.randn(1, rows, cols, 3 * WIDTH)
    got = made(grid, levels, scale=scale)[0]
    at = 0
    for r in range(0, rows, scale):
        for c in range(0, cols, scale):
            own = grid[0, r : r + scale, c : c + scale]
            full = [torch.arange(r, r + scale).clamp_max(rows - 1), torch.arange(c, c + scale)]
            whole = grid[0][full[0]][:, full[1].clamp_max(cols - 1)].movedim(-1, 0)[None]
            query = made.queries(interpolate(whole, (1, 1), mode="bilinear")[:, :, 0, 0])
            inside = levels[0, r : r + scale, c : c + scale].flatten(0, 1)
            assert len(inside) == own.shape[0] * own.shape[1]
            found = made.attend(query, made.keys(inside)[None], made.values(inside)[None])
            torch.testing.assert_close(got[at], made.mlp(found)[0], rtol=1e-4, atol=1e-5)
            at += 1
    assert at == len(got)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6, 8, 12, 24])
def test_middles_are_torchs_bilinear_interpolation(scale: int) -> None:
    """Without antialias: four places of even windows, one of odd ones."""
    x = torch.randn(2, 24, 24, 5)
    want = interpolate(x.movedim(-1, 1), (24 // scale, 24 // scale), mode="bilinear").movedim(1, -1)
    place_GP, real = window_places(24, 24, scale)
    assert real is None
    row_GP = (torch.arange(2)[:, None, None] * 576 + place_GP).flatten(0, 1)
    torch.testing.assert_close(middles(x.flatten(0, 2), row_GP), want.flatten(0, 2), rtol=0, atol=3e-7)


def test_middles_are_computed_in_float32() -> None:
    """Half-precision features are summed as numbers of full precision, and come back as they were."""
    x = torch.randn(16, 64).bfloat16()
    [got] = middles(x, torch.arange(16)[None])
    assert got.dtype == torch.bfloat16
    assert got.equal(x[[5, 6, 9, 10]].float().mean(0).bfloat16())


def test_windows_and_their_places() -> None:
    """Row by row; at an edge the last place is repeated, and said not to be real."""
    places, real = window_places(2, 4, 2)
    assert places.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert real is None
    places, real = window_places(3, 3, 2)
    assert places.tolist() == [[0, 1, 3, 4], [2, 2, 5, 5], [6, 7, 6, 7], [8, 8, 8, 8]]
    assert real is not None
    assert real.int().tolist() == [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]


def test_new_weights_are_as_released() -> None:
    """Normal with deviation 0.02, the attention's matrix Xavier, biases 0, norms 1 and 0."""
    torch.manual_seed(0)
    made = TokenPacker(256, 300)
    named = dict(made.named_parameters())
    assert len(named) == 23
    bound = (6 / (4 * 256)) ** 0.5
    for name, tensor in named.items():
        if name == "clip_attn.in_proj_weight":
            assert bound * 0.99 < float(tensor.detach().abs().max()) <= bound
        elif "ln_" in name:
            assert tensor.eq(float(name.endswith("weight"))).all()
        elif name.endswith("bias"):
            assert tensor.eq(0).all()
        else:
            assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_sizes_of_the_released_one() -> None:
    """36.7 M parameters for a 7B model; 128 wide heads."""
    with torch.device("meta"):
        made = TokenPacker(1024, 4096)
    assert sum(p.numel() for p in made.parameters()) == 36_722_688
    assert made.heads == 8
    assert (usual_heads(1024), usual_heads(1152), usual_heads(24)) == (8, 9, 1)


def test_both_forms_have_the_same_gradients() -> None:
    """So training may also run in eval mode; the keys' norm bias and in_proj bias have none at all."""
    made = packer().requires_grad_()
    grid, levels = torch.randn(1, 4, 4, WIDTH), torch.randn(1, 4, 4, 3 * WIDTH)
    grads: list[dict[str, Tensor]] = []
    for training in (True, False):
        made.train(training).zero_grad()
        made(grid, levels, scale=2).square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        if name not in ("ln_k_1.bias", "clip_attn.in_proj_bias"):
            torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))
    assert grads[1]["clip_attn.in_proj_bias"][WIDTH : 2 * WIDTH].abs().max() < 1e-2


def test_half_precision() -> None:
    """bfloat16 weights and features, close to float32."""
    made = packer()
    grid, levels = torch.randn(1, 4, 4, WIDTH), torch.randn(1, 4, 4, 3 * WIDTH)
    want = made(grid, levels, scale=2)
    half = copy.deepcopy(made).bfloat16()
    got = half(grid.bfloat16(), levels.bfloat16(), scale=2)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - want).norm() / want.norm()) < 0.03


def test_heads_that_do_not_divide() -> None:
    """Said with what would."""
    with pytest.raises(CheckpointError) as error:
        TokenPacker(12, 8, heads=5)
    assert str(error.value) == "TokenPacker: 5 heads of a width of 12; wanted one of 1, 2, 3, 4, 6, 12"


def test_made_of_facts() -> None:
    """A projector like the others."""
    facts = ProjectorFacts(kind="tokenpacker", inputs=16, outputs=12, heads=2, levels=3)
    made = build_projector(facts)
    assert isinstance(made, TokenPacker)
    assert made.heads == 2
    assert made.k_proj_1[0].weight.shape == (16, 48)


def test_flops_by_hand() -> None:
    """At the released size, as counted layer by layer: keys and values 12.1 G, the last MLP 6.0 G."""
    facts = ProjectorFacts(kind="tokenpacker", inputs=1024, outputs=4096, heads=8, levels=4)
    got = cost.tokenpacker(facts, 576, 144, 8)
    mlps = 2 * 576 * 2 * (4096 * 1024 + 1024 * 1024)
    attention = 2 * 576 * 8 * 1024 * 2 + 2 * 144 * 5 * 1024 * 1024
    assert got == mlps + attention + 2 * 144 * (1024 * 4096 + 4096 * 4096)
    assert mlps == pytest.approx(12.1e9, rel=0.01)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """The same as on the CPU."""
    made = packer()
    grid, levels = torch.randn(2, 6, 7, WIDTH), torch.randn(2, 6, 7, 3 * WIDTH)
    want = made(grid, levels, scale=4)
    got = copy.deepcopy(made).cuda()(grid.cuda(), levels.cuda(), scale=4)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-3, atol=1e-4)
