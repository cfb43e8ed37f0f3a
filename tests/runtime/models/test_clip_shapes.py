"""A checkpoint that holds its CLIP tower and names a folder that only its authors have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.clip_shapes import ASSUMED

from ... import checkpoints as write

SIZES: dict[str, Any] = {"tower_hidden_size": 128, "tower_num_attention_heads": 2, "inside": True}


def named(folder: Path, name: str, **more: Any) -> Path:
    return write.write_llava15_original(folder, config={"mm_vision_tower": name}, **{**SIZES, **more})


def test_the_configuration_is_read_off_the_tensors(tmp_path: Path) -> None:
    """The same tower as with its configuration at hand, and a note that says what is assumed."""
    here, gone = (
        load_model(checkpoint=str(named(tmp_path / str(i), name)), dtype="float32").vision
        for i, name in enumerate(("vision_tower", "./clip-vit-large-patch14-336"))
    )
    shape = here.facts.tower
    assert shape is not None
    assert gone.facts.tower is not None
    assert gone.facts.tower.assumed == ASSUMED
    for fact in ("hidden", "intermediate", "depth", "heads", "patch", "size"):
        assert getattr(gone.facts.tower, fact) == getattr(shape, fact), fact
    weights = here.load().module.state_dict()
    assert all(value.equal(weights[name]) for name, value in gone.load().module.state_dict().items())
    assert gone.notes == (ASSUMED,)
    assert here.notes == ()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("./my-tower", {}),  # not OpenAI's: heads and activation could be any
        ("./CLIP-ViT-L-14-laion2B", {}),
        ("./clip-vit-large-patch14-336", {"tower_hidden_size": 32, "tower_num_attention_heads": 4}),
    ],
)
def test_other_towers_are_not_guessed(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    """The error names the place that is not there, and the setting that names another."""
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(named(tmp_path, name, **more)))
    assert f"mm_vision_tower {name}: no such folder" in str(error.value)
    assert str(error.value).endswith("load_model's vision_tower names another")
