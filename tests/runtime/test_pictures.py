"""Pictures written as PNG: whole or not at all, with their texts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenloom.runtime.pictures import png_bytes, read_picture, write_png
from tokenloom.runtime.values import Picture


def picture(caption: str = "") -> Picture:
    """Red rises to the right, green downwards."""
    y, x = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    return Picture(torch.stack([x * 30, y * 40, x * 0], 2).to(torch.uint8), caption)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Pixel for pixel."""
    write_png(picture(), tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), picture().pixels.numpy())


def test_texts_travel_in_the_file(tmp_path: Path) -> None:
    """The caption as Title, further texts by keyword, beyond latin-1 too."""
    write_png(picture("kept 3"), tmp_path / "a.png", {"graph": '{"µ": "a -> b"}', "note": "α → β"})
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.info == {"Title": "kept 3", "graph": '{"µ": "a -> b"}', "note": "α → β"}


def test_texts_in_latin_1_are_plain_chunks() -> None:
    """tEXt, before the pixels, so that any tool finds them."""
    data = png_bytes(picture("kept 3"))
    assert 0 < data.index(b"tEXtTitle\0kept 3") < data.index(b"IDAT")


def test_the_same_picture_is_the_same_file() -> None:
    """No time, no random number in it."""
    assert png_bytes(picture("x"), {"a": "b"}) == png_bytes(picture("x"), {"a": "b"})


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays as it was, and no temporary one is left."""
    (tmp_path / "a.png").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_png(picture(), tmp_path / "a.png")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"old")]
