"""PVC checkpoints: their names and options in a data file, and the list of whatever it does not cover."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenloom.nodes.models import load_model
from tokenloom.nodes.pvc import encode_pvc
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.handle import PvcFacts
from tokenloom.runtime.models.pvc_names import BUNDLED, OURS, bundled
from tokenloom.runtime.models.tower_pvc import PvcTower
from tokenloom.runtime.values import Patches, Tile, Tiles

from ...checkpoints import RANDOM

TINY = RANDOM / "tiny-random-pvc"
OPTIONS = "proposed_pvc_options"
Change = Callable[[dict[str, Tensor], dict[str, Any]], None]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Change], str]:
    """The bundled checkpoint, with its tensors and config.json changed."""

    def make(change: Change) -> str:
        folder = tmp_path / "checkpoint"
        shutil.copytree(TINY, folder, dirs_exist_ok=True)
        tensors = load_file(TINY / "model.safetensors")
        config = json.loads((TINY / "config.json").read_text())
        change(tensors, config)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    return make


def pvc_of(checkpoint: str) -> PvcFacts | None:
    tower = load_model(checkpoint=checkpoint).vision.facts.tower
    assert tower is not None
    return tower.pvc


def frames(checkpoint: str) -> Patches:
    """Two frames through its tower."""
    vision = load_model(checkpoint=checkpoint, dtype="float32").vision
    assert vision.facts.tower is not None
    side = vision.facts.tower.size
    layout = tuple(Tile(frame=i, box=(0, 0, side, side), time=i) for i in range(2))
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return encode_pvc(vision, Tiles(pixels, layout, ((side, side),) * 2, (0.0, 1.0)))


def renamed(tensors: dict[str, Tensor], was: str, now: str) -> None:
    for name in [name for name in tensors if was in name]:
        tensors[name.replace(was, now)] = tensors.pop(name)


def without_options(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    del config[OPTIONS]


def test_the_bundled_checkpoint_has_temporal_modules() -> None:
    """Its tower is PVC's, and it says its options."""
    vision = load_model(checkpoint="tiny-random-pvc").vision
    assert isinstance(vision.load(), PvcTower)
    assert pvc_of("tiny-random-pvc") == PvcFacts(layers=(2, 3))


def test_tensors_show_what_the_configuration_does_not_say(changed: Callable[[Change], str]) -> None:
    """Temporal layers, where AdaLN is, the sinusoid's width: from names and shapes."""
    assert pvc_of(changed(without_options)) == PvcFacts(layers=(2, 3))


def test_options_of_the_configuration(changed: Callable[[Change], str]) -> None:
    """As its data file says where they are."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config[OPTIONS] |= {"time_mode": "index", "time_scale": 2, "video_repeat_time": None}
        config |= {"image_repeat_time": 3, "video_repeat_time": 2, "tile_repeat_way": "frame"}

    want = PvcFacts(
        layers=(2, 3), time="index", time_scale=2.0, image_repeat=3, video_repeat=2, repeat_way="frame"
    )
    assert pvc_of(changed(change)) == want


def test_other_names_are_a_yaml_edit(changed: Callable[[Change], str]) -> None:
    """A pvc.yaml beside config.json says what the tensors are called, mlp1's too; the weights are those."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        renamed(tensors, ".temporal_attn.", ".t_mha.")
        renamed(tensors, "temporal_norm_adaln", "t_mod.1")
        renamed(tensors, "mlp1.3.", "mlp1.5.")

    folder = Path(changed(change))
    told = yaml.safe_load(BUNDLED.read_text(encoding="utf-8"))
    for part in ("qkv", "proj"):
        told["tower"][f"layers.{{}}.temporal_attn.{part}"] = f"vision_model.encoder.layers.{{}}.t_mha.{part}"
    told["tower"]["layers.{}.adaln.temporal"] = "vision_model.encoder.layers.{}.t_mod.1"
    told["projector"]["mlp1.3"] = "mlp1.5"
    (folder / "pvc.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    assert frames(str(folder)).features.equal(frames("tiny-random-pvc").features)


def test_what_the_names_mean_is_part_of_the_model(changed: Callable[[Change], str]) -> None:
    """AdaLN of attention and MLP swapped in the data file: the same tensors, another tower."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config[OPTIONS]["adaln_on"] = ["attn", "ffn"]
        renamed(tensors, "temporal_norm_adaln", "norm1_adaln")
        for name in [name for name in tensors if "norm1_adaln" in name]:
            tensors[name.replace("norm1", "norm2")] = tensors[name] + 1

    folder = Path(changed(change))
    before = load_model(checkpoint=str(folder)).vision.fingerprint
    told = BUNDLED.read_text(encoding="utf-8")
    swapped = told.replace("norm1_adaln", "norm3").replace("norm2_adaln", "norm1_adaln")
    (folder / "pvc.yaml").write_text(swapped.replace("norm3", "norm2_adaln"), encoding="utf-8")
    assert load_model(checkpoint=str(folder)).vision.fingerprint != before


def test_tensors_that_no_map_covers(changed: Callable[[Change], str]) -> None:
    """All are listed, folded, with their shapes, and with what to do about them."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        renamed(tensors, "temporal_ls", "t_gate")
        tensors["mlp1_extra.weight"] = torch.zeros(3, 5)

    folder = changed(change)
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=folder)
    assert str(error.value) == (
        f"{folder}: the weights are not what the configuration says:\n"
        "  1 tensor of no known part: mlp1_extra.weight [3, 5]\n"
        "  2 tensors of the vision tower unknown: vision_model.encoder.layers.{2..3}.t_gate [12]\n"
        "  (PVC's names are proposals: if these are its own, say in a pvc.yaml beside config.json what they "
        f"are called; begin with a copy of {BUNDLED})\n"
        "  2 tensors of the temporal modules missing: layers.{2..3}.temporal_ls [12]\n"
        "Check that config.json and the weight files belong together."
    )


