"""TokenPacker's checkpoints: known by tensor names, incomplete configurations, towers inside and apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenloom import Graph, nodes
from tokenloom.nodes.models import load_model, load_projector
from tokenloom.runtime.commands.doctor import checkpoint_facts
from tokenloom.runtime.errors import CheckpointError, WiringError
from tokenloom.runtime.models.convert import convert
from tokenloom.runtime.models.handle import ImageFacts, Model, ProjectorFacts
from tokenloom.runtime.models.pool import pool
from tokenloom.runtime.models.projector import Projector
from tokenloom.runtime.models.tokenpacker import TokenPacker
from tokenloom.runtime.plan import plan

from ... import checkpoints as write

MADE = write.RANDOM / "tiny-random-tokenpacker"
PICTURE = Path(__file__).parents[3] / "examples" / "media" / "shapes.png"
TOWER = "model.vision_tower.vision_tower.vision_model."


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    pool().release()


def written(folder: Path, *, drop: str | tuple[str, ...] = "none.", more: Any = None, **config: Any) -> Path:
    """The bundled checkpoint with other settings (None: left out) and tensors."""
    shutil.copytree(MADE, folder, dirs_exist_ok=True)
    tensors = {n: t for n, t in load_file(MADE / "model.safetensors").items() if not n.startswith(drop)}
    save_file(tensors | (more or {}), folder / "model.safetensors")
    settings = json.loads((MADE / "config.json").read_text()) | config
    write.write_json(folder / "config.json", {k: v for k, v in settings.items() if v is not None})
    return folder


def facts_of(handle: Model[Any]) -> ProjectorFacts:
    assert handle.facts.projector is not None
    return handle.facts.projector


def image_of(folder: Path, **widgets: Any) -> ImageFacts:
    image = load_model(checkpoint=str(folder), **widgets).chat.facts.image
    assert image is not None
    return image


def message(folder: Path | str, **widgets: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder), **widgets)
    return str(error.value)


def weights(handle: Model[Projector]) -> dict[str, Tensor]:
    module = handle.load().module
    assert isinstance(module, TokenPacker)
    return module.state_dict()


def stage_one(folder: Path) -> Path:
    """What the first stage of training leaves: config.json and a pickle of the projector."""
    tensors = load_file(MADE / "model.safetensors")
    folder.mkdir()
    shutil.copyfile(MADE / "config.json", folder / "config.json")
    torch.save({n: t for n, t in tensors.items() if ".mm_projector." in n}, folder / "mm_projector.bin")
    return folder


@pytest.mark.parametrize("kind", ["tokenpacker", "mlp2x_gelu", "anything", None])
def test_known_by_its_tensors(tmp_path: Path, kind: str | None) -> None:
    """Released configurations say mlp2x_gelu as often as tokenpacker."""
    folder = written(tmp_path, mm_projector_type=kind)
    facts = facts_of(load_model(checkpoint=str(folder)).projector)
    assert (facts.kind, facts.levels, facts.heads, facts.inputs, facts.outputs) == (
        "tokenpacker", 4, 1, 24, 32,
    )  # fmt: skip


def test_every_tensor_arrives(tmp_path: Path) -> None:
    """All 23, under their own names, with the heads of the configuration."""
    handle = load_model(checkpoint=str(written(tmp_path, tiny_num_heads=3)), dtype="float32").projector
    want = load_file(MADE / "model.safetensors")
    got = weights(handle)
    assert len(got) == 23
    assert all(t.equal(want[f"model.mm_projector.{name}"].float()) for name, t in got.items())
    assert handle.load().module.heads == 3


@pytest.mark.parametrize(
    ("config", "widget", "told"),
    [
        ({}, None, (2, "scale_factor of config.json")),
        ({"scale_factor": "3"}, None, (3, "scale_factor of config.json")),
        ({"scale_factor": None, "down_rate": 4}, None, (4, "down_rate of config.json")),
        ({}, 4, (4, "load_model.scale_factor")),
        ({"scale_factor": None, "down_rate": 4}, 3, (3, "load_model.scale_factor")),
        ({"scale_factor": None}, None, (None, "")),
    ],
)
def test_who_said_the_scale_factor(tmp_path: Path, config: Any, widget: Any, told: Any) -> None:
    """The widget, else config.json by either name; never a default."""
    handle = load_model(checkpoint=str(written(tmp_path, **config)), scale_factor=widget).projector
    facts = facts_of(handle)
    assert (facts.scale_factor, facts.scale_from) == told
    assert handle.load().facts == facts


@pytest.mark.parametrize(
    ("config", "layers"), [({}, (12, 16, 22, 23)), ({"mm_projector_levels": [1, 2, -3, 4]}, (1, 2, -3, 4))]
)
def test_the_layers_that_a_projector_reads(tmp_path: Path, config: Any, layers: Any) -> None:
    """As the configuration says, else the released ones; with the tower or alone."""
    folder = str(written(tmp_path, **config))
    assert facts_of(load_model(checkpoint=folder).projector).layers == layers
    assert facts_of(load_projector(checkpoint=folder)).layers == layers


def test_a_tower_without_the_released_layers(tmp_path: Path) -> None:
    """Which ones are meant is not guessed."""
    tensors = {n: t for n, t in load_file(MADE / "model.safetensors").items() if ".layers." in n}
    deep = [n for n in tensors if n.startswith(TOWER) and int(n.split(".layers.")[1].split(".")[0]) > 5]
    folder = written(tmp_path, drop=tuple(deep))
    tower = json.loads((folder / "vision_tower" / "config.json").read_text()) | {"num_hidden_layers": 6}
    write.write_json(folder / "vision_tower" / "config.json", tower)
    assert facts_of(load_model(checkpoint=str(folder)).projector).layers is None


def test_a_graph_without_a_scale_factor_is_refused_before_work(tmp_path: Path) -> None:
    """By the node that needs it; either node's widget helps."""
    folder = written(tmp_path, scale_factor=None)

    def planned(given: int | None = None, **widgets: Any) -> tuple[str, ...]:
        with Graph() as graph:
            model = nodes.load_model(checkpoint=str(folder), scale_factor=given)
            tiles = nodes.preprocess(model.chat, nodes.load_image(path=PICTURE))
            patches = nodes.encode_vision(model.vision, tiles)
            graph.output(visual=nodes.project_tokenpacker(model.projector, patches, **widgets))
        return plan(graph).notes

    with pytest.raises(WiringError, match=r"scale_factor: the checkpoint does not say it"):
        planned()
    unknown = "load_model: scale_factor is not known: config.json does not say it, and no weight can tell"
    levels = "project_tokenpacker: levels 12, 16, 22, 23: the layers that the projector reads"
    assert planned(scale_factor=3) == (unknown, "project_tokenpacker: scale_factor 3, as set here", levels)
    assert planned(3) == (
        "load_model: scale_factor 3, from load_model.scale_factor; no weight can confirm it",
        levels,
    )


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"scale_factor": 0}, "{file}: scale_factor is 0, wanted a positive whole number"),
        ({"scale_factor": 2.5}, "{file}: scale_factor is 2.5, wanted a positive whole number"),
        ({"patch_num": "many"}, "{file}: patch_num is 'many', wanted a positive whole number"),
        ({"mm_projector_levels": 4},
         "{file}: mm_projector_levels is 4, wanted a list of layers such as [1, 2, 3, 4]"),
        ({"mm_projector_levels": [1, 2]}, "{file}: mm_projector_levels are 2 layers, the weights read 4"),
        ({"mm_projector_levels": [1, 2, 3, 30]},
         "{file}: mm_projector_levels is [1, 2, 3, 30], the tower has layers -25..24"),
        ({"tiny_num_heads": 5},
         "{file}: tiny_num_heads: 5 heads of a width of 24; wanted one of 1, 2, 3, 4, 6, 8, 12, 24"),
        ({"mm_vision_tower": "./nowhere"},
         "{file}: mm_vision_tower ./nowhere: no such folder, no checkpoint of that name"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be(tmp_path: Path, config: Any, text: str) -> None:
    """Named with the file."""
    folder = written(tmp_path, **config)
    assert message(folder).startswith(text.format(file=folder / "config.json"))


def test_strict(tmp_path: Path) -> None:
    """Every missing, unknown and misshapen tensor is named."""
    more = {
        "model.mm_projector.extra.weight": torch.zeros(3),
        "model.mm_projector.mlp.0.weight": torch.zeros(32, 25),
    }
    folder = written(tmp_path, drop="model.mm_projector.ln_v_1.", more=more)
    assert message(folder) == (
        f"{folder}: the weights are not what the configuration says:\n"
        "  2 tensors of the projector missing: ln_v_1.weight [24], ln_v_1.bias [24]\n"
        "  1 tensor of the projector unknown: model.mm_projector.extra.weight [3]\n"
        "  wrong shapes in the projector: model.mm_projector.mlp.0.weight [32, 25], wanted [32, 24]\n"
        "Check that config.json and the weight files belong together."
    )


def test_called_a_tokenpacker_without_being_one(tmp_path: Path) -> None:
    """The tensors of an MLP are not those of a TokenPacker."""
    folder = write.write_llava15_original(tmp_path, config={"mm_projector_type": "tokenpacker"})
    said = message(folder)
    assert "23 tensors of the projector missing: q_proj_1.weight [32, 32], " in said
    assert "4 tensors of the projector unknown: model.mm_projector." in said


def test_other_towers(tmp_path: Path) -> None:
    """Weights inside the checkpoint are taken; without them, those of the folder that is named."""
    inside = load_model(checkpoint=str(MADE), dtype="float32").vision.load().module.state_dict()
    bare = written(tmp_path / "bare", drop=TOWER)
    apart = tmp_path / "apart"
    shutil.copytree(MADE / "vision_tower", apart)
    tower = {n: t for n, t in load_file(MADE / "model.safetensors").items() if n.startswith(TOWER)}
    stored = {f"vision_model.{n.removeprefix(TOWER)}": t + 1 for n, t in tower.items()}
    save_file(stored, apart / "model.safetensors")

    handle = load_model(checkpoint=str(bare), vision_tower=str(apart), dtype="float32")
    got = handle.vision.load().module.state_dict()
    name = next(n for n in got if n.endswith("pre_layrnorm.weight"))
    assert got[name].equal((tower[f"{TOWER}pre_layrnorm.weight"] + 1).float())
    assert handle.projector.load().facts.scale_factor == 2

    both = load_model(checkpoint=str(MADE), vision_tower=str(apart), dtype="float32").vision
    assert both.load().module.state_dict()[name].equal(inside[name])
    renamed = written(tmp_path / "renamed", mm_vision_tower="./clip-vit-large-patch14-336")
    found = load_model(checkpoint=str(renamed), vision_tower=str(apart), dtype="float32").vision
    assert found.load().module.state_dict()[name].equal(inside[name])


def test_a_relative_tower_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is where it was when the handle was made."""
    monkeypatch.chdir(MADE)
    handle = load_model(checkpoint=str(MADE), vision_tower="vision_tower").vision
    monkeypatch.chdir(tmp_path)
    assert handle.load().facts.depth == 24


def test_a_tower_with_pickled_weights(tmp_path: Path) -> None:
    """As openai's: the command writes a new folder, to be named instead."""
    bare, apart = written(tmp_path / "bare", drop=TOWER), tmp_path / "clip"
    shutil.copytree(MADE / "vision_tower", apart)
    torch.save({"vision_model.x": torch.zeros(1)}, apart / "pytorch_model.bin")
    said = message(bare, vision_tower=str(apart))
    assert said.endswith(f"\n  tokenloom convert {apart} clip-safetensors")


def test_a_tower_that_is_not_there(tmp_path: Path) -> None:
    """The widget is named, whether it is the mistake or the way out."""
    folder = written(tmp_path, mm_vision_tower="./nowhere")
    assert message(folder).endswith("(those read owner/name); load_model's vision_tower names another")
    assert message(folder, vision_tower="./neither").startswith(
        "load_model.vision_tower: ./neither: no such folder, no checkpoint of that name"
    )


def test_patch_num_and_slicing(tmp_path: Path) -> None:
    """Training never writes patch_num; scripts read it as text; the widget stands before it."""
    folder = written(tmp_path, image_aspect_ratio="slice")
    assert (image_of(folder).aspect, image_of(folder).patch_num) == ("slice", 0)
    assert image_of(folder, patch_num=25).patch_num == 25
    folder = written(tmp_path, image_aspect_ratio="slice", patch_num="16")
    assert image_of(folder).patch_num == 16
    assert image_of(folder, patch_num=9).patch_num == 9


def test_what_is_given_for_nothing(tmp_path: Path) -> None:
    """Widgets that mean nothing for a checkpoint are refused, not ignored."""
    assert message("tiny-random", scale_factor=2) == (
        "load_model.scale_factor: 2, but tiny-random has a projector that is no TokenPacker; leave it out"
    )
    assert message("tiny-random-pllava", vision_tower="x") == (
        "load_model.vision_tower: x, but tiny-random-pllava holds its tower; leave it out"
    )
    assert message("tiny-random-pllava", patch_num=9) == (
        "load_model.patch_num: 9, but tiny-random-pllava has another way to cut pictures; leave it out"
    )
    with pytest.raises(CheckpointError) as error:
        load_projector(checkpoint="tiny-random", scale_factor=2)
    assert str(error.value) == (
        "load_projector.scale_factor: 2, but tiny-random has a projector that is no TokenPacker; leave it out"
    )


def test_raw_output_of_the_trainer(tmp_path: Path) -> None:
    """Sharded pickles with rotary frequencies and training state become a checkpoint that loads."""
    folder, tensors = written(tmp_path / "raw"), load_file(MADE / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for layer in range(8):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    names = sorted(tensors)
    shards = {f"pytorch_model-0000{i + 1}-of-00003.bin": names[i::3] for i in range(3)}
    for file, held in shards.items():
        torch.save({name: tensors[name] for name in held}, folder / file)
    where = {name: file for file, held in shards.items() for name in held}
    write.write_json(folder / "pytorch_model.bin.index.json", {"weight_map": where})
    write.write_json(folder / "trainer_state.json", {})
    torch.save({"rate": 2e-5}, folder / "training_args.bin")
    done = convert(str(folder), tmp_path / "safe", max_shard=400_000)
    again, before = (load_model(checkpoint=str(f), dtype="float32") for f in (done, MADE))
    for mine, theirs in zip(again[:3], before[:3], strict=True):
        own, other = (handle.load().module.state_dict() for handle in (mine, theirs))
        assert own.keys() == other.keys()
        assert all(own[name].equal(other[name]) for name in own)


def test_stage_one(tmp_path: Path) -> None:
    """A folder with config.json says its scale factor; the file alone must be told."""
    folder = stage_one(tmp_path / "stage1")
    want = weights(load_model(checkpoint=str(MADE), dtype="float32").projector)
    whole = load_projector(checkpoint=str(convert(str(folder), tmp_path / "a")), dtype="float32")
    assert (facts_of(whole).scale_factor, facts_of(whole).scale_from) == (2, "scale_factor of config.json")
    file = convert(str(folder / "mm_projector.bin"), tmp_path / "b") / "mm_projector.safetensors"
    alone = load_projector(checkpoint=str(file), dtype="float32")
    assert facts_of(alone).scale_factor is None
    told = load_projector(checkpoint=str(file), dtype="float32", scale_factor=4)
    assert (facts_of(told).scale_factor, facts_of(told).scale_from) == (4, "load_projector.scale_factor")
    for handle in (whole, alone, told):
        got = weights(handle)
        assert all(got[name].equal(tensor) for name, tensor in want.items())


def test_a_projector_in_pieces(tmp_path: Path) -> None:
    """Strict for a projector alone, too."""
    tensors = load_file(MADE / "model.safetensors")
    some = {n: t for n, t in tensors.items() if ".mm_projector." in n and "mlp.2" not in n}
    save_file(some, tmp_path / "mm_projector.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_projector(checkpoint=str(tmp_path))
    assert "2 tensors of the projector missing: mlp.2.weight" in str(error.value)


def test_other_settings_are_another_projector() -> None:
    """Two scale factors never share a cache entry; the same one shares its model."""
    two, three, again = (load_model(checkpoint=str(MADE), scale_factor=n).projector for n in (2, 3, 2))
    assert two.fingerprint != three.fingerprint
    assert two.fingerprint == again.fingerprint
    assert two.load() is again.load()


def test_doctor_says_what_is_taken_on_trust(tmp_path: Path) -> None:
    """A scale factor that nobody said is something to mend."""
    lines = {name: (text, good) for name, text, good in checkpoint_facts("tiny-random-tokenpacker")}
    assert lines["projector"] == ("tokenpacker, from 24 to 32", True)
    assert lines["on trust"] == (
        "scale_factor 2, from scale_factor of config.json; no weight can confirm it", True,
    )  # fmt: skip
    silent = {name: good for name, _, good in checkpoint_facts(str(written(tmp_path, scale_factor=None)))}
    assert not silent["on trust"]
    assert "on trust" not in {name for name, _, _ in checkpoint_facts("tiny-random")}
    assert [good for _, _, good in checkpoint_facts("nowhere")] == [False]
