"""One copy per fingerprint, dtype and device."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokenloom.nodes.models import load_model
from tokenloom.runtime.errors import CheckpointError
from tokenloom.runtime.models.handle import Model
from tokenloom.runtime.models.pool import ModelPool, loader, pool

from ... import checkpoints as write


@pytest.fixture(autouse=True)
def _empty_pool() -> None:
    pool().release()


def test_same_files_one_copy(tmp_path: Path) -> None:
    """Two handles of the same files give the same object, and so does a copy of the folder."""
    write.write_llava15_original(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = load_model(checkpoint=str(tmp_path / "a"))
    again = load_model(checkpoint=str(tmp_path / "a"))
    copied = load_model(checkpoint=str(tmp_path / "b"))
    assert first.llm.load() is again.llm.load() is copied.llm.load()
    assert first.vision.load() is copied.vision.load()


def test_dtypes_do_not_share(tmp_path: Path) -> None:
    """Another dtype is another copy."""
    write.write_llava15_original(tmp_path)
    full = load_model(checkpoint=str(tmp_path), dtype="float32").llm.load()
    half = load_model(checkpoint=str(tmp_path), dtype="bfloat16").llm.load()
    assert full is not half


def test_planning_loads_nothing(tmp_path: Path) -> None:
    """A handle alone puts nothing into memory."""
    write.write_llava15_original(tmp_path)
    load_model(checkpoint=str(tmp_path))
    assert pool().resident() == []


def test_resident_and_release(tmp_path: Path) -> None:
    """What is resident is listed with its bytes, and forgotten one by one or all at once."""
    write.write_llava15_original(tmp_path)
    loaded = load_model(checkpoint=str(tmp_path))
    vision, llm = loaded.vision.load(), loaded.llm.load()
    rows = pool().resident()
    assert [row.handle.loader for row in rows] == ["llava tower", "llava language"]
    assert rows[1].bytes >= sum(p.nbytes for p in llm.module.parameters())
    pool().release(loaded.llm)
    assert [row.handle for row in pool().resident()] == [loaded.vision]
    assert loaded.vision.load() is vision
    assert loaded.llm.load() is not llm
    pool().release()
    assert pool().resident() == []


def test_threads_load_once() -> None:
    """Many threads asking at once cause one load; a failed load is told to all and tried again."""
    calls: list[int] = []
    gate = threading.Event()

    @loader("test slow")
    def slow(handle: Model[Any]) -> object:
        gate.wait(5)
        calls.append(1)
        if len(calls) == 1:
            raise CheckpointError("first try")
        return object()

    facts: Any = None
    handle = Model(kind=object, loader="test slow", folder="", fingerprint="x", dtype="float32", device="cpu",
                   facts=facts)  # fmt: skip
    shared, seen = ModelPool(), []

    def use() -> None:
        try:
            seen.append(shared.use(handle))
        except CheckpointError as error:
            seen.append(str(error))

    for turn in (1, 2):
        gate.clear()
        seen.clear()
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()
        assert len(seen) == 4
        if turn == 2:
            assert len(set(map(id, seen))) == 1
    assert len(calls) >= 2


def test_replaced_checkpoint(tmp_path: Path) -> None:
    """Replaced weights of the same size are another model; the loaded one does not change under its users."""
    write.write_llava15_original(tmp_path)
    old = load_model(checkpoint=str(tmp_path)).llm
    module = write.module_of(old)
    before = module.model.norm.weight.clone()
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = torch.full((24,), 7.0)
    save_file(tensors, file, metadata={"format": "pt"})
    new = load_model(checkpoint=str(tmp_path)).llm
    assert new.fingerprint != old.fingerprint
    assert module.model.norm.weight.equal(before)
    assert write.module_of(new).model.norm.weight.equal(torch.full((24,), 7.0))


def test_changed_after_planning(tmp_path: Path) -> None:
    """Files that change between planning and loading are noticed."""
    write.write_llava15_original(tmp_path)
    handle = load_model(checkpoint=str(tmp_path)).llm
    write.write_llava15_original(tmp_path, config={"rope_theta": 5000.0})
    with pytest.raises(CheckpointError) as error:
        handle.load()
    assert str(error.value) == f"{tmp_path}: its files changed after the run was planned; run again"


def test_unknown_loader() -> None:
    """A handle of a loader that nobody registered."""
    facts: Any = None
    handle = Model(kind=object, loader="nobody", folder="", fingerprint="x", dtype="float32", device="cpu",
                   facts=facts)  # fmt: skip
    with pytest.raises(LookupError, match="no loader is called 'nobody'"):
        ModelPool().use(replace(handle))
