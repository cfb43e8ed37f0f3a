"""Differences between configuration and weights are all named, and refused before weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.names import route
from tokenloom.runtime.models.strict import fold

from ... import checkpoints as write


def edit(folder: Path, *, drop: str = "", add: dict[str, torch.Tensor] | None = None) -> None:
    file = folder / "model.safetensors"
    tensors = {name: t for name, t in load_file(file).items() if not drop or drop not in name}
    save_file(tensors | (add or {}), file)


def message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder))
    return str(error.value)


def test_missing_tensors(tmp_path: Path) -> None:
    """Missing tensors are listed with layers folded and the wanted shapes."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path, drop="mlp.up_proj")
    assert message(tmp_path) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        f"  2 tensors of the language model missing: model.layers.{{0..1}}.mlp.up_proj.weight [40, 24]\n"
        f"Check that config.json and the weight files belong together."
    )


def test_extra_tensors(tmp_path: Path) -> None:
    """Tensors of no part and of unknown places in a part are both listed, as they are called in the file."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path, add={"adapter.x": torch.ones(3), "model.layers.7.odd": torch.ones(2, 2)})
    assert message(tmp_path) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        f"  1 tensor of no known part: adapter.x [3]\n"
        f"  1 tensor of the language model unknown: model.layers.7.odd [2, 2]\n"
        f"Check that config.json and the weight files belong together."
    )


def test_wrong_shapes(tmp_path: Path) -> None:
    """A wrong shape is shown beside the wanted one."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path, add={"model.norm.weight": torch.ones(25), "model.mm_projector.0.bias": torch.ones(1)})
    assert message(tmp_path) == (
        f"{tmp_path}: the weights are not what the configuration says:\n"
        f"  wrong shapes in the language model: model.norm.weight [25], wanted [24]\n"
        f"  wrong shapes in the projector: model.mm_projector.0.bias [1], wanted [24]\n"
        f"Check that config.json and the weight files belong together."
    )


def test_deeper_than_configured(tmp_path: Path) -> None:
    """Weights of a deeper model than config.json says are refused, not cut."""
    write.write_llava15_original(tmp_path, config={"num_hidden_layers": 1})
    assert "9 tensors of the language model unknown: model.layers.1." in message(tmp_path)


def test_tower_in_its_own_folder(tmp_path: Path) -> None:
    """A tower folder that lacks tensors is named itself."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path / "vision_tower", drop="encoder.layers.1.mlp.fc1")
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path / 'vision_tower'}: the weights are not what the configuration says:\n")
    assert "encoder.layers.1.mlp.fc1.weight [48, 32], encoder.layers.1.mlp.fc1.bias [48]" in text


def test_same_place_twice(tmp_path: Path) -> None:
    """Two spellings of one tensor in one checkpoint are refused."""
    write.write_llava15_original(tmp_path)
    edit(tmp_path, add={"language_model.model.norm.weight": torch.ones(24)})
    assert (
        "two tensors for the same place: language_model.model.norm.weight and model.norm.weight"
        in message(tmp_path)
    )


def test_identity_between_unequal_widths(tmp_path: Path) -> None:
    """An identity projector cannot join unequal widths."""
    write.write_llava15_original(tmp_path, projector="identity")
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: an identity projector between a tower 32 wide and a language "
        f"model 24 wide"
    )


def test_unknown_projector(tmp_path: Path) -> None:
    """A projector type that is not ours is named with those that are."""
    write.write_llava15_original(tmp_path, config={"mm_projector_type": "resampler"})
    assert message(tmp_path) == (
        f"{tmp_path / 'config.json'}: projector type 'resampler' is not known; known: linear, identity, "
        f"mlp1x_gelu to mlp9x_gelu"
    )


def test_fold() -> None:
    """Runs, gaps and single layers are written differently; other shapes stay apart."""
    tensors = {f"a.{i}.w": (2,) for i in (0, 1, 2)} | {f"b.{i}.w": (2,) for i in (0, 3)}
    assert fold(tensors | {"a.3.w": (4,)}) == "a.{0..2}.w [2], b.{0,3}.w [2], a.3.w [4]"


def test_routes_do_not_guess() -> None:
    """A name that no table knows has no place."""
    assert route("transformer.h.0.attn.weight") is None
