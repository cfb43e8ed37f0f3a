"""Linear layers by oneDNN: what torch's own give, wherever they would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tokenloom.runtime.models.fast_linear import fast_linear, fast_module


def test_linear_layers_by_onednn_are_equal_but_for_rounding() -> None:
    """In inference on a CPU; any number of axes, with and without bias, and nothing at all."""
    layer = nn.Linear(40, 24)
    layers = nn.Sequential(layer, nn.GELU(), nn.Linear(24, 3))
    x = torch.randn(2, 5, 40)
    with torch.no_grad():
        torch.testing.assert_close(fast_linear(x, layer.weight, layer.bias), layer(x))
        torch.testing.assert_close(fast_linear(x, layer.weight), x @ layer.weight.T)
        torch.testing.assert_close(fast_module(layers, x), layers(x))
        assert fast_linear(x[:0], layer.weight, layer.bias).shape == (0, 5, 24)
        assert fast_linear(x.bfloat16(), layer.weight.bfloat16()).dtype == torch.bfloat16


def test_linear_layers_of_training_are_torchs_own() -> None:
    """Gradients flow, and the numbers are those of the layer."""
    layer, x = nn.Linear(40, 24), torch.randn(7, 40)
    got = fast_linear(x, layer.weight, layer.bias)
    assert got.equal(layer(x))
    got.sum().backward()
    assert layer.weight.grad is not None


def test_onednn_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own switch."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    layer, x = nn.Linear(40, 24), torch.randn(7, 40)
    with torch.no_grad():
        assert fast_linear(x, layer.weight, layer.bias).equal(layer(x))


@pytest.mark.parametrize("x", [
    torch.randn(40, 9).T,
    torch.randn(18, 80)[::2, 20:60],
    torch.randn(9 * 40 + 3)[3:].view(9, 40),
    torch.randn(1, 40).expand(9, 40),
], ids=["transposed", "strided", "unaligned", "expanded"])  # fmt: skip
def test_inputs_that_do_not_lie_in_a_row(x: Tensor) -> None:
    """The same numbers, however the vectors lie in memory."""
    layer = nn.Linear(40, 24)
    with torch.no_grad():
        torch.testing.assert_close(fast_linear(x, layer.weight, layer.bias), layer(x))


def test_weights_that_are_a_part_of_others() -> None:
    """The queries', keys' and values' of an attention lie in one tensor; a transposed one is no other."""
    x = torch.randn(9, 40)
    with torch.no_grad():
        for weight in (*torch.randn(72, 40).chunk(3), torch.randn(40, 24).T):
            torch.testing.assert_close(fast_linear(x, weight), x @ weight.T)


def test_the_same_numbers_every_time() -> None:
    """From run to run, with any number of threads, and wherever the weights lie."""
    x, weight, bias = torch.randn(77, 40), torch.randn(24, 40), torch.randn(24)
    elsewhere = torch.cat([torch.zeros(3), weight.flatten()])[3:].view(24, 40)
    threads = torch.get_num_threads()
    with torch.no_grad():
        want = fast_linear(x, weight, bias)
        assert all(fast_linear(x, weight, bias).equal(want) for _ in range(3))
        assert fast_linear(x, elsewhere, bias).equal(want)
        try:
            torch.set_num_threads(threads + 1)
            assert fast_linear(x, weight, bias).equal(want)
        finally:
            torch.set_num_threads(threads)


def test_under_autocast_layers_are_torchs_own() -> None:
    """Autocast chooses their dtype, and knows nothing of oneDNN's tensors."""
    layer, x = nn.Linear(40, 24), torch.randn(7, 40)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = fast_linear(x, layer.weight, layer.bias)
        assert got.dtype == torch.bfloat16
        assert got.equal(layer(x))


def test_other_tensors_are_left_alone() -> None:
    """Those that only pretend, as shapes are found, have no memory that oneDNN could read."""
    with torch.no_grad(), FakeTensorMode():
        assert fast_linear(torch.randn(7, 40), torch.randn(24, 40)).shape == (7, 24)


def test_a_layer_without_outputs() -> None:
    """Nothing, for every row."""
    with torch.no_grad():
        assert fast_linear(torch.randn(7, 40), torch.empty(0, 40)).shape == (7, 0)


def test_layers_that_only_derive_from_linear_run_themselves() -> None:
    """They may compute something else."""

    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layers, x = nn.Sequential(nn.Sequential(nn.Linear(40, 24)), Doubled(24, 8)), torch.randn(7, 40)
    with torch.no_grad():
        torch.testing.assert_close(fast_module(layers, x), layers(x))
