"""Pictures as notebooks see them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from tokenloom.runtime.values import Picture


def test_a_notebook_shows_a_picture() -> None:
    """As PNG, with its caption, pixel for pixel."""
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 4, 3)
    shown = Image.open(io.BytesIO(Picture(pixels, "four by two")._repr_png_()))
    assert np.array(shown).tolist() == pixels.tolist()
    assert shown.info["Title"] == "four by two"
