"""Picture files to 8-bit RGB: upright, alpha dropped, 16 bit scaled, the first frame of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError

from .errors import MediaError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MOST_PIXELS = 178_956_970  # Pillow's own limit: beyond it a small file may eat all memory


def read_picture(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3], as Pillow's `convert("RGB")` gives it, but 16-bit greys are scaled, not clipped.

    Errors: MediaError when the file is no picture, cut off, too large, or in a colour space without a way to
    RGB.
    """
    with _open(path) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
            return np.array(_rgb(path, upright), np.uint8)
        except (OSError, SyntaxError, EOFError, ValueError) as error:
            if isinstance(error, MediaError):
                raise
            why = "it ends too early" if "truncated" in str(error) else str(error)
            raise MediaError(f"{path}: the picture is damaged ({why}); fetch or save it again") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) after EXIF rotation, read from the header alone."""
    with _open(path) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (picture.height, picture.width) if turned else picture.size


def _open(path: Path) -> Any:
    try:
        picture = Pil.open(path)
    except (Pil.DecompressionBombError, Pil.DecompressionBombWarning) as error:
        raise MediaError(
            f"{path}: the picture is too large ({error}); scale it down below {MOST_PIXELS} pixels"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(12)
        raise MediaError(
            f"{path}: not a picture that Pillow can read (it starts with {head!r}); "
            "wanted JPEG, PNG, WebP, BMP, GIF or TIFF; check the file"
        ) from error
    return picture


def _rgb(path: Path, picture: Pil.Image) -> Pil.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            came = f"values {grey.min()}..{grey.max()}"
            raise MediaError(f"{path}: {came}, wanted 8 or 16 bits per channel; save it as 8 bit")
        return Pil.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise MediaError(f"{path}: floating-point pixels, wanted 8 or 16 bits per channel; save it as 8 bit")
    return picture.convert("RGB")
