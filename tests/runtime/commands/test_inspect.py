"""`tokenloom inspect`: what it prints for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from tokenloom.runtime.cli import app
from tokenloom.runtime.commands.inspect import number, settings
from tokenloom.runtime.models import hub
from tokenloom.runtime.models.headers import read_header

from ...checkpoints import RANDOM
from ..models.test_hub import fake_cache


def inspect(*words: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *words])


def told(*words: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(inspect(*words, "--json").stdout)
    return result


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """tiny-random with tensors that nobody knows, in two layers."""
    folder = tmp_path / "strange"
    shutil.copytree(RANDOM / "tiny-random", folder)
    tensors = load_file(folder / "model.safetensors")
    for layer in (2, 3):
        tensors[f"model.vision_tower.vision_tower.encoder.layers.{layer}.temporal_attn.qkv.weight"] = (
            torch.zeros(6, 2, dtype=torch.float16)
        )
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_a_known_checkpoint() -> None:
    """Totals, configuration, one table per part, and that it loads."""
    out = inspect("tiny-random").stdout
    assert out.startswith("tiny-random: 43 tensors, 266.7 k parameters, 533 kB of F16 in 1 file\n")
    assert '  architectures ["LlavaLlamaForCausalLM"], model_type llava_llama, hidden_size 64' in out
    assert "\nprojector, MLP: 4 tensors, 8.32 k parameters, 16.6 kB of F16\n" in out
    assert "model.layers.{0..3}.self_attn.k_proj.weight          64x64   F16        4      16.4 k\n" in out
    assert "\nlanguage, Llama: 39 tensors" in out
    assert "no name map" not in out
    assert out.endswith("\nload_model takes it\n")


def test_what_no_map_covers(strange: Path) -> None:
    """Folded, in a table of its own, and why it is refused."""
    result = inspect(str(strange))
    assert result.exit_code == 0
    name = "model.vision_tower.vision_tower.encoder.layers.{2..3}.temporal_attn.qkv.weight"
    assert "\nno name map covers these: 2 tensors, 24 parameters, 48 B of F16\n" in result.stdout
    assert f"{name}  6x2    F16        2          24\n" in result.stdout
    assert (
        f"load_model refuses it: {strange}: the weights are not what the configuration says:\n"
        in result.stdout
    )


def test_for_programs(strange: Path) -> None:
    """The same as JSON, with the whole configuration."""
    known, other = told("tiny-random"), told(str(strange))
    assert known["taken_by"] == "load_model"
    assert known["problem"] == ""
    assert known["unknown"] == []
    assert known["tensors"] == sum(group["count"] for group in known["groups"])
    assert known["config"]["mm_projector_type"] == "mlp2x_gelu"
    assert other["taken_by"] == ""
    assert "2 tensors of the vision tower" in other["problem"]
    assert [
        (group["names"].split(".")[-3], group["shape"], group["count"]) for group in other["unknown"]
    ] == [("temporal_attn", [6, 2], 2)]


@pytest.mark.parametrize(
    ("tensors", "node"),
    [
        ({"mm_projector.weight": torch.zeros(2, 3), "mm_projector.bias": torch.zeros(2)}, "load_projector"),
        (None, "load_vision_tower"),
    ],
)
def test_parts_alone(tensors: dict[str, torch.Tensor] | None, node: str, tmp_path: Path) -> None:
    """A projector without a configuration, and a tower: said by which node they are loaded."""
    folder = RANDOM / "tiny-random" / "vision_tower"
    if tensors is not None:
        folder = tmp_path
        save_file(tensors, folder / "mm_projector.safetensors")
    out = inspect(str(folder)).stdout
    assert out.endswith(f"\n{node} takes it\n")
    assert ("\n  no config.json\n" in out) == (tensors is not None)


def test_settings_leave_out_what_says_nothing() -> None:
    """Nulls, empty values and what transformers writes everywhere; nested ones get a line of their own."""
    config = {
        "a": 1,
        "b": None,
        "top_k": 50,
        "use": False,
        "v": {"w": 2, "top_p": 1.0, "r": {"t": "x"}},
        "e": {},
    }
    assert settings(config) == ["a 1, use false", "v: w 2", "v.r: t x"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (812, "812"), (1024, "1.02 k"), (76_900_000, "76.9 M"), (9_550_000_000, "9.55 B")],
)
def test_numbers_for_people(count: int, text: str) -> None:
    """Three digits and a unit."""
    assert number(count) == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny-randon"], "error: tiny-randon: no such folder, no checkpoint of that name (did you mean"),
        (["README.md"], "error: README.md: a file; wanted the folder of a checkpoint\n"),
        (
            ["tiny-random", "--revision", "v2"],
            "error: tiny-random: revision 'v2' was given, but this is a local",
        ),
    ],
)
def test_bad_names(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear message, exit code 2."""
    monkeypatch.chdir(Path(__file__).parents[3])
    result = inspect(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a checkpoint whose small files are in the hub cache; the hub tells of headers alone."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata, TensorInfo

    header = read_header(RANDOM / "tiny-random" / "model.safetensors")
    small = tmp_path / "made"
    shutil.copytree(RANDOM / "tiny-random", small, ignore=shutil.ignore_patterns("*.safetensors"))
    fake_cache(tmp_path / "home", "someone/tiny", small)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub._download.cache_clear()

    def metadata(api: object, repo: str, *, revision: str | None) -> SafetensorsRepoMetadata:
        assert (repo, revision) == ("someone/tiny", None)
        tensors = {
            name: TensorInfo(dtype=one.dtype, shape=list(one.shape), data_offsets=(0, 0))  # pyright: ignore
            for name, one in header.items()
        }
        file = SafetensorsFileMetadata(metadata={}, tensors=tensors)
        return SafetensorsRepoMetadata(
            metadata=None, sharded=False, weight_map={}, files_metadata={"model.safetensors": file}
        )

    monkeypatch.setattr(HfApi, "get_safetensors_metadata", metadata)
    return "someone/tiny"


def test_a_hub_id_needs_no_weights(on_the_hub: str) -> None:
    """The same tables as of the folder, from headers; the loader is not asked."""
    there, here = told(on_the_hub), told("tiny-random")
    assert there["groups"] == here["groups"]
    assert there["config"] == here["config"]
    assert there["taken_by"] == ""
    out = inspect(on_the_hub).stdout
    assert out.startswith("someone/tiny: 43 tensors, 266.7 k parameters")
    assert out.endswith(
        "\nonly headers were read; whether load_model takes it shows once the weights are here\n"
    )


def test_a_hub_that_cannot_be_reached(on_the_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    def refuse(*_: object, **__: object) -> None:
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(HfApi, "get_safetensors_metadata", refuse)
    result = inspect(on_the_hub)
    assert result.exit_code == 2
    assert result.stderr == "error: someone/tiny: the headers of its files cannot be read: offline\n"
