"""Folding tensor names, and which family's map claims them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.headers import Stored
from tokenloom.runtime.models.hub import by_name, resolve
from tokenloom.runtime.models.inspection import Inspection, claimed, folded, grouped, inspect_folder
from tokenloom.runtime.models.pvc_names import BUNDLED
from tokenloom.runtime.models.strict import language_shapes, projector_shapes, tower_shapes

from ...checkpoints import TEXT, TOWER

HERE = Path("model.safetensors")


def stored(**shapes: tuple[int, ...]) -> list[Stored]:
    return [Stored(name.replace("__", "."), HERE, "F32", shape) for name, shape in shapes.items()]


def families(found: Inspection) -> dict[str, str]:
    return {group.part: group.family for group in found.groups}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.layers.12.mlp.weight", "model.layers.{}.mlp.weight"),
        ("blocks.3.7.w", "blocks.{}.{}.w"),
        ("0.weight", "{}.weight"),
        ("queries.5", "queries.{}"),
        ("fc1.weight", "fc1.weight"),
        ("odd{name}.1.w", "odd{{name}}.{}.w"),
    ],
)
def test_numbers_between_dots_are_folded(name: str, text: str) -> None:
    """Those, and no others."""
    assert folded(name) == text


def test_layers_of_one_shape_are_one_group() -> None:
    """Gaps are spelt out, other shapes are another group, and all is counted."""
    groups = grouped(
        stored(h__0__w=(2, 3), h__1__w=(2, 3), h__2__w=(2, 4), h__4__w=(2, 4), h__0__x__5=(), odd__1__2=(7,))
    )
    assert [(g.names, g.shape, g.count, g.parameters) for g in groups] == [
        ("h.{0..1}.w", (2, 3), 2, 12),
        ("h.{2,4}.w", (2, 4), 2, 16),
        ("h.0.x.5", (), 1, 1),
        ("odd.1.2", (7,), 1, 7),
    ]


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z0-9.{}]{1,12}", fullmatch=True), st.sampled_from([(2,), (3, 1)])),
        max_size=30,
        unique_by=lambda pair: pair[0],
    )
)
def test_no_tensor_is_lost(pairs: list[tuple[str, tuple[int, ...]]]) -> None:
    """Whatever the names, every tensor is in one group."""
    groups = grouped(Stored(name, HERE, "F16", shape) for name, shape in pairs)
    assert sum(group.count for group in groups) == len(pairs)
    assert sum(group.bytes for group in groups) == sum(2 * (2 if shape == (2,) else 3) for _, shape in pairs)


LANGUAGE = {**TEXT, "head_dim": 6}


@pytest.mark.parametrize(
    ("names", "claim"),
    [
        (language_shapes("llama", LANGUAGE), ("language", "Llama or Mistral")),
        (language_shapes("qwen2", LANGUAGE), ("language", "Qwen2")),
        (language_shapes("llama", {**LANGUAGE, "attention_bias": True}), ("language", "Llama")),
        (tower_shapes("clip", TOWER), ("tower", "CLIP")),
        (tower_shapes("siglip", TOWER), ("tower", "SigLIP")),
    ],
)
def test_a_part_alone_is_known_by_its_names(names: dict[str, object], claim: tuple[str, str]) -> None:
    """A language model, or a tower as transformers saves it; every tensor is claimed."""
    assert claimed(list(names)) == dict.fromkeys(names, claim)


def test_internvl_in_transformers_names() -> None:
    """InternVL 2.5 and 3 as transformers saves them: queries, keys and values apart."""
    from transformers import InternVLVisionConfig, InternVLVisionModel

    made = InternVLVisionModel(
        InternVLVisionConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=[28, 28],
            attention_bias=True,
            use_mean_pooling=True,
        )
    )
    names = [f"model.vision_tower.{name}" for name in made.state_dict() if "mask_token" not in name]
    assert claimed(names) == dict.fromkeys(names, ("tower", "InternViT in transformers' names"))


@pytest.mark.parametrize(
    ("kind", "family"), [("mlp2x_gelu", "MLP"), ("linear", "linear"), ("merger2x2", "patch merger")]
)
def test_projectors_are_known_by_their_names(kind: str, family: str) -> None:
    """Each by the file names of the layout it comes from."""
    prefix = "visual.merger." if kind == "merger2x2" else "model.mm_projector."
    names = [prefix + name for name in projector_shapes(kind, 8, 8)]
    assert claimed(names) == dict.fromkeys(names, ("projector", family))


def test_configuration_tells_twins_apart() -> None:
    """Mistral's names are Llama's."""
    names = list(language_shapes("mistral", LANGUAGE))
    assert set(claimed(names, "llava_mistral clip_vision_model").values()) == {("language", "Mistral")}


def test_what_no_map_covers_is_left_over() -> None:
    """Neither a new tensor inside a known part, nor one of no part."""
    names = list(tower_shapes("clip", TOWER))
    new = ["encoder.layers.1.temporal_attn.qkv.weight", "something.else"]
    assert claimed([*names, *new]).keys() == set(names)


@pytest.mark.parametrize("name", sorted(by_name()))
def test_checkpoints_by_name_are_covered(name: str) -> None:
    """Every tensor of what the loader takes has a part and a family."""
    found = inspect_folder(resolve(name), name)
    assert found.unknown == ()
    assert found.problems == ()


def test_folder_without_configuration_and_with_odd_file_names(tmp_path: Path) -> None:
    """Any safetensors files will do; what would stop the loader is told."""
    save_file({"mm_projector.weight": torch.zeros(2, 3)}, tmp_path / "some.safetensors")
    found = inspect_folder(tmp_path, "here")
    assert families(found) == {"projector": "linear"}
    assert found.files == {"some.safetensors": 1}
    assert found.problems == (
        "here: some.safetensors but no model.safetensors.index.json and no model.safetensors; add the index",
    )


PVC = "vision_model.encoder.layers.3.temporal_attn.qkv.weight"


def test_pvcs_tensors_are_covered_by_its_data_file(tmp_path: Path) -> None:
    """By the proposed names, or by those that a pvc.yaml beside the weights tells of; a bad one is told."""
    names = {PVC: torch.zeros(3, 1), PVC.replace("temporal_attn", "time_attn"): torch.zeros(3, 1)}
    save_file(names, tmp_path / "model.safetensors")
    proposed = inspect_folder(tmp_path, "here")
    assert [group.family for group in proposed.groups] == ["PVC, proposed names", ""]
    file = tmp_path / "pvc.yaml"
    file.write_text(BUNDLED.read_text().replace("temporal_attn.qkv\n", "time_attn.qkv\n"))
    assert [group.family for group in inspect_folder(tmp_path, "here").groups] == ["", f"PVC, {file}"]
    file.write_text("[]")
    bad = inspect_folder(tmp_path, "here")
    assert bad.groups == proposed.groups
    assert len(bad.problems) == 1
    assert bad.problems[0].startswith(f"{file}: wanted a mapping with")


def test_missing_shard_and_doubled_tensor_are_told(tmp_path: Path) -> None:
    """The files that are there are listed all the same."""
    for name in ("a", "b"):
        save_file({"lm_head.weight": torch.zeros(2, 2)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "model.norm.weight": "c.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = inspect_folder(tmp_path, "here")
    assert [group.names for group in found.groups] == ["lm_head.weight"]
    assert found.problems == (
        f"{tmp_path}/model.safetensors.index.json: 1 of 2 shards missing: c.safetensors; download them again",
        "b.safetensors: lm_head.weight is in a.safetensors, too",
    )


def test_files_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """None at all, and one that is something else."""
    with pytest.raises(CheckpointError) as error:
        inspect_folder(tmp_path, "here")
    assert str(error.value) == (
        "here: no safetensors there; if it has .bin files, write safetensors once with\n"
        "  tokenloom convert here here-safetensors"
    )
    (tmp_path / "model.safetensors").write_text("no tensors here")
    with pytest.raises(CheckpointError, match="not a sound safetensors file"):
        inspect_folder(tmp_path, "here")
