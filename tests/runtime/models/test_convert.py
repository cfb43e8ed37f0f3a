"""`convert`: safetensors from pickles, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tokenloom.nodes.models import load_model, load_projector
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models import convert as module
from tokenloom.runtime.models.convert import convert
from tokenloom.runtime.models.headers import stored_in

from ... import checkpoints as write


def to_bin(folder: Path, shards: int = 1, legacy: bool = False) -> dict[str, torch.Tensor]:
    """Replace a folder's model.safetensors by pickled shards."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" if shards > 1 else "pytorch_model.bin"
        part = {name: tensors[name] for name in names[i::shards]}
        torch.save(part, folder / file, _use_new_zipfile_serialization=not legacy)
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        write.write_json(folder / "pytorch_model.bin.index.json", {"weight_map": weight_map})
    return tensors


class Evil:
    """What a malicious pickle does when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_same_tensors(tmp_path: Path, shards: int, legacy: bool) -> None:
    """The converted checkpoint loads and holds the same tensors, configuration and tower."""
    source, target = tmp_path / "src", tmp_path / "dst"
    write.write_next_original(source)
    want = to_bin(source, shards, legacy)
    assert convert(str(source), target) == target
    got = load_file(target / "model.safetensors")
    assert got.keys() == want.keys()
    assert all(got[name].equal(want[name]) for name in want)
    assert not list(target.rglob("*.bin*"))
    load_model(checkpoint=str(target)).llm.load()


def test_sharded_output(tmp_path: Path) -> None:
    """Files stay below max_shard and an index joins them."""
    source, target = tmp_path / "src", tmp_path / "dst"
    write.write_llava15_original(source)
    want = to_bin(source)
    convert(str(source), target, max_shard=20_000)
    files = sorted(f.name for f in target.glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert len(files) > 1
    assert stored_in(target).keys() == want.keys()
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in want.values())
    load_model(checkpoint=str(target)).llm.load()


def test_shared_and_sliced_tensors(tmp_path: Path) -> None:
    """Tied tensors and views are written as tensors of their own."""
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": base, "b": base, "c": base.T, "d": base[1:2]}, tmp_path / "x.bin")
    convert(str(tmp_path / "x.bin"), tmp_path / "dst")
    got = load_file(tmp_path / "dst" / "model.safetensors")
    assert got["b"].equal(base)
    assert got["c"].equal(base.T)
    assert got["d"].equal(base[1:2])


def test_projector_file(tmp_path: Path) -> None:
    """mm_projector.bin becomes a projector that loads."""
    tensors = write.projector_tensors("mlp2x_gelu", 8, 6)
    torch.save({f"model.mm_projector.{n}": t for n, t in tensors.items()}, tmp_path / "mm_projector.bin")
    convert(str(tmp_path / "mm_projector.bin"), tmp_path / "dst")
    facts = load_projector(checkpoint=str(tmp_path / "dst")).facts.projector
    assert facts is not None
    assert (facts.kind, facts.inputs, facts.outputs) == ("mlp2x_gelu", 8, 6)


def test_projector_copy_beside_the_model(tmp_path: Path) -> None:
    """Original folders hold the projector twice; the copy is left out."""
    source = tmp_path / "src"
    write.write_llava15_original(source)
    want = to_bin(source)
    torch.save({"model.mm_projector.0.bias": torch.zeros(1)}, source / "mm_projector.bin")
    convert(str(source), tmp_path / "dst")
    assert load_file(tmp_path / "dst" / "model.safetensors").keys() == want.keys()


def test_pickled_tower_in_a_subfolder(tmp_path: Path) -> None:
    """A tower folder inside the checkpoint is converted too."""
    source = tmp_path / "src"
    write.write_llava15_original(source)
    to_bin(source)
    to_bin(source / "vision_tower")
    convert(str(source), tmp_path / "dst")
    load_model(checkpoint=str(tmp_path / "dst")).vision.load()


def test_malicious_pickle(tmp_path: Path) -> None:
    """A pickle that would run a command is refused, the command does not run, and nothing is left."""
    marker = tmp_path / "marker"
    torch.save({"a": torch.ones(1), "x": Evil(f"touch {marker}")}, tmp_path / "evil.bin")
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "evil.bin"), tmp_path / "dst")
    text = str(error.value)
    assert text.startswith(
        f"{tmp_path / 'evil.bin'}: refused, this pickle holds more than tensors and could run code when "
        f"read ("
    )
    assert "posix.system" in text
    assert text.endswith("; get the weights as safetensors from someone you trust")
    assert not marker.exists()
    assert [f.name for f in tmp_path.iterdir()] == ["evil.bin"]


def test_everyone_may_read(tmp_path: Path) -> None:
    """What is written can be read by other users, as the files it came from."""
    torch.save({"a": torch.ones(1)}, tmp_path / "x.bin")
    written = convert(str(tmp_path / "x.bin"), tmp_path / "dst") / "model.safetensors"
    if os.name == "posix":
        assert (written.stat().st_mode & 0o777, written.parent.stat().st_mode & 0o777) == (0o644, 0o755)


def test_existing_target(tmp_path: Path) -> None:
    """An existing target is never written into."""
    (tmp_path / "dst").mkdir()
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path), tmp_path / "dst")
    assert str(error.value) == (
        f"{tmp_path / 'dst'}: exists already; convert writes a new folder, choose another name"
    )


def test_nothing_to_convert(tmp_path: Path) -> None:
    """Safetensors need no conversion, and an empty folder has nothing."""
    write.write_tower(tmp_path / "a")
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "a"), tmp_path / "dst")
    assert str(error.value) == f"{tmp_path / 'a'}: nothing to convert, its weights are safetensors already"
    (tmp_path / "b").mkdir()
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "b"), tmp_path / "dst")
    assert str(error.value) == f"{tmp_path / 'b'}: nothing to convert, no .bin or .pth file there"


def test_missing_shard(tmp_path: Path) -> None:
    """A missing pickled shard is named and nothing is written."""
    source = tmp_path / "src"
    write.write_llava15_original(source)
    to_bin(source, 2)
    (source / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError) as error:
        convert(str(source), tmp_path / "dst")
    assert str(error.value) == (
        f"{source / 'pytorch_model.bin.index.json'}: 1 of 2 shards missing: "
        f"pytorch_model-00002-of-00002.bin; download them again"
    )
    assert [f.name for f in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("content", ["{}", '{"weight_map": ["a"]}', '{"weight_map": {}}'])
def test_index_without_map(tmp_path: Path, content: str) -> None:
    """An index of pickled shards that is something else is refused."""
    index = tmp_path / "src" / "pytorch_model.bin.index.json"
    index.parent.mkdir()
    index.write_text(content)
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "src"), tmp_path / "dst")
    assert str(error.value) == (
        f"{index}: not an index; wanted JSON with a weight_map from tensor names to files; download it again"
    )


@pytest.mark.parametrize("place", ["../evil.bin", "/etc/passwd", "a\\b", "sub/x.bin"])
def test_index_that_points_elsewhere(tmp_path: Path, place: str) -> None:
    """An index of pickled shards may only name files of its own folder."""
    index = tmp_path / "src" / "pytorch_model.bin.index.json"
    write.write_json(index, {"weight_map": {"a": place}})
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "src"), tmp_path / "dst")
    assert str(error.value) == (
        f"{index}: points to {place!r}, and is refused; a shard lies in the checkpoint's own folder"
    )


@pytest.mark.parametrize("content", [b"", b"PK garbage", b"no torch file at all"])
def test_unreadable_pickle(tmp_path: Path, content: bytes) -> None:
    """A broken file is one clear message and leaves nothing."""
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.bin: "):
        convert(str(tmp_path / "x.bin"), tmp_path / "dst")
    assert [f.name for f in tmp_path.iterdir()] == ["x.bin"]


def test_target_that_cannot_be_written(tmp_path: Path) -> None:
    """A target below a file is one clear message."""
    torch.save({"a": torch.ones(1)}, tmp_path / "x.bin")
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "x.bin"), tmp_path / "x.bin" / "sub" / "dst")
    assert str(error.value) == (f"{tmp_path / 'x.bin' / 'sub' / 'dst'}: cannot be written (Not a directory)")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up leaves nothing behind."""
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.bin")

    def full(tensors: object, file: str, metadata: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(CheckpointError) as error:
        convert(str(tmp_path / "x.bin"), tmp_path / "dst")
    assert str(error.value) == (
        f"{tmp_path / 'dst'}: cannot be written ([Errno 28] No space left on device); nothing was left there"
    )
    assert [f.name for f in tmp_path.iterdir()] == ["x.bin"]


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """A kill leaves no target, and the next conversion removes what the killed one left behind."""
    source = tmp_path / "src"
    write.write_llava15_original(source)
    to_bin(source, 2)
    code = (
        "import os, sys; from tokenloom.runtime.models.convert import convert; "
        "convert(sys.argv[1], sys.argv[2], max_shard=1000, progress=lambda *_: os.kill(os.getpid(), 9))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(source), str(tmp_path / "dst")], check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "dst").exists()
    assert len(list(tmp_path.iterdir())) == 2
    convert(str(source), tmp_path / "dst")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["dst", "src"]
