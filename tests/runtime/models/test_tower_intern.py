"""InternViT, layer by layer, against the native module's own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.checkpoints import write_json
from tests.flops import counted_by_torch
from tests.internvl import DEPTH, PATCH, SIDE, write_internvl
from tokenloom.nodes import encode_vision, load_model, load_vision_tower
from tokenloom.runtime.context import counting, demand
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.configs import read_json
from tokenloom.runtime.models.tower_intern import InternTower, fitted
from tokenloom.runtime.needs import Need
from tokenloom.runtime.values import Tile, Tiles

HEADS = 4
PIXELS = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[False, True], ids=["300M", "6B"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[InternTower, Any]:
    """Our tower, and the native vision model with the same weights; the 6B tower norms queries and keys."""
    folder = tmp_path_factory.mktemp("tower")
    native = write_internvl(folder, large=request.param).model.vision_tower
    tower = load_model(checkpoint=str(folder), dtype="float32", device="cpu").vision.load()
    assert isinstance(tower, InternTower)
    return tower, native


@torch.no_grad()
def states(native: Any) -> list[Tensor]:
    """Embeddings, and the output of every layer."""
    hidden = [native.embeddings(PIXELS)]
    for layer in native.encoder.layer:
        hidden.append(layer(hidden[-1]))
    return hidden


@torch.no_grad()
def weights(native: Any, layer: int) -> Tensor:
    """[K, h, N, N]: the attention inside the layer that gives hidden state `layer`."""
    block = native.encoder.layer[layer - 1]
    x, inner = block.layernorm_before(states(native)[layer - 1]), block.attention
    query, key = (
        norm(project(x)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for project, norm in ((inner.q_proj, inner.q_norm), (inner.k_proj, inner.k_norm))
    )
    return (query @ key.mT * inner.scale).softmax(-1)


@pytest.mark.parametrize("layer", [0, 1, -2, -1])
def test_hidden_states_are_the_modules_own(pair: tuple[InternTower, Any], layer: int) -> None:
    """Numbered as hidden_states; there is no norm after the last layer."""
    tower, native = pair
    out = tower.encode(PIXELS, layer=layer, cls_token=True)
    torch.testing.assert_close(out.hidden, states(native)[layer], atol=1e-6, rtol=1e-5)


def test_channels_are_those_of_eager_attention(pair: tuple[InternTower, Any]) -> None:
    """[CLS] row, column sums, whole map and keys, with the norm of queries and keys where there is one."""
    tower, native = pair
    names = ("cls_attention", "received_attention", "attention", "keys")
    needs = [Need(name, 2) for name in names]
    side = tower.encode(PIXELS, layer=-1, wanted=needs, cls_token=True).side
    want = weights(native, 2)
    close: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(side[needs[0].key], want[:, :, 0].sum(1), **close)
    torch.testing.assert_close(side[needs[1].key], want.sum(2).mean(1), **close)
    torch.testing.assert_close(side[needs[2].key], want.mean(1), **close)
    assert side[needs[3].key].shape == (2, 17, 8)


def test_a_layer_in_halves_is_the_layer(pair: tuple[InternTower, Any]) -> None:
    """attend, then feed; what either reads may be given."""
    tower, native = pair
    hidden = tower.embed(PIXELS)
    block = tower.block(1)
    with torch.no_grad():
        want, normed = native.encoder.layer[1](hidden), block.layernorm_before(hidden)
    halfway = tower.attend(1, hidden)
    torch.testing.assert_close(tower.feed(1, halfway), want, atol=1e-6, rtol=1e-5)
    assert tower.attend(1, hidden, normed).equal(halfway)
    assert not tower.attend(1, hidden, 2 * normed).equal(halfway)
    assert tower.depth == DEPTH


def test_later_layers_do_not_run(pair: tuple[InternTower, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower stops at the last layer that anyone needs."""
    tower, _ = pair
    ran: list[int] = []
    attend = tower.attend

    def counted(number: int, *rest: Any) -> Tensor:
        ran.append(number)
        return attend(number, *rest)

    monkeypatch.setattr(tower, "attend", counted)
    tower.encode(PIXELS, layer=1, wanted=[Need("keys", 2)])
    assert ran == [0, 1]


def test_its_flops_are_those_that_torch_counts(pair: tuple[InternTower, Any]) -> None:
    """As far as it runs: one layer before the last."""
    tower, _ = pair
    with counting() as tally:
        torchs = counted_by_torch(lambda: tower.encode(PIXELS, layer=-2))
    assert tally.flops == torchs > 0


def test_positions_are_fitted_in_float32() -> None:
    """A half-precision table is resized as if it were whole, and rounded once; [CLS] keeps its own."""
    table = torch.randn(1, 17, 8, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    got = fitted(table, 6, 5)
    grid = table[:, 1:].float().reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    want = nn.functional.interpolate(grid, size=(6, 5), mode="bicubic", align_corners=False)
    assert got.dtype == torch.bfloat16
    assert got[:, 1:].equal(want.flatten(2).mT.to(torch.bfloat16))
    assert got[:, 0].equal(table[:, 0])
    assert fitted(table, 4, 4) is table


def test_a_tower_of_its_own_folder(tmp_path: Path) -> None:
    """InternViT alone, as OpenGVLab/InternViT-300M-448px holds it; 6 x 2 patches on request."""
    write_internvl(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    inner = {k.removeprefix("vision_model."): t for k, t in found.items() if k.startswith("vision_model.")}
    save_file(inner, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json")["vision_config"])
    vision = load_vision_tower(checkpoint=str(tmp_path), select_layer=-1, dtype="float32", device="cpu")
    size = (2 * PATCH, 6 * PATCH)
    layout = (Tile(frame=0, box=(0, 0, *size)),)
    pictures = Tiles(torch.randn(1, 3, size[1], size[0]), layout, (size,), (0.0,))
    with demand(Need("cls_attention")):
        patches = encode_vision(vision, pictures, interpolate=True)
    assert (patches.source.rows, patches.source.cols, len(patches)) == (6, 2, 12)
    assert patches.side["cls_attention"].shape == (12,)
    inner["encoder.layers.0.attn.q_norm.weight"] = torch.ones(32)
    save_file(inner, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown: encoder\.layers\.0\.attn\.q_norm\.weight \[32\]"):
        load_vision_tower(checkpoint=str(tmp_path))