def test_fewer_tensors_than_the_configuration_says(changed: Callable[[Change], str]) -> None:
    """Are missing, by our names."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config[OPTIONS]["num_temporal_layers"] = 3

    with pytest.raises(
        CheckpointError, match=r"7 tensors of the temporal modules missing: layers\.1\.temporal"
    ):
        load_model(checkpoint=changed(change))


def test_a_checkpoint_without_anything_of_its_own(changed: Callable[[Change], str]) -> None:
    """Is an InternVL2, whatever it calls itself."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        del config[OPTIONS]
        for name in [name for name in tensors if bundled().find(name) and not name.startswith("mlp1.")]:
            del tensors[name]

    assert pvc_of(changed(change)) is None


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("time_mode", "seconds", "time_mode is 'seconds', wanted fraction or fraction_inclusive or index"),
        ("adaln_on", ["mlp"], "adaln_on is ['mlp'], wanted some of attn, temporal, ffn"),
        ("num_temporal_layers", 2.5, "num_temporal_layers is 2.5, wanted a whole number"),
        ("image_repeat_time", 0, "image_repeat_time is 0, wanted a positive whole number"),
        ("time_embed", 1, "time_embed is 1, wanted true or false"),
    ],
)
def test_options_that_cannot_be(
    changed: Callable[[Change], str], option: str, value: Any, message: str
) -> None:
    """The place in config.json is named."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config[OPTIONS][option] = value

    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=changed(change))
    assert str(error.value) == f"config.json: {OPTIONS}.{message}"


def test_more_temporal_layers_than_layers(changed: Callable[[Change], str]) -> None:
    """Cannot be."""

    def change(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        config[OPTIONS]["num_temporal_layers"] = 5

    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=changed(change))
    assert str(error.value) == "config.json: 5 temporal layers of a tower with 4"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda told: told.pop("tower"),
            "wanted a mapping with model_types, options, projector, tower; copy ",
        ),
        (lambda told: told["tower"].update(qkv="x"), "tower: qkv: none of layers.{}.adaln.attn, "),
        (lambda told: told["options"].pop("time"), "options time unknown or missing; copy "),
        (
            lambda told: told["options"].update(time="index"),
            "options.time: wanted {config: [a.place.in.config], default: a value}",
        ),
        (
            lambda told: told["options"]["time"].update(config="time_mode"),  # a text is no list of places
            "options.time: wanted {config: [a.place.in.config], default: a value}",
        ),
        (lambda told: told.update(model_types=None), "model_types: wanted a list of names"),
        (lambda told: told.update(tower=["x"]), "tower: wanted lines of `ours: theirs`; copy "),
        (
            lambda told: told["tower"].update({"layers.{}.temporal_ls": "vision.ls"}),
            "tower.layers.{}.temporal_ls: 'vision.ls', wanted a name with one {}",
        ),
        (
            lambda told: told["projector"].update(mlp1_adaln="mlp1.{}"),
            "projector.mlp1_adaln: 'mlp1.{}', wanted a name with no {}",
        ),
    ],
)
def test_a_data_file_that_is_none(changed: Callable[[Change], str], edit: Any, message: str) -> None:
    """Is refused with what it lacks."""
    folder = Path(changed(lambda tensors, config: None))
    told = yaml.safe_load(BUNDLED.read_text(encoding="utf-8"))
    edit(told)
    (folder / "pvc.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder))
    assert str(error.value).startswith(f"{folder / 'pvc.yaml'}: {message}")


def test_the_bundled_file_names_all_of_ours() -> None:
    """Every name that the modules have, each once."""
    told = yaml.safe_load(BUNDLED.read_text(encoding="utf-8"))
    for part, names in OURS.items():
        assert set(told[part]) == names
        assert len(set(told[part].values())) == len(names)
