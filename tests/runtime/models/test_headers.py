"""Headers of bad files: one clear message each, and never a wrong answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.headers import has_weights, read_header, stored_in

from ... import checkpoints as write


def message(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        stored_in(folder)
    return str(error.value)


def raw_file(folder: Path, header: object, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "model.safetensors"
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return file


def test_reads_names_shapes_and_dtypes(tmp_path: Path) -> None:
    """A header gives name, dtype, shape and file of each tensor."""
    write.save(tmp_path, {"a": torch.zeros(2, 3, dtype=torch.float16), "b": torch.zeros(())})
    found = read_header(tmp_path / "model.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {"a": ("F16", (2, 3)), "b": ("F32", ())}


def test_truncated_file(tmp_path: Path) -> None:
    """A file that ends early says how much is missing."""
    write.save(tmp_path, {"a": torch.zeros(100)})
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert message(tmp_path) == (
        f"{file}: truncated, 390 bytes of weights where its header tells of 400; download it again"
    )


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"not json", "a header that is not JSON"),
        ([1], "a header that is not a mapping"),
        ({"a": {"dtype": "F32"}}, "an entry for 'a' without dtype, shape and data_offsets"),
        (
            {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
            "an entry for 'a' with shape [-1] at bytes 0..4",
        ),
        (
            {"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}},
            "an entry for 'a' with dtype 'Q9'",
        ),
        (
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
            "4 bytes for 'a', F32 [2]",
        ),
        (
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]},
            },
            "tensors that overlap or leave a gap at byte 2",
        ),
    ],
)
def test_nonsense(tmp_path: Path, header: object, what: str) -> None:
    """A header that does not add up is refused with the reason."""
    file = raw_file(tmp_path, header, b"\0" * 4)
    assert message(tmp_path) == f"{file}: not a sound safetensors file, it has {what}; download it again"


def test_deep_header(tmp_path: Path) -> None:
    """A header nested deeper than Python reads is refused like any other that is not JSON."""
    file = tmp_path / "model.safetensors"
    file.write_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000)
    assert message(tmp_path) == (
        f"{file}: not a sound safetensors file, it has a header that is not JSON; download it again"
    )


def test_absurd_length_and_empty(tmp_path: Path) -> None:
    """A text file and an empty file are refused by their first bytes."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"hello, I am no weights")
    assert "not a sound safetensors file, it has a header of" in message(tmp_path)
    file.write_bytes(b"")
    assert message(tmp_path) == (
        f"{file}: not a sound safetensors file, it has a header of 0 bytes in a file of 0; download it again"
    )


def test_missing_shard(tmp_path: Path) -> None:
    """Missing shards are named."""
    write.save(tmp_path, {"a": torch.zeros(1), "b": torch.zeros(1), "c": torch.zeros(1)}, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert message(tmp_path) == (
        f"{tmp_path / 'model.safetensors.index.json'}: 1 of 3 shards missing: "
        f"model-00002-of-00003.safetensors; download them again"
    )


@pytest.mark.parametrize("place", ["../evil.safetensors", "/etc/passwd", "a\\b", "..", "sub/x.safetensors"])
def test_index_that_points_elsewhere(tmp_path: Path, place: str) -> None:
    """An index may only name files of its own folder."""
    index = tmp_path / "model.safetensors.index.json"
    write.write_json(index, {"weight_map": {"a": place}})
    assert message(tmp_path) == (
        f"{index}: points to {place!r}, and is refused; a shard lies in the checkpoint's own folder"
    )


def test_index_without_map(tmp_path: Path) -> None:
    """An index that is something else is refused."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("[]")
    assert message(tmp_path) == (
        f"{index}: not an index; wanted JSON with a weight_map from tensor names to files; download it again"
    )


def test_index_that_lies(tmp_path: Path) -> None:
    """Index and shards must agree, in both directions."""
    write.save(tmp_path, {"a": torch.zeros(1), "b": torch.zeros(1)}, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    write.write_json(index, {"weight_map": {"a": first, "b": second, "c": second}})
    assert message(tmp_path) == (
        f"{index}: 1 tensors are not in the shards it names, first c in {second}; "
        f"index and shards do not belong together"
    )
    write.write_json(index, {"weight_map": {"a": first, "x": second}})
    assert message(tmp_path) == (
        f"{index}: {second} holds b, which the index places in no file; "
        f"index and shards do not belong together"
    )


def test_shards_without_index(tmp_path: Path) -> None:
    """Numbered shards need no index: their names say how many they are, and all are read."""
    write.save(tmp_path, {name: torch.zeros(1) for name in "abc"}, shards=3)
    indexed = stored_in(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert stored_in(tmp_path) == indexed
    assert has_weights(tmp_path)


def test_missing_shard_without_index(tmp_path: Path) -> None:
    """A shard that the others' names tell of, and that is not there, is named."""
    write.save(tmp_path, {name: torch.zeros(1) for name in "abc"}, shards=3)
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert message(tmp_path) == (
        f"{tmp_path}: 1 of 3 shards missing: model-00002-of-00003.safetensors; download them again"
    )


def test_shards_that_do_not_belong_together(tmp_path: Path) -> None:
    """Of different counts, beside a whole model, or with one tensor twice: refused."""
    write.save(tmp_path, {"a": torch.zeros(1), "b": torch.zeros(1)}, shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    write.save(tmp_path / "twice", {"a": torch.zeros(1)})
    twice = tmp_path / "twice" / "model.safetensors"
    (tmp_path / "model.safetensors").write_bytes(twice.read_bytes())
    remove = "remove what does not belong there"
    assert message(tmp_path) == (
        f"{tmp_path}: both model.safetensors and model-00001-of-00002.safetensors, without "
        f"model.safetensors.index.json; {remove}"
    )
    (tmp_path / "model.safetensors").unlink()
    odd = tmp_path / "model-00001-of-00003.safetensors"
    odd.write_bytes(twice.read_bytes())
    assert message(tmp_path) == f"{tmp_path}: shards of different checkpoints, of 2 and of 3; {remove}"
    odd.rename(tmp_path / "model-00002-of-00002.safetensors")
    assert message(tmp_path) == (
        f"{tmp_path}: a is in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors; "
        f"the shards do not belong together"
    )


def test_other_names_without_index(tmp_path: Path) -> None:
    """Files of other names do not say whether they are all there."""
    write.save(tmp_path, {"a": torch.zeros(1)})
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    assert message(tmp_path) == (
        f"{tmp_path}: weights.safetensors but no model.safetensors.index.json and no model.safetensors; "
        f"add the index"
    )


def test_pickled_weights_are_refused_with_the_command(tmp_path: Path) -> None:
    """Only .bin files: the message holds the command that mends it."""
    folder = tmp_path / "llava v1.5"
    write.write_llava15_original(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        load_model(checkpoint=str(folder))
    assert str(error.value) == (
        f"{folder}: only pickled weights (pytorch_model-00001-of-00001.bin), and reading a pickle can "
        f"run code; write safetensors once with\n  tokenloom convert '{folder}' 'llava v1.5-safetensors'"
    )


def test_no_weights(tmp_path: Path) -> None:
    """A folder with nothing in it."""
    assert message(tmp_path) == (
        f"{tmp_path}: no weights there; wanted model.safetensors or model.safetensors.index.json"
    )
