"""Fingerprints: of contents, not of places."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tokenloom.nodes.models import load_model
from tokenloom.runtime.models.identity import WHOLE, fingerprint, weights_fingerprint

from ... import checkpoints as write


def test_content_not_place(tmp_path: Path) -> None:
    """Two copies of a small file agree; another byte or recipe does not."""
    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text(text)
    a, b, c = (fingerprint([tmp_path / f / "x"], "recipe") for f in "abc")
    assert a == b
    assert a != c
    assert a != fingerprint([tmp_path / "a" / "x"], "other recipe")


def test_same_size_and_time(tmp_path: Path) -> None:
    """A small file replaced by another of the same size and modification time is noticed."""
    file = tmp_path / "x"
    file.write_text("one")
    before, times = weights_fingerprint(file), file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights_fingerprint(file) != before


def test_old_files_are_remembered_but_not_trusted_blindly(tmp_path: Path) -> None:
    """Also a file whose fingerprint is remembered misses after a change that keeps size and time."""
    file = tmp_path / "x"
    file.write_text("one")
    os.utime(file, ns=(10**18, 10**18))
    before = weights_fingerprint(file)
    file.write_text("two")
    os.utime(file, ns=(10**18, 10**18))
    assert weights_fingerprint(file) != before


def test_large_files(tmp_path: Path) -> None:
    """Large files are known by header, samples, size and time: a copy that keeps the time agrees."""
    file = tmp_path / "x"
    file.write_bytes((8).to_bytes(8, "little") + b"{      }" + bytes(WHOLE))
    shutil.copy2(file, tmp_path / "y")
    before = weights_fingerprint(file)
    assert weights_fingerprint(tmp_path / "y") == before
    os.utime(file, ns=(10**18, 10**18))
    assert weights_fingerprint(file) != before


def test_sampled_blocks(tmp_path: Path) -> None:
    """A change in the sampled end of a large file is noticed even when size and time stay."""
    file = tmp_path / "x"
    file.write_bytes((8).to_bytes(8, "little") + b"{      }" + bytes(WHOLE))
    os.utime(file, ns=(10**18, 10**18))
    before = weights_fingerprint(file)
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    os.utime(file, ns=(10**18, 10**18))
    assert weights_fingerprint(file) != before


def test_parts_have_their_own(tmp_path: Path) -> None:
    """A changed tower changes the tower's fingerprint and leaves the language model's alone."""
    write.write_llava15_original(tmp_path)
    before = load_model(checkpoint=str(tmp_path))
    write.write_tower(tmp_path / "vision_tower", seed=9)
    after = load_model(checkpoint=str(tmp_path))
    assert before.vision.fingerprint != after.vision.fingerprint
    assert before.llm.fingerprint == after.llm.fingerprint
    assert len({handle.fingerprint for handle in after}) == 4


def test_configuration_counts(tmp_path: Path) -> None:
    """rope_theta decides results, so it is part of the fingerprint."""
    write.write_llava15_original(tmp_path)
    before = load_model(checkpoint=str(tmp_path)).llm.fingerprint
    write.write_llava15_original(tmp_path, config={"rope_theta": 5000.0})
    assert load_model(checkpoint=str(tmp_path)).llm.fingerprint != before


def test_tokenizer_counts(tmp_path: Path) -> None:
    """A replaced tokenizer is another chat format."""
    write.write_llava15_original(tmp_path)
    write.write_word_tokenizer(tmp_path, ["a", "cat"])
    before = load_model(checkpoint=str(tmp_path)).chat.fingerprint
    write.write_word_tokenizer(tmp_path, ["a", "dog"])
    assert load_model(checkpoint=str(tmp_path)).chat.fingerprint != before
